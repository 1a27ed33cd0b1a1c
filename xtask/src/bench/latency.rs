//! `cargo xtask bench latency`: what a proxy adds to the time until an answer, at a rate that it
//! can serve easily. Nothing is claimed of a proxy near its limits.

use anyhow::{Context as _, Result};

use super::budget::{self, Budget};
use super::contestant::{Contestant, Kind, PLAIN};
use super::figures::{Samples, table};
use super::publish;
use super::requests::Requests;
use super::rounds::Rounds;

/// Without any proxy first: what is added is counted from there.
const ROWS: [(&str, Kind); 5] = [
    ("no proxy", Kind::Direct),
    ("shunt-agent", Kind::Shunt(PLAIN)),
    ("HAProxy", Kind::HaProxy),
    ("nginx", Kind::Nginx),
    ("Envoy", Kind::Envoy(PLAIN)),
];

/// How often each is measured in a round, and for how many milliseconds. What disturbs a machine for
/// some milliseconds spoils the 99th percentile of the window it falls into: many short windows leave
/// the median to those that nothing disturbed.
const TURNS: usize = 4;
const WINDOW: &str = "1000";

/// Measures and publishes the table.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let mut contestants = Vec::with_capacity(ROWS.len());
    for (index, (name, kind)) in ROWS.into_iter().enumerate() {
        let contestant = Contestant::start(&format!("latency-{index}"), kind)?;
        contestants.push((name, contestant, Requests::default()));
    }
    rounds.each("requests at a fixed rate", || {
        for _ in 0..TURNS {
            for (name, contestant, requests) in &mut contestants {
                let mut load = contestant.client("paced");
                load.args(["--measure", WINDOW]);
                requests
                    .measure(contestant, load)
                    .with_context(|| format!("measuring {name}"))?;
            }
        }
        Ok(())
    })?;
    let measured: Vec<_> = contestants
        .iter()
        .map(|(name, _, requests)| (*name, requests))
        .collect();
    let [(_, direct), (_, shunt), .., (_, envoy)] = measured[..] else {
        anyhow::bail!("a row is missing");
    };
    let added = |requests: &Requests| requests.p99_us.less(&direct.p99_us);
    let budgets = [Budget {
        what: "added p99, x Envoy",
        at_most: 0.5,
        measured: added(shunt).ratio_to(&added(envoy)).median(),
    }];
    let head = [
        "",
        "p50 us",
        "p99 us",
        "added p99 us",
        "x Envoy",
        "p99.9 us",
        "core used",
    ];
    let rows: Vec<_> = measured
        .iter()
        .map(|(name, requests)| {
            let ours = added(requests);
            let of = |samples: Samples, decimals| match *name {
                "no proxy" => String::new(),
                _ => samples.shown(1.0, decimals),
            };
            vec![
                (*name).to_owned(),
                requests.p50_us.shown(1.0, 0),
                requests.p99_us.shown(1.0, 0),
                of(ours.clone(), 0),
                of(ours.ratio_to(&added(envoy)), 2),
                requests.p999_us.shown(1.0, 0),
                format!("{:.0} %", requests.utilisation.median() * 1e2),
            ]
        })
        .collect();
    let text = format!("{}\n{}", table(&head, &rows), budget::shown(&budgets));
    publish("latency", &text, &measured)?;
    budget::check(&budgets)
}
