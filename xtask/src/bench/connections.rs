//! `cargo xtask bench connections`: what idle connections keep, and how it grows with their number.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use super::chart::{Chart, Curve};
use super::contestant::{Contestant, Kind, PLAIN};
use super::figures::{Samples, table};
use super::rounds::Rounds;
use super::{draw, publish};

const ROWS: [(&str, Kind); 4] = [
    ("shunt-agent", Kind::Shunt(PLAIN)),
    ("HAProxy", Kind::HaProxy),
    ("nginx", Kind::Nginx),
    ("Envoy", Kind::Envoy(PLAIN)),
];

/// What is measured before the greatest number.
const STEPS: [u32; 4] = [1, 10, 100, 1000];

/// All measurements of one row: of each number of connections, the memory in bytes.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    resident: Vec<(u32, Samples)>,
}

/// Measures, and publishes the table and the curve.
///
/// # Errors
/// When a contestant does not start or serves fewer connections than it is asked to.
pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let steps: Vec<_> = STEPS.into_iter().chain([most()?]).collect();
    let mut measured = ROWS.map(|(name, _)| Measured {
        name,
        resident: steps.iter().map(|n| (*n, Samples::default())).collect(),
    });
    rounds.each("idle connections", || {
        for ((name, kind), measured) in ROWS.into_iter().zip(&mut measured) {
            for (count, samples) in &mut measured.resident {
                // A fresh process each: what was given back is not always given to the kernel.
                let contestant = Contestant::start(&format!("connections-{name}"), kind)?;
                let held = hold(&contestant, *count)
                    .with_context(|| format!("holding {count} connections to {name}"))?;
                samples.push(held);
            }
        }
        Ok(())
    })?;
    publish("connections", &shown(&steps, &measured), &measured)?;
    draw("connections", &chart(&measured))
}

fn chart(measured: &[Measured]) -> Chart {
    let curve = |row: &Measured| {
        let resident = row.resident.iter().map(|(count, bytes)| (*count, bytes));
        Curve::new(row.name, resident, 1e6)
    };
    Chart {
        title: "Memory with idle connections".into(),
        labels: ["idle connections".into(), "MB".into()],
        curves: measured.iter().map(curve).collect(),
    }
}

/// Memory by number of connections, and what each adds between the first and the last.
fn shown(steps: &[u32], measured: &[Measured]) -> String {
    let numbers = steps.iter().map(|count| format!("MB with {count}"));
    let head: Vec<_> = std::iter::once(String::new())
        .chain(numbers)
        .chain(["kB for each more".to_owned()])
        .collect();
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let rows: Vec<_> = measured
        .iter()
        .map(|row| {
            let mut cells = vec![row.name.to_owned()];
            cells.extend(row.resident.iter().map(|(_, bytes)| bytes.shown(1e6, 1)));
            if let [(few, least), .., (many, most)] = &row.resident[..] {
                let unit = 1e3 * f64::from(many - few);
                cells.push(most.less(least).shown(unit, 1));
            }
            cells
        })
        .collect();
    table(&head, &rows)
}

/// The greatest number of connections: ten thousand, or as many as the limit of descriptors lets
/// any of them serve, each of which takes two. The limit is raised as far as it goes, for all that
/// is started later.
///
/// # Errors
/// Where the limit cannot be had.
pub(super) fn most() -> Result<u32> {
    /// What a proxy needs for itself.
    const OWN: u64 = 100;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for a limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising a limit")?;
    let room = hard.saturating_sub(OWN) / 2;
    Ok(u32::try_from(room).map_or(10_000, |room| room.min(10_000)))
}

/// Memory of the proxy, in bytes, while so many idle connections are open that have served one
/// request each.
///
/// # Errors
/// When one of them cannot be opened.
pub(super) fn hold(contestant: &Contestant, connections: u32) -> Result<f64> {
    let mut command = contestant.client("hold");
    command.args(["--connections", &connections.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = contestant
        .namespace
        .run(|| command.spawn().context("starting the holder"))?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_line(&mut said)
            .context("waiting for the holder")?;
    }
    let memory = contestant.proxy.resident();
    // Ends when its standard input does, which `wait` closes.
    child.wait().context("waiting for the holder's end")?;
    if said.trim() != "held" {
        bail!("the connections could not be opened");
    }
    memory
}
