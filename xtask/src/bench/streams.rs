//! What bytes in bulk and new connections cost, round by round, and their tables.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::contestant::Contestant;
use super::figures::{Samples, table};

/// All rounds of bytes through one contestant.
#[derive(Default, Serialize)]
pub(super) struct Streams {
    pub(super) cpu_s_per_gb: Samples,
    pub(super) gb_per_second: Samples,
    utilisation: Samples,
}

/// All rounds of new connections through one contestant.
#[derive(Default, Serialize)]
pub(super) struct Connections {
    pub(super) per_cpu_second: Samples,
    per_second: Samples,
}

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

impl Streams {
    /// One more round.
    ///
    /// # Errors
    /// When a stream fails.
    pub(super) fn measure(&mut self, contestant: &Contestant) -> Result<()> {
        let mut command = contestant.streams();
        command.args(["--of", &contestant.proxy.id().to_string()]);
        let stream: Stream = serde_json::from_str(&contestant.measure(command)?)
            .context("reading what the streams found")?;
        self.cpu_s_per_gb.push(stream.cpu_s_per_gb);
        self.gb_per_second.push(stream.gb_per_second);
        self.utilisation.push(stream.utilisation);
        Ok(())
    }

    /// Whether there was a round.
    pub(super) fn are_measured(&self) -> bool {
        !self.cpu_s_per_gb.median().is_nan()
    }
}

impl Connections {
    /// One more round: runs a churn that is told which process to watch.
    ///
    /// # Errors
    /// When a connection fails.
    pub(super) fn measure(&mut self, contestant: &Contestant, mut churn: Command) -> Result<()> {
        churn.args(["--of", &contestant.proxy.id().to_string()]);
        let churn: Churn = serde_json::from_str(&contestant.measure(churn)?)
            .context("reading what the connections found")?;
        self.per_cpu_second.push(churn.connections_per_cpu_second);
        self.per_second.push(churn.connections_per_second);
        Ok(())
    }
}

/// The table of bytes in bulk.
pub(super) fn streams_table<'a>(
    rows: impl Iterator<Item = (&'a str, &'a Streams)>,
    envoy: &Streams,
) -> String {
    let head = ["", "CPU s/GB", "x Envoy", "GB/s", "x Envoy", "core used"];
    let rows: Vec<_> = rows
        .map(|(name, streams)| {
            let (cpu, speed) = (&streams.cpu_s_per_gb, &streams.gb_per_second);
            vec![
                name.to_owned(),
                cpu.shown(1.0, 3),
                cpu.ratio_to(&envoy.cpu_s_per_gb).shown(1.0, 2),
                speed.shown(1.0, 2),
                speed.ratio_to(&envoy.gb_per_second).shown(1.0, 2),
                format!("{:.0} %", streams.utilisation.median() * 1e2),
            ]
        })
        .collect();
    table(&head, &rows)
}

/// The table of new connections; each row with the Envoy that it is held against.
pub(super) fn connections_table<'a>(
    rows: impl Iterator<Item = (&'a str, &'a Connections, &'a Connections)>,
) -> String {
    let head = ["", "connections per CPU s", "x Envoy", "connections/s"];
    let rows: Vec<_> = rows
        .map(|(name, connections, envoy)| {
            let cost = &connections.per_cpu_second;
            vec![
                name.to_owned(),
                cost.shown(1.0, 0),
                cost.ratio_to(&envoy.per_cpu_second).shown(1.0, 2),
                format!("{:.0}", connections.per_second.median()),
            ]
        })
        .collect();
    table(&head, &rows)
}
