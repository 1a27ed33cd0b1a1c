//! For random policies and random flows, the kernel under nf_tables, under iptables-legacy, under
//! iptables-nft, and the evaluator decide alike.

use shunt_tests::lab::equivalence::{Engine, Settings, run};
use shunt_tests::prelude::*;

#[test]
fn every_backend_and_the_evaluator_decide_alike() -> Result<()> {
    let settings = Settings {
        policies: std::env::var("P").map_or(200, |p| p.parse().unwrap()),
        flows: 200,
        seed: std::env::var("S").map_or(1, |p| p.parse().unwrap()),
        workers: 2,
        engines: Engine::ALL.to_vec(),
    };
    let totals = run(&settings, |totals| eprintln!("{totals}"))?;
    eprintln!("{totals}");
    Ok(())
}
