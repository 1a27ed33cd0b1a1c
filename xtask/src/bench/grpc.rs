//! `cargo xtask bench grpc`: what a unary call costs, with HTTP/2 on both sides.

use anyhow::{Context as _, Result};

use super::budget::{self, Budget};
use super::contestant::{Contestant, Kind, Peer};
use super::publish;
use super::requests::{self, Requests};
use super::rounds::Rounds;

/// Measures and publishes the table.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let mut contestants = Vec::with_capacity(Peer::ALL.len());
    for (index, (name, peer)) in Peer::ALL.into_iter().enumerate() {
        let contestant = Contestant::start(&format!("grpc-{index}"), Kind::Grpc(peer))?;
        contestants.push((name, contestant, Requests::default()));
    }
    rounds.each("calls", || {
        for (name, contestant, requests) in &mut contestants {
            requests
                .measure(contestant, contestant.client("grpc"))
                .with_context(|| format!("measuring {name}"))?;
        }
        Ok(())
    })?;
    let measured: Vec<_> = contestants
        .iter()
        .map(|(name, _, requests)| (*name, requests))
        .collect();
    let [(_, shunt), .., (_, envoy)] = measured[..] else {
        anyhow::bail!("a row is missing");
    };
    let budgets = [Budget {
        what: "CPU per call, x Envoy",
        at_most: 0.55,
        measured: shunt.cost_to(envoy).median(),
    }];
    let text = format!(
        "{}\n{}",
        requests::table(measured.iter().copied(), envoy),
        budget::shown(&budgets)
    );
    publish("grpc", &text, &measured)?;
    budget::check(&budgets)
}
