//! `cargo xtask bench http`: what a request costs, step by step and beside the peers.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::budget::{self, Budget};
use super::connections;
use super::contestant::{Contestant, Kind, PLAIN, Setting};
use super::figures::{Samples, table};
use super::publish;
use super::requests::{self, Requests};
use super::rounds::Rounds;

/// Arguments of `cargo xtask bench http`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Also the rows between a bare forward and the sidecar: what each layer adds
    #[arg(long)]
    ladder: bool,
    #[command(flatten)]
    rounds: Rounds,
}

/// Idle connections that memory is measured with.
const IDLE: u32 = 1000;

/// One line of the table.
struct Row {
    name: &'static str,
    kind: Kind,
    /// Only with `--ladder`.
    is_step: bool,
}

const SHUNT: &str = "shunt-agent (+ drain, idle timeouts, record)";
const HAPROXY: &str = "HAProxy";
const ENVOY: &str = "Envoy";

const fn step(name: &'static str, row: &'static str) -> Row {
    Row {
        name,
        kind: Kind::Row(row),
        is_step: true,
    }
}

/// The ladder first: each row does what the one above does, and one thing more.
const ROWS: &[Row] = &[
    step("bare hyper forward", "hyper"),
    step("+ inspector, filter chain", "chain"),
    step("+ headers, route", "route"),
    step("+ balancing, breakers, pools", "balance"),
    step("+ statistics", "statistics"),
    Row {
        name: SHUNT,
        kind: Kind::Shunt(PLAIN),
        is_step: false,
    },
    Row {
        name: "+ route timeout",
        kind: Kind::Shunt(Setting {
            timeout: true,
            ..PLAIN
        }),
        is_step: true,
    },
    Row {
        name: "+ access log",
        kind: Kind::Shunt(Setting {
            timeout: true,
            access_log: true,
            ..PLAIN
        }),
        is_step: true,
    },
    Row {
        name: "shunt-agent, access log",
        kind: Kind::Shunt(Setting {
            access_log: true,
            ..PLAIN
        }),
        is_step: false,
    },
    Row {
        name: "shunt-agent, captured",
        kind: Kind::Shunt(Setting {
            captured: true,
            ..PLAIN
        }),
        is_step: false,
    },
    Row {
        name: HAPROXY,
        kind: Kind::HaProxy,
        is_step: false,
    },
    Row {
        name: "nginx",
        kind: Kind::Nginx,
        is_step: false,
    },
    Row {
        name: ENVOY,
        kind: Kind::Envoy(PLAIN),
        is_step: false,
    },
    Row {
        name: "Envoy, route timeout",
        kind: Kind::Envoy(Setting {
            timeout: true,
            ..PLAIN
        }),
        is_step: true,
    },
    Row {
        name: "Envoy, access log",
        kind: Kind::Envoy(Setting {
            access_log: true,
            ..PLAIN
        }),
        is_step: false,
    },
    Row {
        name: "Envoy, captured",
        kind: Kind::Envoy(Setting {
            captured: true,
            ..PLAIN
        }),
        is_step: false,
    },
];

/// All measurements of one row.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    requests: Requests,
    ready_ms: Samples,
    rss_idle_bytes: Samples,
    rss_per_idle_connection_bytes: Samples,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            requests: Requests::default(),
            ready_ms: Samples::default(),
            rss_idle_bytes: Samples::default(),
            rss_per_idle_connection_bytes: Samples::default(),
        }
    }
}

/// Measures everything and publishes two tables.
///
/// # Errors
/// When a contestant does not start or gives a wrong answer.
pub(super) fn run(args: &Args) -> Result<()> {
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| args.ladder || !row.is_step)
        .collect();
    let mut measured: Vec<_> = rows.iter().map(|row| Measured::new(row.name)).collect();
    memory_and_start(&rows, &mut measured, &args.rounds)?;
    cost_of_a_request(&rows, &mut measured, &args.rounds)?;
    let budgets = budgets(&measured)?;
    let text = format!(
        "{}\n{}\n{}",
        requests_table(&measured)?,
        memory_table(&measured),
        budget::shown(&budgets)
    );
    publish("http", &text, &measured)?;
    budget::check(&budgets)
}

