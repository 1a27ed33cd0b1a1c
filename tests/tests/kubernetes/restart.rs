//! Pods that are made again.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{POD, cluster, expect_captured, named, rules};

#[test]
fn a_recreated_pod_has_the_same_rules_and_works() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("again")?;
    let before = rules(cluster, "again")?;
    ensure!(before.contains("table inet shunt"), "no rules: {before}");
    cluster.delete("again", 0)?;

    cluster.apply(&named(POD, "app", "again")?)?;
    cluster.wait_ready("again")?;
    ensure!(rules(cluster, "again")? == before);
    expect_captured(cluster, "again", "recreated")
}

#[test]
fn a_pod_whose_sandbox_died_gets_its_rules_again() -> Result<()> {
    let cluster = cluster()?;
    let first = cluster.wait_ready("sandbox")?;
    let before = rules(cluster, "sandbox")?;
    let died = cluster.sandbox("sandbox")?;
    let inits = init_runs(&first.json);
    cluster.kill_sandbox("sandbox")?;

    // The same pod to the API server, new namespaces to the kernel: without rules, had the init
    // container not run again.
    cluster.wait_until("sandbox", "its init container has run again", |pod| {
        (init_runs(pod) > inits).then_some(())
    })?;
    let second = cluster.wait_ready("sandbox")?;
    ensure!(first.json["metadata"]["uid"] == second.json["metadata"]["uid"]);
    ensure!(cluster.sandbox("sandbox")? != died);
    ensure!(rules(cluster, "sandbox")? == before);
    expect_captured(cluster, "sandbox", "restarted")
}

#[test]
fn a_sidecar_that_was_killed_comes_back_behind_the_same_rules() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("crash")?;
    let before = rules(cluster, "crash")?;
    cluster.kill_container("crash", "sidecar")?;
    cluster.wait_until("crash", "its sidecar was started again", |pod| {
        let statuses = pod.pointer("/status/containerStatuses")?.as_array()?;
        let sidecar = statuses.iter().find(|one| one["name"] == "sidecar")?;
        (sidecar["restartCount"] == 1 && sidecar["ready"] == true).then_some(())
    })?;
    ensure!(rules(cluster, "crash")? == before);
    expect_captured(cluster, "crash", "killed")
}

/// How often the init container was started again.
fn init_runs(pod: &Value) -> i64 {
    pod.pointer("/status/initContainerStatuses/0/restartCount")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}
