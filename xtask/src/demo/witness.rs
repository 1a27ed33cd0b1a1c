//! What the witnesses say. They must agree to the unit.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use shunt_abi::rule;
use shunt_tests::DEADLINE;
use shunt_tests::expect::eventually::poll;
use shunt_tests::expect::metrics::Metrics;

use super::stage::{Actor, Stage};
use super::traffic::Seen;

const CLUSTERS: [&str; 2] = [
    "outbound|9080|v1|reviews.demo.svc.cluster.local",
    "outbound|9080|v2|reviews.demo.svc.cluster.local",
];

/// Requests, as client, applications and sidecars counted them.
pub(super) fn requests(stage: &Stage, seen: &Seen) -> Result<String> {
    let [v1, v2] = &stage.reviews;
    let outbound = |metrics: &Metrics, version: usize| {
        metrics.count(
            "envoy_cluster_upstream_rq_total",
            &[("envoy_cluster_name", CLUSTERS[version])],
        )
    };
    let inbound = |metrics: &Metrics| {
        let prefix = ("envoy_http_conn_manager_prefix", "inbound_0.0.0.0_9080");
        metrics.count("envoy_http_downstream_rq_total", &[prefix])
    };
    let tell = || -> Result<Vec<(&str, [u64; 2])>> {
        let client = stage.client.pod.metrics()?;
        Ok(vec![
            ("the client saw answers of", seen.total()),
            (
                "the applications counted",
                [v1.counted()?.requests, v2.counted()?.requests],
            ),
            (
                "the client's sidecar sent to",
                [outbound(&client, 0), outbound(&client, 1)],
            ),
            (
                "their sidecars received",
                [inbound(&v1.pod.metrics()?), inbound(&v2.pod.metrics()?)],
            ),
        ])
    };
    let rows = until(tell, |rows| {
        rows.iter().all(|(_, counts)| *counts == seen.total())
    })?;

    let mut table = format!(
        "{:<30}{:>12}{:>12}{:>8}\n",
        "requests",
        v1.name(),
        v2.name(),
        "sum"
    );
    for (witness, [one, two]) in &rows {
        writeln!(table, "{witness:<30}{one:>12}{two:>12}{:>8}", one + two)?;
    }
    let ([one, two], [_, canaries]) = (seen.plain, seen.canary);
    writeln!(
        table,
        "of these without x-canary {one} : {two} (weights 90 : 10), canaries 0 : {canaries}"
    )?;
    for (witness, counts) in &rows {
        ensure!(
            *counts == seen.total(),
            "the witnesses disagree: {witness} {counts:?}\n{table}"
        );
    }
    Ok(table)
}

/// Connections, as rule counters and sidecars counted them.
pub(super) fn connections(stage: &Stage) -> Result<String> {
    let captured = |actor: &Actor, key: &str| -> Result<u64> {
        Ok(actor
            .pod
            .rules()?
            .rule(key)
            .with_context(|| format!("there is no rule {key}"))?
            .packets)
    };
    // A connection counts at the listener that serves it: of the client's these are all outbound,
    // of the others' all inbound.
    let accepted = |actor: &Actor| -> Result<u64> {
        Ok(actor
            .pod
            .metrics()?
            .count("envoy_listener_downstream_cx_total", &[]))
    };
    let [v1, v2] = &stage.reviews;
    let rows = [
        (&stage.client, rule::OUTBOUND_CAPTURE, "outbound"),
        (v1, rule::INBOUND_CAPTURE, "inbound"),
        (v2, rule::INBOUND_CAPTURE, "inbound"),
    ];
    let tell = || -> Result<Vec<(u64, u64)>> {
        rows.iter()
            .map(|(actor, key, _)| Ok((captured(actor, key)?, accepted(actor)?)))
            .collect()
    };
    let agree = |counts: &Vec<(u64, u64)>| counts.iter().all(|(rule, sidecar)| rule == sidecar);
    let counts = until(tell, agree)?;

    let mut table = format!(
        "{:<30}{:>12}{:>12}\n",
        "captured connections", "rule", "sidecar"
    );
    for ((actor, _, direction), (rule, sidecar)) in rows.iter().zip(&counts) {
        let place = format!("{}, {direction}", actor.name());
        writeln!(table, "{place:<30}{rule:>12}{sidecar:>12}")?;
    }
    ensure!(agree(&counts), "the witnesses disagree\n{table}");
    ensure!(
        counts.iter().all(|(rule, _)| *rule > 0),
        "nothing was captured\n{table}"
    );
    let tcp = [v1.counted()?.tcp_connections, v2.counted()?.tcp_connections];
    ensure!(
        tcp == [1, 1],
        "the TCP services counted {tcp:?} connections instead of one each"
    );
    Ok(table)
}

/// The client's rules with their counters.
pub(super) fn rules(stage: &Stage) -> Result<String> {
    let mut table = format!(
        "{:<30}{:>12}{:>12}\n",
        "rules of the client", "packets", "bytes"
    );
    for rule in stage.client.pod.rules()?.rules {
        writeln!(
            table,
            "{:<30}{:>12}{:>12}",
            rule.key, rule.packets, rule.bytes
        )?;
    }
    Ok(table)
}

/// A line of either side's access log.
pub(super) fn access_log(stage: &Stage) -> Result<String> {
    let mut text = String::from("access log, one request on its way out and in\n");
    for actor in [&stage.client, &stage.reviews[0]] {
        // The log is written by a thread of its own, a moment later.
        let line = until(
            || {
                Ok(actor
                    .access_log()?
                    .into_iter()
                    .find(|line| line.contains("GET /reviews/0")))
            },
            Option::is_some,
        )?;
        let line = line.with_context(|| format!("{} logged no request", actor.name()))?;
        writeln!(text, "{:<12}{line}", actor.name())?;
    }
    Ok(text)
}

/// Asks until the answer is good or the time is over; returns the last answer.
fn until<T>(ask: impl Fn() -> Result<T>, good: impl Fn(&T) -> bool) -> Result<T> {
    let mut last = None;
    poll(DEADLINE, || {
        let answer = ask();
        let stop = answer.as_ref().map_or(true, &good);
        last = Some(answer);
        stop.then_some(())
    });
    last.context("never asked")?
}