/// Fresh processes: time to ready, memory idle, memory with idle connections.
fn memory_and_start(rows: &[&Row], measured: &mut [Measured], rounds: &Rounds) -> Result<()> {
    rounds.each("start and memory", || {
        for (row, measured) in rows.iter().zip(&mut *measured) {
            let contestant = Contestant::start(&file_name(row), row.kind)?;
            measured
                .ready_ms
                .push(contestant.ready_after.as_secs_f64() * 1e3);
            let idle = contestant.proxy.resident()?;
            measured.rss_idle_bytes.push(idle);
            let held = connections::hold(&contestant, IDLE)
                .with_context(|| format!("holding connections to {}", row.name))?;
            measured
                .rss_per_idle_connection_bytes
                .push((held - idle) / f64::from(IDLE));
        }
        Ok(())
    })
}

/// All contestants stand; in each round each gets the same load, one after the other.
fn cost_of_a_request(rows: &[&Row], measured: &mut [Measured], rounds: &Rounds) -> Result<()> {
    let contestants = rows
        .iter()
        .map(|row| Contestant::start(&file_name(row), row.kind))
        .collect::<Result<Vec<_>>>()?;
    rounds.each("requests", || {
        for ((row, contestant), measured) in rows.iter().zip(&contestants).zip(&mut *measured) {
            measured
                .requests
                .measure(contestant, contestant.client("load"))
                .with_context(|| format!("measuring {}", row.name))?;
        }
        Ok(())
    })
}

fn named<'a>(measured: &'a [Measured], name: &str) -> Result<&'a Measured> {
    let found = measured.iter().find(|row| row.name == name);
    found.with_context(|| format!("{name} is not among the rows"))
}

fn budgets(measured: &[Measured]) -> Result<Vec<Budget>> {
    let shunt = named(measured, SHUNT)?;
    let times = |peer| -> Result<f64> {
        let peer = named(measured, peer)?;
        Ok(shunt.requests.cost_to(&peer.requests).median())
    };
    let budget = |what, at_most, measured| Budget {
        what,
        at_most,
        measured,
    };
    Ok(vec![
        budget("CPU per request, x Envoy", 0.5, times(ENVOY)?),
        budget("CPU per request, x HAProxy", 1.1, times(HAPROXY)?),
        budget("RSS idle, MB", 10.0, shunt.rss_idle_bytes.median() / 1e6),
        budget(
            "RSS per idle connection, kB",
            16.0,
            shunt.rss_per_idle_connection_bytes.median() / 1e3,
        ),
        budget("ready, ms", 50.0, shunt.ready_ms.median()),
    ])
}

fn requests_table(measured: &[Measured]) -> Result<String> {
    let envoy = named(measured, ENVOY)?;
    let rows = measured.iter().map(|row| (row.name, &row.requests));
    Ok(requests::table(rows, &envoy.requests))
}

fn memory_table(measured: &[Measured]) -> String {
    let head = ["", "ready ms", "RSS idle MB", "RSS kB per idle connection"];
    let rows: Vec<_> = measured
        .iter()
        .map(|row| {
            vec![
                row.name.to_owned(),
                row.ready_ms.shown(1.0, 1),
                row.rss_idle_bytes.shown(1e6, 1),
                row.rss_per_idle_connection_bytes.shown(1e3, 1),
            ]
        })
        .collect();
    table(&head, &rows)
}

/// A row's place and name as a file name.
fn file_name(row: &Row) -> String {
    let kept = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let name: String = row.name.to_lowercase().chars().map(kept).collect();
    format!("http-{}", name.trim_matches('-'))
}
