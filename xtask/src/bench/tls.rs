//! `cargo xtask bench tls`: what mutual TLS costs, both ends together: requests on kept
//! connections, bytes in bulk, new connections with a handshake each.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::budget::{self, Budget};
use super::contestant::{Contestant, Kind, Peer};
use super::publish;
use super::requests::{self, Requests};
use super::rounds::Rounds;
use super::streams::{self, Connections, Streams};

/// All measurements of one row.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    requests: Requests,
    streams: Streams,
    connections: Connections,
}

/// Measures and publishes the tables.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let mut contestants = Vec::with_capacity(Peer::ALL.len());
    for (index, (name, peer)) in Peer::ALL.into_iter().enumerate() {
        let contestant = Contestant::start(&format!("tls-{index}"), Kind::Tls(peer))?;
        let measured = Measured {
            name,
            requests: Requests::default(),
            streams: Streams::default(),
            connections: Connections::default(),
        };
        contestants.push((contestant, measured));
    }
    rounds.each("mutual TLS", || {
        for (contestant, measured) in &mut contestants {
            measured
                .measure(contestant)
                .with_context(|| format!("measuring {}", measured.name))?;
        }
        Ok(())
    })?;
    let measured: Vec<_> = contestants.iter().map(|(_, measured)| measured).collect();
    let [shunt, .., envoy] = measured[..] else {
        anyhow::bail!("a row is missing");
    };
    // The design has no line for TLS: what holds without must hold with it.
    let budgets = [
        Budget {
            what: "CPU per request, both ends, x Envoy",
            at_most: 0.5,
            measured: shunt.requests.cost_to(&envoy.requests).median(),
        },
        Budget {
            what: "CPU per GB, both ends, x Envoy",
            at_most: 1.0,
            measured: shunt
                .streams
                .cpu_s_per_gb
                .ratio_to(&envoy.streams.cpu_s_per_gb)
                .median(),
        },
    ];
    let rows = || measured.iter().copied();
    let text = format!(
        "{}\n{}\n{}\n{}",
        requests::table(rows().map(|row| (row.name, &row.requests)), &envoy.requests),
        streams::streams_table(rows().map(|row| (row.name, &row.streams)), &envoy.streams),
        streams::connections_table(rows().map(|row| (
            row.name,
            &row.connections,
            &envoy.connections
        ))),
        budget::shown(&budgets)
    );
    publish("tls", &text, &measured)?;
    budget::check(&budgets)
}

impl Measured {
    fn measure(&mut self, contestant: &Contestant) -> Result<()> {
        self.requests
            .measure(contestant, contestant.client("load"))?;
        self.streams.measure(contestant)?;
        self.connections
            .measure(contestant, contestant.handshakes())
    }
}
