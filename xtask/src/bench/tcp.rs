//! `cargo xtask bench tcp`: what bytes and new connections cost that nobody looks into.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::budget::{self, Budget};
use super::contestant::{Contestant, Kind, PLAIN, Tcp};
use super::figures::{Samples, table};
use super::publish;

/// Arguments of `cargo xtask bench tcp`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Interleaved rounds; the median is reported
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

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
        name: ENVOY_HTTP,
        kind: Kind::Envoy(PLAIN),
    },
];

/// What `shunt-bench stream` prints.
#[derive(Deserialize)]
struct Stream {
    cpu_s_per_gb: f64,
    gb_per_second: f64,
    utilisation: f64,
}

/// What `shunt-bench churn` prints.
#[derive(Deserialize)]
struct Churn {
    connections_per_cpu_second: f64,
    connections_per_second: f64,
}

/// All measurements of one row; those of streams are empty where a row has none.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    cpu_s_per_gb: Samples,
    gb_per_second: Samples,
    utilisation: Samples,
    connections_per_cpu_second: Samples,
    connections_per_second: Samples,
}

/// Measures everything and publishes a table for streams and one for connections.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = ROWS
        .iter()
        .enumerate()
        .map(|(index, row)| Contestant::start(&format!("tcp-{index}"), row.kind))
        .collect::<Result<Vec<_>>>()?;
    let mut measured: Vec<_> = ROWS
        .iter()
        .map(|row| Measured {
            name: row.name,
            cpu_s_per_gb: Samples::default(),
            gb_per_second: Samples::default(),
            utilisation: Samples::default(),
            connections_per_cpu_second: Samples::default(),
            connections_per_second: Samples::default(),
        })
        .collect();
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        for ((row, contestant), measured) in ROWS.iter().zip(&contestants).zip(&mut measured) {
            measure(row, contestant, measured)
                .with_context(|| format!("measuring {}", row.name))?;
        }
    }
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
    let process = contestant.proxy.id().to_string();
    if matches!(row.kind, Kind::Tcp(_)) {
        let mut command = contestant.streams();
        command.args(["--of", &process]);
        let stream: Stream = serde_json::from_str(&contestant.measure(command)?)
            .context("reading what the streams found")?;
        measured.cpu_s_per_gb.push(stream.cpu_s_per_gb);
        measured.gb_per_second.push(stream.gb_per_second);
        measured.utilisation.push(stream.utilisation);
    }
    let mut command = contestant.client("churn");
    command.args(["--of", &process]);
    let churn: Churn = serde_json::from_str(&contestant.measure(command)?)
        .context("reading what the connections found")?;
    measured
        .connections_per_cpu_second
        .push(churn.connections_per_cpu_second);
    measured
        .connections_per_second
        .push(churn.connections_per_second);
    Ok(())
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
            &shunt.cpu_s_per_gb,
            &envoy.cpu_s_per_gb,
        ),
        budget(
            "Envoy's throughput, x ours (ours is 1.2 times as much)",
            1.0 / 1.2,
            &envoy.gb_per_second,
            &shunt.gb_per_second,
        ),
        budget(
            "Envoy's new TCP connections per CPU second, x ours (ours are 1.5 times as many)",
            1.0 / 1.5,
            &envoy.connections_per_cpu_second,
            &shunt.connections_per_cpu_second,
        ),
        budget(
            "Envoy's new HTTP connections per CPU second, x ours (ours are 1.5 times as many)",
            1.0 / 1.5,
            &envoy_http.connections_per_cpu_second,
            &shunt_http.connections_per_cpu_second,
        ),
    ])
}

fn streams_table(measured: &[Measured]) -> Result<String> {
    let envoy = named(measured, ENVOY)?;
    let head = ["", "CPU s/GB", "x Envoy", "GB/s", "x Envoy", "core used"];
    let rows: Vec<_> = measured
        .iter()
        .filter(|row| !row.cpu_s_per_gb.median().is_nan())
        .map(|row| {
            let (cpu, speed) = (&row.cpu_s_per_gb, &row.gb_per_second);
            vec![
                row.name.to_owned(),
                cpu.shown(1.0, 3),
                cpu.ratio_to(&envoy.cpu_s_per_gb).shown(1.0, 2),
                speed.shown(1.0, 2),
                speed.ratio_to(&envoy.gb_per_second).shown(1.0, 2),
                format!("{:.0} %", row.utilisation.median() * 1e2),
            ]
        })
        .collect();
    Ok(table(&head, &rows))
}

fn connections_table(measured: &[Measured]) -> Result<String> {
    let head = ["", "connections per CPU s", "x Envoy", "connections/s"];
    let rows = measured
        .iter()
        .map(|row| {
            let of_its_kind = if row.name.ends_with("HTTP") {
                ENVOY_HTTP
            } else {
                ENVOY
            };
            let envoy = named(measured, of_its_kind)?;
            let cost = &row.connections_per_cpu_second;
            Ok(vec![
                row.name.to_owned(),
                cost.shown(1.0, 0),
                cost.ratio_to(&envoy.connections_per_cpu_second)
                    .shown(1.0, 2),
                format!("{:.0}", row.connections_per_second.median()),
            ])
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(table(&head, &rows))
}
