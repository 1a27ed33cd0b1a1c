//! Shunt in real pods of a real Kubernetes. All tests share one cluster, which starts with the
//! first of them and ends with this process; each has pods of its own.

mod causes;
mod envoy;
mod inits;
mod lifecycle;
mod mesh;
mod native_sidecar;
mod policies;
mod restart;
mod tproxy;
mod user_namespace;
mod verified;

use std::sync::OnceLock;

use anyhow::{Context, Error, Result, ensure};
use serde_json::Value;
use shunt_tests::cluster::Cluster;
use shunt_tests::expect::access_log::AccessRecord;
use shunt_tests::expect::eventually::poll;
use shunt_tests::{DEADLINE, programs};

const POD: &str = include_str!("../../data/kubernetes/pod.yaml");
const CLIENT: &str = include_str!("../../data/kubernetes/client.yaml");
const BOOTSTRAP: &str = include_str!("../../data/kubernetes/bootstrap.yaml");

/// The pods in the mesh, one for each module or test that changes its pod.
const PODS: [&str; 4] = ["mesh", "again", "sandbox", "crash"];

/// The cluster, with the images, the sidecars' configuration and the pods in it. All pods are
/// asked for at once, so that they start while the first tests run.
fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| furnished().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| Error::msg(error.clone()))
}

fn furnished() -> Result<Cluster> {
    let images = [programs::shunt_image()?, programs::envoy_image()?];
    let cluster = Cluster::start()?;
    for image in &images {
        cluster.import_image(image)?;
    }
    cluster.apply(BOOTSTRAP)?;
    cluster.apply(mesh::RESTRICTED)?;
    cluster.in_namespace("restricted").apply(BOOTSTRAP)?;
    cluster.apply(CLIENT)?;
    for name in PODS {
        cluster.apply(&named(POD, "app", name)?)?;
    }
    cluster.apply(&envoy::manifest("envoy")?)?;
    cluster.wait_ready("client")?;
    for manifest in native_sidecar::manifests(&cluster)? {
        cluster.apply(&manifest)?;
    }
    Ok(cluster)
}

/// A manifest of the tree with the pod under another name.
fn named(manifest: &str, from: &str, to: &str) -> Result<String> {
    replaced(
        manifest,
        &format!("  name: {from}\n"),
        &format!("  name: {to}\n"),
    )
}

/// Puts a text in the place of another that occurs exactly once.
fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    let count = text.matches(from).count();
    ensure!(count == 1, "`{from}` is there {count} times, not once");
    Ok(text.replace(from, to))
}

/// What a server of the pods tells of a request that `container` of `pod` makes.
fn get(cluster: &Cluster, (pod, container): (&str, &str), to: &str, path: &str) -> Result<Value> {
    let argv = ["shunt-test-app", "get", to, path];
    let said = cluster.exec(pod, container, &argv)?.success()?.stdout;
    serde_json::from_str(&said).with_context(|| format!("reading `{said}`"))
}

/// The access-log records of a pod's sidecar that satisfy a condition, once there is one.
fn records(
    cluster: &Cluster,
    pod: &str,
    wanted: impl Fn(&AccessRecord) -> bool,
) -> Result<Vec<AccessRecord>> {
    let mut said = String::new();
    poll(DEADLINE, || {
        said = cluster.logs(pod, "sidecar").ok()?;
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        let mut records = AccessRecord::all(&lines).ok()?;
        records.retain(&wanted);
        (!records.is_empty()).then_some(records)
    })
    .with_context(|| format!("no such record of `{pod}`; its sidecar said:\n{said}"))
}

/// The rules in a pod's kernel as another program reads them, without counters.
fn rules(cluster: &Cluster, pod: &str) -> Result<String> {
    let listed = cluster.in_pod_netns(pod, &["nft", "--stateless", "list", "ruleset"])?;
    Ok(listed.success()?.stdout)
}

/// Proves that both directions of a mesh pod go through its sidecar, by what the applications see
/// and by the sidecar's own records; `marker` tells these requests from others.
fn expect_captured(cluster: &Cluster, pod: &str, marker: &str) -> Result<()> {
    let outcome = both_directions(cluster, pod, marker);
    outcome.map_err(|error| error.context(cluster.report(pod)))
}

fn both_directions(cluster: &Cluster, pod: &str, marker: &str) -> Result<()> {
    let ip = cluster.pod_ip(pod)?;
    let client = cluster.pod_ip("client")?;

    let path = format!("/in-{marker}");
    let seen = get(cluster, ("client", "client"), &format!("{ip}:9080"), &path)?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(
        peer.starts_with("127.0.0.6:"),
        "the application saw {peer}, not its sidecar"
    );
    let request = format!("GET {path} HTTP/1.1");
    let inbound = records(cluster, pod, |record| record.get("request") == request)?;
    ensure!(inbound.len() == 1, "one request, {} records", inbound.len());
    let from = inbound[0].get("downstream_remote_address");
    ensure!(
        from.starts_with(&format!("{client}:")),
        "inbound from {from}"
    );

    let to = format!("{client}:9080");
    let earlier = outbound_count(cluster, pod, &to)?;
    let seen = get(cluster, (pod, "app"), &to, &format!("/out-{marker}"))?;
    ensure!(seen["server"] == "client", "somebody else answered: {seen}");
    let to_client = |record: &AccessRecord| record.get("upstream_host") == to;
    let found = poll(DEADLINE, || {
        let records = records(cluster, pod, to_client).ok()?;
        (records.len() == earlier + 1).then_some(records)
    });
    let outbound = found.with_context(|| format!("no record of the connection to {to}"))?;
    let last = &outbound[earlier];
    ensure!(
        last.get("upstream_cluster") == "PassthroughCluster"
            && last.get("downstream_local_address") == to,
        "not captured on its way out: {last:?}"
    );
    // What the client saw is the sidecar's own connection, and no other.
    ensure!(
        seen["peer"] == last.get("upstream_local_address"),
        "the client saw {}, the sidecar says {last:?}",
        seen["peer"]
    );
    Ok(())
}

fn outbound_count(cluster: &Cluster, pod: &str, to: &str) -> Result<usize> {
    let said = cluster.logs(pod, "sidecar")?;
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    let records = AccessRecord::all(&lines)?;
    let count = records
        .iter()
        .filter(|record| record.get("upstream_host") == to)
        .count();
    Ok(count)
}
