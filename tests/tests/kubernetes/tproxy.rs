//! Inbound capture by TPROXY, with Envoy as the sidecar.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use shunt_abi::rule;
use shunt_tests::DEADLINE;
use shunt_tests::cluster::Cluster;
use shunt_tests::expect::eventually::{eventually, poll};
use shunt_tests::net::User;
use shunt_tests::programs;

use crate::inits::{INJECTED, Init, pod, proofs, said, summary};
use crate::{cluster, get};

const MANIFEST: &str = include_str!("../../data/kubernetes/tproxy.yaml");

#[test]
fn the_application_sees_its_clients_and_the_sidecar_where_they_were_going() -> Result<()> {
    let cluster = cluster()?;
    cluster.apply(MANIFEST)?;
    cluster.wait_ready("tproxy")?;
    let outcome = both_directions(cluster).and_then(|()| rules_are_there_once(cluster));
    outcome.map_err(|error| error.context(cluster.report("tproxy")))?;
    cluster.delete("tproxy", 0)
}

fn both_directions(cluster: &Cluster) -> Result<()> {
    let own = cluster.pod_ip("tproxy")?;
    let client = cluster.pod_ip("client")?;
    let to = format!("{own}:9080");

    let seen = get(cluster, ("client", "client"), &to, "/in")?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(
        seen["server"] == "app" && peer.starts_with(&format!("{client}:")),
        "the application saw {seen}"
    );
    ensure!(seen["local"] == to, "{seen}");
    // It is another connection than the client's, from the same address.
    let inbound = logged(cluster, |line| {
        line.starts_with(&format!("connection from {client}:"))
    })?;
    ensure!(
        inbound.contains(&format!(
            " to {to} goes on from {peer} to {to} of InboundPassthroughCluster"
        )) && !inbound.starts_with(&format!("connection from {peer} ")),
        "{inbound}"
    );

    let to = format!("{client}:9080");
    let seen = get(cluster, ("tproxy", "app"), &to, "/out")?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(seen["server"] == "client", "{seen}");
    let on = format!(" to {to} goes on from {peer} to {to} of PassthroughCluster");
    logged(cluster, |line| line.contains(&on)).map(drop)
}

/// The one line of the sidecar's access log that satisfies a condition.
fn logged(cluster: &Cluster, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let found = poll(DEADLINE, || {
        let said = cluster.logs("tproxy", "sidecar").ok()?;
        let lines: Vec<_> = said.lines().filter(|line| wanted(line)).collect();
        (!lines.is_empty()).then(|| lines.iter().map(|line| (*line).to_owned()).collect())
    });
    let lines: Vec<String> = found.context("no such line in the sidecar's access log")?;
    ensure!(lines.len() == 1, "{lines:#?}");
    Ok(lines[0].clone())
}

/// After two runs of `shunt-init`.
fn rules_are_there_once(cluster: &Cluster) -> Result<()> {
    let first = said(cluster, "tproxy", "shunt-init")?;
    ensure!(first.contains("policy routing: added"), "{first}");
    let again = said(cluster, "tproxy", "shunt-init-again")?;
    ensure!(
        again.starts_with("table inet shunt: unchanged, ") && !again.contains("policy routing"),
        "{again}"
    );
    for said in [&first, &again] {
        ensure!(!proofs(said).contains(&"FAILED"), "{said}");
        summary(said)?;
    }

    let netns = cluster.netns("tproxy")?;
    let rules = netns.rules()?;
    let keys: BTreeSet<_> = rules.rules.iter().map(|rule| &rule.key).collect();
    ensure!(keys.len() == rules.rules.len(), "{:#?}", rules.rules);
    let count = |args: &[&str]| -> Result<(usize, String)> {
        let text = netns.command("ip").args(args).finish()?.success()?.stdout;
        let marked = text.lines().filter(|line| line.contains("fwmark 0x539"));
        Ok((marked.count(), text))
    };
    let (marked, policies) = count(&["-4", "rule", "show"])?;
    ensure!(marked == 1 && policies.contains("lookup 133"), "{policies}");
    let (_, routes) = count(&["-4", "route", "show", "table", "133"])?;
    ensure!(
        routes.starts_with("local default dev lo ") && routes.lines().count() == 1,
        "{routes}"
    );
    Ok(())
}

#[test]
fn without_a_sidecar_nobody_gets_in() -> Result<()> {
    let cluster = cluster()?;
    let args = INJECTED.iter().map(|word| match *word {
        "REDIRECT" => "TPROXY",
        other => other,
    });
    let args: Vec<_> = args.collect();
    cluster.apply(&pod("alone", &[Init::shunt(&args)]))?;
    cluster.wait_ready("alone")?;
    let own = cluster.pod_ip("alone")?;
    let netns = cluster.netns("alone")?;
    let server = netns.http_app("alone", 0)?;
    let to = SocketAddr::from((own, server.port()));
    // The server is there: it is reached from inside.
    netns.as_user(User::APP).get(to, "/inside")?;
    let dropped = || {
        let rules = netns.rules().ok()?;
        Some(rules.rule(rule::TPROXY_NO_LISTENER)?.packets)
    };
    let before = dropped().context("nothing drops what no proxy takes")?;

    let client = cluster.netns("client")?;
    let attempt = client
        .command(programs::test_app()?)
        .args(["try", &to.to_string()])
        .start()?;
    // The kernel sends the first packet again when nobody answers: so there was no answer to it.
    eventually("a packet and its repetition are dropped", || {
        dropped().is_some_and(|count| count >= before + 2)
    })?;
    ensure!(
        server.connections() == 1,
        "the server has {} connections, not only ours from inside",
        server.connections()
    );
    let answer = attempt.stdout().text();
    ensure!(answer.is_empty(), "the client was answered: {answer}");
    cluster.delete("alone", 0)
}
