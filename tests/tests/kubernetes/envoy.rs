//! Envoy in the place of our sidecar: the same rules, the same pod, the same configuration.

use anyhow::{Context, Result, ensure};
use shunt_tests::DEADLINE;
use shunt_tests::expect::eventually::poll;

use crate::{POD, cluster, get, named, replaced};

/// What is different: the program, and whom the probe asks.
pub(crate) fn manifest(name: &str) -> Result<String> {
    let pod = named(POD, "app", name)?;
    let pod = replaced(
        &pod,
        "shunt.test/shunt:1 # the sidecar",
        "shunt.test/envoy:1",
    )?;
    let pod = replaced(
        &pod,
        "[shunt-agent, sidecar, --config, /etc/sidecar/bootstrap.yaml]",
        "[envoy, --disable-hot-restart, --concurrency, '1', -c, /etc/sidecar/bootstrap.yaml]",
    )?;
    replaced(
        &pod,
        "httpGet: { path: /healthz/ready, port: 15021 }",
        "exec: { command: [shunt-test-app, get, '127.0.0.1:15000', /ready] }",
    )
}

#[test]
fn envoy_as_the_sidecar_behind_our_rules_gets_both_directions() -> Result<()> {
    let cluster = cluster()?;
    let pod = cluster.wait_ready("envoy")?;
    let client = cluster.pod_ip("client")?;

    let seen = get(
        cluster,
        ("client", "client"),
        &format!("{}:9080", pod.ip),
        "/in",
    )?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(peer.starts_with("127.0.0.6:"), "the application saw {peer}");

    let netns = cluster.netns("envoy")?;
    let before = netns
        .metrics()?
        .count("envoy_cluster_upstream_cx_total", OUT);
    let seen = get(cluster, ("envoy", "app"), &format!("{client}:9080"), "/out")?;
    ensure!(seen["server"] == "client", "{seen}");

    let metrics = netns.metrics()?;
    let prefix = ("envoy_http_conn_manager_prefix", "inbound_9080");
    let inbound = metrics.count("envoy_http_downstream_rq_total", &[prefix]);
    ensure!(inbound == 1, "{inbound} inbound requests");
    let outbound = metrics.count("envoy_cluster_upstream_cx_total", OUT);
    ensure!(
        outbound == before + 1,
        "{before}, then {outbound} connections"
    );

    // Envoy flushes its log now and then.
    poll(DEADLINE, || {
        let said = cluster.logs("envoy", "sidecar").ok()?;
        said.contains("GET /in HTTP/1.1").then_some(())
    })
    .context("no line in Envoy's access log")
}

const OUT: &[(&str, &str)] = &[("envoy_cluster_name", "PassthroughCluster")];
