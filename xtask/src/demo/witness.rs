//! What the witnesses say. They must agree to the unit.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use shunt_abi::rule;
use shunt_tests::DEADLINE;
use shunt_tests::expect::eventually::poll;
use shunt_tests::expect::metrics::Metrics;

use super::stage::{Actor, Stage};
use super::traffic::Seen;

const CLUSTERS: [&str; 2] = ["outbound|9080|v1|reviews", "outbound|9080|v2|reviews"];

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
        let prefix = ("envoy_http_conn_manager_prefix", "inbound_9080");
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

/// How many connections each rule decided, in each pod.
pub(super) fn rules(stage: &Stage) -> Result<String> {
    let actors = stage.actors();
    let mut table = format!("{:<30}", "connections by rule");
    let mut columns = Vec::new();
    for actor in actors {
        write!(table, "{:>12}", actor.name())?;
        columns.push(actor.pod.rules()?.rules);
    }
    let [client, ..] = columns.as_slice() else {
        return Ok(table);
    };
    for (place, rule) in client.iter().enumerate() {
        write!(table, "\n{:<30}", rule.key)?;
        for column in &columns {
            write!(
                table,
                "{:>12}",
                column.get(place).map_or(0, |rule| rule.packets)
            )?;
        }
    }
    table.push('\n');
    Ok(table)
}

/// What both sides' access logs say of one request.
pub(super) fn access_log(stage: &Stage) -> Result<String> {
    let (sender, out) = logged(std::slice::from_ref(&stage.client), "GET /reviews/0 ")?;
    let id = out.split('"').find(|field| is_request_id(field));
    let id = id.with_context(|| format!("no request id in {out}"))?;
    let (receiver, arrival) = logged(&stage.reviews, id)?;
    Ok(format!(
        "access log, one request on its way out and in\n\
         {sender:<12}{out}\n{receiver:<12}{arrival}\n"
    ))
}

/// The first actor that logged a line with this text, and the line. The log is written by a thread
/// of its own, a moment later.
fn logged<'a>(actors: &'a [Actor], text: &str) -> Result<(&'a str, String)> {
    let look = || -> Result<Option<(&str, String)>> {
        for actor in actors {
            let lines = actor.access_log()?;
            if let Some(line) = lines.into_iter().find(|line| line.contains(text)) {
                return Ok(Some((actor.name(), line)));
            }
        }
        Ok(None)
    };
    until(look, Option::is_some)?.with_context(|| format!("nobody logged {text}"))
}

/// A UUID is 36 characters, five groups joined by dashes.
fn is_request_id(field: &str) -> bool {
    field.len() == 36 && field.split('-').map(str::len).eq([8, 4, 4, 4, 12])
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
