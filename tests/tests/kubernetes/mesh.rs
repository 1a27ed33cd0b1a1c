//! A pod with an init container, an application and a sidecar.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_tests::cluster::Cluster;
use shunt_tests::expect::eventually::eventually;

use crate::{cluster, expect_captured, get, records};

#[test]
fn both_directions_of_a_pod_go_through_its_sidecar() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("mesh")?;
    expect_captured(cluster, "mesh", "once")?;

    // The same by the sidecar's counters. The probes of the kubelet go to the application's port
    // too, but speak no HTTP.
    let metrics = cluster.netns("mesh")?.metrics()?;
    let prefix = ("envoy_http_conn_manager_prefix", "inbound_9080");
    let requests = metrics.count("envoy_http_downstream_rq_total", &[prefix]);
    ensure!(requests == 1, "{requests} inbound requests were counted");
    Ok(())
}

#[test]
fn a_server_beside_the_pods_is_reached_through_the_sidecar() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("mesh")?;
    let node = cluster.node()?;
    let server = node.http_app("beside", 0)?;
    let to = node.v4(server.port()).to_string();
    let seen = get(cluster, ("mesh", "app"), &to, "/beside")?;
    ensure!(seen["server"] == "beside", "{seen}");
    let records = records(cluster, "mesh", |record| record.get("upstream_host") == to)?;
    ensure!(records.len() == 1, "{records:?}");
    Ok(())
}

#[test]
fn no_container_that_stays_has_any_privilege() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("mesh")?;
    for (container, uid) in [("app", 1000), ("sidecar", 1337)] {
        let processes = cluster.processes("mesh", container)?;
        let pid = processes.first().context("no process")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        ensure!(field("Uid:").starts_with(&format!("{uid}\t{uid}\t{uid}")));
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            let set = field(set);
            ensure!(set == "0000000000000000", "{container} may {set}");
        }
        ensure!(field("NoNewPrivs:") == "1", "{container} may gain more");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(4);
            (words.next()? == "/").then(|| words.next().map(str::to_owned))?
        });
        let root = root.context("no root")?;
        let is_read_only = root.split(',').any(|option| option == "ro");
        ensure!(is_read_only, "{container} may write its root: {root}");
        // SECCOMP_MODE_FILTER
        ensure!(field("Seccomp:") == "2", "{container} may call anything");
    }
    Ok(())
}

#[test]
fn the_image_has_no_program_but_what_was_put_into_it() -> Result<()> {
    let cluster = cluster()?;
    let pod = cluster.wait_ready("mesh")?;
    let all = ["initContainers", "containers"].map(|kind| &pod.json["spec"][kind]);
    let mut images = all.into_iter().filter_map(Value::as_array).flatten();
    ensure!(images.all(|container| container["image"] == "shunt.test/shunt:1"));
    for program in ["sh", "/bin/sh", "ls", "iptables", "nft"] {
        let ended = cluster.exec("mesh", "app", &[program])?;
        let why = &ended.stderr;
        ensure!(
            !ended.status.success() && (why.contains("not found") || why.contains("no such file")),
            "{program}: {ended}"
        );
    }
    Ok(())
}

#[test]
fn the_init_container_needs_only_net_admin_and_net_raw() -> Result<()> {
    let cluster = cluster()?;
    let pod = cluster.wait_ready("mesh")?;
    // As admitted: the API server adds nothing, and `shunt-init` ended with success.
    let init = pod.json.pointer("/spec/initContainers/0/securityContext");
    let init = init.context("the init container has no security context")?;
    ensure!(init["capabilities"]["drop"] == serde_json::json!(["ALL"]));
    ensure!(init["capabilities"]["add"] == serde_json::json!(["NET_ADMIN", "NET_RAW"]));
    ensure!(init["readOnlyRootFilesystem"] == true);
    let code = pod
        .json
        .pointer("/status/initContainerStatuses/0/state/terminated/exitCode");
    ensure!(code == Some(&0.into()), "it ended with {code:?}");
    Ok(())
}

/// The namespace whose pods must meet the level `restricted`.
fn restricted(cluster: &Cluster) -> Result<Cluster> {
    let restricted = cluster.in_namespace("restricted");
    // A namespace is usable once it has its service account.
    let account = ["get", "serviceaccount", "default"];
    eventually("the namespace is usable", || {
        restricted.kubectl().run(&account).is_ok()
    })?;
    Ok(restricted)
}

/// The pod of the mesh as it was admitted, to be made again under another name.
fn again(cluster: &Cluster, name: &str) -> Result<Value> {
    let admitted = cluster.wait_ready("mesh")?.json;
    let mut spec = admitted["spec"].clone();
    let fields = spec.as_object_mut().context("no spec")?;
    // What the cluster has decided.
    fields.retain(|field, _| field != "nodeName");
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
}

#[test]
fn under_pod_security_restricted_the_init_container_alone_is_refused() -> Result<()> {
    let cluster = cluster()?;
    let restricted = restricted(cluster)?;
    let pod = again(cluster, "refused")?.to_string();
    let refused = restricted.apply(&pod).err().context("it was admitted")?;
    let refused = format!("{refused:#}");
    ensure!(
        refused.contains(r#""NET_ADMIN", "NET_RAW""#) && refused.contains(r#""shunt-init""#),
        "{refused}"
    );
    for container in ["app", "sidecar"] {
        let named = format!(r#"container "{container}""#);
        ensure!(!refused.contains(&named), "{refused}");
    }
    Ok(())
}

/// As with Istio's CNI plugin: whoever makes the pod's network writes the rules.
#[test]
fn under_pod_security_restricted_application_and_sidecar_work_behind_rules_from_outside()
-> Result<()> {
    let cluster = cluster()?;
    let restricted = restricted(cluster)?;
    let mut pod = again(cluster, "enforced")?;
    let spec = pod["spec"].as_object_mut().context("no spec")?;
    spec.remove("initContainers")
        .context("no init containers")?;
    restricted.apply(&pod.to_string())?;
    let ip = restricted.wait_ready("enforced")?.ip;
    restricted.netns("enforced")?.apply_rules(&[])?;

    let to = format!("{ip}:9080");
    let seen = get(cluster, ("client", "client"), &to, "/in")?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(peer.starts_with("127.0.0.6:"), "the application saw {peer}");
    let to = format!("{}:9080", cluster.pod_ip("client")?);
    let seen = get(&restricted, ("enforced", "app"), &to, "/out")?;
    ensure!(seen["server"] == "client", "{seen}");
    let out = records(&restricted, "enforced", |record| {
        record.get("upstream_host") == to
    })?;
    ensure!(out.len() == 1, "{out:?}");
    restricted.delete("enforced", 0)
}

/// That namespace.
pub(crate) const RESTRICTED: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: restricted
  labels: { pod-security.kubernetes.io/enforce: restricted }
";
