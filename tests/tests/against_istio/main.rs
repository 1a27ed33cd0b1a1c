//! Istio's own `istio-iptables` in one pod by iptables and in another by nftables, `shunt-init
//! istio-iptables` with the same arguments in a third, the same flows through all: each must end
//! alike.

mod comparison;
mod differences;
mod flags;
mod programs;

use fastrand::Rng;
use shunt_tests::lab::Bench;
use shunt_tests::prelude::*;

use crate::comparison::Comparison;
use crate::differences::DIFFERENCES;
use crate::flags::FlagSet;

/// Random sets of flags.
const SETS: u64 = 200;

/// Where the random sets begin; another one tries others.
const SEED: u64 = 20_261_125;

#[test]
fn the_document_names_exactly_the_differences_that_are_known_here() -> Result<()> {
    let document = include_str!("../../../docs/istio-differences.md");
    let (_, flows) = document.split_once("| id |").context("no table of flows")?;
    let (flows, _) = flows.split_once("\n## ").context("no end of that table")?;
    let mut named: Vec<&str> = flows
        .lines()
        .skip(2)
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|id| !id.is_empty() && !id.starts_with('|'))
        .collect();
    let mut known: Vec<&str> = DIFFERENCES.iter().map(|line| line.id).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
    Ok(())
}

#[test]
fn each_flag_alone_does_what_istios_own_program_does() -> Result<()> {
    Bench::run(|bench| {
        let mut comparison = Comparison::new(bench)?;
        for (seed, flags) in (SEED..).zip(FlagSet::singles()) {
            comparison.compare(flags, seed)?;
        }
        comparison.finish().map(drop)
    })
}

#[test]
fn random_sets_of_flags_do_what_istios_own_program_does() -> Result<()> {
    Bench::run(|bench| {
        let mut comparison = Comparison::new(bench)?;
        for seed in SEED..SEED + SETS {
            let flags = FlagSet::random(&mut Rng::with_seed(seed));
            comparison.compare(flags, seed)?;
        }
        let known = comparison.finish()?;
        let lines = DIFFERENCES.iter().map(|line| line.id);
        let unseen: Vec<_> = lines.filter(|id| !known.contains_key(id)).collect();
        ensure!(
            unseen.is_empty(),
            "docs/istio-differences.md says so, but no flow notices: {unseen:?}"
        );
        Ok(())
    })
}
