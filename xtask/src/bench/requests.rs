//! What a load of requests found, round by round, and its table.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::contestant::Contestant;
use super::figures::{self, Samples};

/// All rounds of one contestant.
#[derive(Default, Serialize)]
pub(super) struct Requests {
    pub(super) cpu_ns_per_request: Samples,
    requests_per_second: Samples,
    pub(super) utilisation: Samples,
    pub(super) p50_us: Samples,
    pub(super) p99_us: Samples,
    pub(super) p999_us: Samples,
}

/// What the load prints.
#[derive(Deserialize)]
struct Load {
    cpu_ns_per_request: f64,
    requests_per_second: f64,
    utilisation: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl Requests {
    /// One more round: runs a load that is told which process to watch.
    ///
    /// # Errors
    /// When the load fails.
    pub(super) fn measure(&mut self, contestant: &Contestant, mut load: Command) -> Result<()> {
        load.args(["--of", &contestant.proxy.id().to_string()]);
        let text = contestant.measure(load)?;
        let load: Load = serde_json::from_str(&text).context("reading what the load found")?;
        self.cpu_ns_per_request.push(load.cpu_ns_per_request);
        self.requests_per_second.push(load.requests_per_second);
        self.utilisation.push(load.utilisation);
        self.p50_us.push(load.p50_us);
        self.p99_us.push(load.p99_us);
        self.p999_us.push(load.p999_us);
        Ok(())
    }

    /// The cost of a request, divided by another contestant's, round by round.
    pub(super) fn cost_to(&self, other: &Self) -> Samples {
        self.cpu_ns_per_request.ratio_to(&other.cpu_ns_per_request)
    }
}

/// The table of a closed loop.
pub(super) fn table<'a>(
    rows: impl Iterator<Item = (&'a str, &'a Requests)>,
    envoy: &Requests,
) -> String {
    let head = [
        "",
        "CPU us/request",
        "x Envoy",
        "core used",
        "requests/s",
        "p50 us",
        "p99 us",
    ];
    let rows: Vec<_> = rows
        .map(|(name, requests)| {
            vec![
                name.to_owned(),
                requests.cpu_ns_per_request.shown(1e3, 2),
                requests.cost_to(envoy).shown(1.0, 2),
                format!("{:.0} %", requests.utilisation.median() * 1e2),
                format!("{:.0}", requests.requests_per_second.median()),
                format!("{:.0}", requests.p50_us.median()),
                format!("{:.0}", requests.p99_us.median()),
            ]
        })
        .collect();
    figures::table(&head, &rows)
}
