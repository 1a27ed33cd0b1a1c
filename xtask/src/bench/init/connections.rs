//! What the rules cost every new connection: with excludes that are looked at, none of which match.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::rules::Policy;
use super::way::{CORE, Run, pod, used_by};
use crate::bench::figures::{Samples, table};
use crate::bench::program;
use crate::workspace::capture;

/// How many addresses are excluded.
const EXCLUDES: [u32; 2] = [10, 1000];

/// A captured destination, in none of the excluded blocks.
const DESTINATION: &str = "192.0.2.1:80";

/// All measurements with one kind of rules.
#[derive(Serialize)]
pub(super) struct Cost {
    name: String,
    excludes: u32,
    us: Samples,
}

/// What `shunt-bench connect` prints.
#[derive(Deserialize)]
struct Connected {
    us_per_connection: f64,
}

/// One kind of rules to connect through.
struct Kind {
    name: String,
    excludes: u32,
    rules: Vec<Run>,
}

/// Measures every kind, round by round.
///
/// # Errors
/// When rules cannot be written, or a connection fails.
pub(super) fn measure(rounds: u32) -> Result<Vec<Cost>> {
    let kinds = kinds()?;
    let mut costs: Vec<_> = kinds
        .iter()
        .map(|kind| Cost {
            name: kind.name.clone(),
            excludes: kind.excludes,
            us: Samples::default(),
        })
        .collect();
    for round in 1..=rounds {
        println!("connections, round {round} of {rounds}");
        for (kind, cost) in kinds.iter().zip(&mut costs) {
            let connected = connect(kind)
                .with_context(|| format!("connecting with the rules of {}", kind.name))?;
            cost.us.push(connected.us_per_connection);
        }
    }
    Ok(costs)
}

fn kinds() -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for excludes in EXCLUDES {
        let policy = Policy::with_excludes(excludes);
        for (name, rules) in [
            (SHUNT, vec![policy.shunt()]),
            (LEGACY, policy.restore("legacy")?),
            ("iptables-nft", policy.restore("nft")?),
        ] {
            kinds.push(Kind {
                name: format!("{name}, {excludes} excludes"),
                excludes,
                rules,
            });
        }
    }
    Ok(kinds)
}

const SHUNT: &str = "shunt-init";
const LEGACY: &str = "iptables-legacy";

fn connect(kind: &Kind) -> Result<Connected> {
    pod()?.run_on(CORE, || {
        for run in &kind.rules {
            used_by(run)?;
        }
        let text = capture(Command::new(program("shunt-bench")).args([
            "connect",
            "--listen",
            "127.0.0.1:15001",
            "--to",
            DESTINATION,
        ]))?;
        serde_json::from_str(&text).context("reading what the connections cost")
    })
}

/// For each number of excludes, our cost over the legacy chain's.
pub(super) fn ratios(costs: &[Cost]) -> Vec<(u32, Samples)> {
    EXCLUDES
        .into_iter()
        .filter_map(|excludes| {
            let of = |name: &str| {
                let found = costs
                    .iter()
                    .find(|cost| cost.excludes == excludes && cost.name.starts_with(name));
                found.map(|cost| &cost.us)
            };
            Some((excludes, of(SHUNT)?.ratio_to(of(LEGACY)?)))
        })
        .collect()
}

pub(super) fn shown(costs: &[Cost]) -> String {
    let rows: Vec<_> = costs
        .iter()
        .map(|cost| vec![cost.name.clone(), cost.us.shown(1.0, 2)])
        .collect();
    table(&["", "us/connection"], &rows)
}
