//! `cargo xtask bench tcp`: what bytes and new connections cost that nobody looks into.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::budget::{self, Budget};
use super::contestant::{Contestant, Kind, PLAIN, Tcp};
use super::figures::Samples;
use super::publish;
use super::rounds::Rounds;
use super::streams::{self, Connections, Streams};

/// One line of the table.
struct Row {
    name: &'static str,
    kind: Kind,
}

const SHUNT: &str = "shunt-agent";
const ENVOY: &str = "Envoy";
const SHUNT_HTTP: &str = "shunt-agent, HTTP";
const ENVOY_HTTP: &str = "Envoy, HTTP";

const ROWS: &[Row] = &[
    Row {
        name: SHUNT,
        kind: Kind::Tcp(Tcp::Shunt),
    },
    Row {
        name: "HAProxy",
        kind: Kind::Tcp(Tcp::HaProxy { splices: false }),
    },
    Row {
        name: "HAProxy, splice-auto",
        kind: Kind::Tcp(Tcp::HaProxy { splices: true }),
    },
    Row {
        name: "nginx",
        kind: Kind::Tcp(Tcp::Nginx),
    },
    Row {
        name: ENVOY,
        kind: Kind::Tcp(Tcp::Envoy),
    },
    Row {
        name: SHUNT_HTTP,
        kind: Kind::Shunt(PLAIN),
    },
    Row {
        name: "HAProxy, HTTP",
        kind: Kind::HaProxy,
    },
    Row {
        name: "nginx, HTTP",
        kind: Kind::Nginx,
    },
    Row {
        name: ENVOY_HTTP,
        kind: Kind::Envoy(PLAIN),
    },
];

/// All measurements of one row; those of streams are empty where a row has none.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    streams: Streams,
    connections: Connections,
}

/// Measures everything and publishes a table for streams and one for connections.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let contestants = ROWS
        .iter()
        .enumerate()
        .map(|(index, row)| Contestant::start(&format!("tcp-{index}"), row.kind))
        .collect::<Result<Vec<_>>>()?;
    let mut measured: Vec<_> = ROWS
        .iter()
        .map(|row| Measured {
            name: row.name,
            streams: Streams::default(),
            connections: Connections::default(),
        })
        .collect();
    rounds.each("bytes and connections", || {
        for ((row, contestant), measured) in ROWS.iter().zip(&contestants).zip(&mut measured) {
            measure(row, contestant, measured)
                .with_context(|| format!("measuring {}", row.name))?;
        }
        Ok(())
    })?;
    let budgets = budgets(&measured)?;
    let text = format!(
        "{}\n{}\n{}",
        streams_table(&measured)?,
        connections_table(&measured)?,
        budget::shown(&budgets)
    );
    publish("tcp", &text, &measured)?;
    budget::check(&budgets)
}

fn measure(row: &Row, contestant: &Contestant, measured: &mut Measured) -> Result<()> {
    if matches!(row.kind, Kind::Tcp(_)) {
        measured.streams.measure(contestant)?;
    }
    measured
        .connections
        .measure(contestant, contestant.client("churn"))
}

fn named<'a>(measured: &'a [Measured], name: &str) -> Result<&'a Measured> {
    let found = measured.iter().find(|row| row.name == name);
    found.with_context(|| format!("{name} is not among the rows"))
}

/// Where more is better, the budget is the peer's share of ours.
fn budgets(measured: &[Measured]) -> Result<Vec<Budget>> {
    let (shunt, envoy) = (named(measured, SHUNT)?, named(measured, ENVOY)?);
    let (shunt_http, envoy_http) = (named(measured, SHUNT_HTTP)?, named(measured, ENVOY_HTTP)?);
    let budget = |what, at_most: f64, ours: &Samples, theirs: &Samples| Budget {
        what,
        at_most,
        measured: ours.ratio_to(theirs).median(),
    };
    Ok(vec![
        budget(
            "CPU per GB, x Envoy",
            0.8,
            &shunt.streams.cpu_s_per_gb,
            &envoy.streams.cpu_s_per_gb,
        ),
        budget(
            "Envoy's throughput, x ours (ours is 1.2 times as much)",
            1.0 / 1.2,
            &envoy.streams.gb_per_second,
            &shunt.streams.gb_per_second,
        ),
        budget(
            "Envoy's new TCP connections per CPU second, x ours (ours are 1.5 times as many)",
            1.0 / 1.5,
            &envoy.connections.per_cpu_second,
            &shunt.connections.per_cpu_second,
        ),
        budget(
            "Envoy's new HTTP connections per CPU second, x ours (ours are 1.5 times as many)",
            1.0 / 1.5,
            &envoy_http.connections.per_cpu_second,
            &shunt_http.connections.per_cpu_second,
        ),
    ])
}

fn streams_table(measured: &[Measured]) -> Result<String> {
    let envoy = named(measured, ENVOY)?;
    let rows = measured
        .iter()
        .filter(|row| row.streams.are_measured())
        .map(|row| (row.name, &row.streams));
    Ok(streams::streams_table(rows, &envoy.streams))
}

fn connections_table(measured: &[Measured]) -> Result<String> {
    let rows = measured
        .iter()
        .map(|row| {
            let of_its_kind = if row.name.ends_with("HTTP") {
                ENVOY_HTTP
            } else {
                ENVOY
            };
            let envoy = named(measured, of_its_kind)?;
            Ok((row.name, &row.connections, &envoy.connections))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(streams::connections_table(rows.into_iter()))
}
