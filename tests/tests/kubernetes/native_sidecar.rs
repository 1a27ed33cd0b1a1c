//! The sidecar as an init container that stays.

use anyhow::{Result, ensure};
use shunt_tests::cluster::Cluster;

use crate::{cluster, expect_captured, named, records};

const MANIFEST: &str = include_str!("../../data/kubernetes/native-sidecar.yaml");

/// The pods of this module.
pub(crate) fn manifests(cluster: &Cluster) -> Result<[String; 2]> {
    let client = cluster.pod_ip("client")?;
    let native = MANIFEST.replace("$CLIENT", &client.to_string());
    let crash = named(&native, "native", "native-crash")?;
    Ok([native, crash])
}

#[test]
fn an_init_container_before_a_native_sidecar_is_refused_and_one_after_it_is_served() -> Result<()> {
    let cluster = cluster()?;
    let client = cluster.pod_ip("client")?;
    cluster.wait_ready("native")?;

    let warned = cluster.logs("native", "shunt-init")?;
    ensure!(
        warned.contains("while no sidecar listens on port 15001, captured connections are refused"),
        "{warned}"
    );
    // Nobody listens on the port to which the rules send it: refused at once, never let past.
    let early = cluster.logs("native", "early")?;
    ensure!(early.contains("Connection refused"), "early: {early}");
    // The sidecar's own uid is not captured.
    let bypass = cluster.logs("native", "bypass")?;
    ensure!(bypass.trim() == "connected", "bypass: {bypass}");
    let late = cluster.logs("native", "late")?;
    ensure!(late.contains(r#""path":"/late""#), "late: {late}");

    // Of the three only the last was seen by the sidecar.
    let host = format!("{client}:9080");
    let seen = records(cluster, "native", |record| {
        record.get("upstream_host") == host
    })?;
    ensure!(seen.len() == 1, "{seen:?}");
    expect_captured(cluster, "native", "app")
}

#[test]
fn a_native_sidecar_that_was_killed_is_started_again() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("native-crash")?;
    cluster.kill_container("native-crash", "sidecar")?;
    cluster.wait_until("native-crash", "its sidecar was started again", |pod| {
        let statuses = pod.pointer("/status/initContainerStatuses")?.as_array()?;
        let sidecar = statuses.iter().find(|one| one["name"] == "sidecar")?;
        (sidecar["restartCount"] == 1 && sidecar["started"] == true).then_some(())
    })?;
    cluster.wait_ready("native-crash")?;
    expect_captured(cluster, "native-crash", "killed")
}
