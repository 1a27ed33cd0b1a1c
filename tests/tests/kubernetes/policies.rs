//! Policies in other words than Istio's: Linkerd's flags, a file of our own.

use anyhow::{Context, Result, ensure};
use shunt_abi::rule;
use shunt_redirect::nft::Installed;
use shunt_tests::cluster::Cluster;

use crate::inits::{proofs, said, summary};
use crate::{BOOTSTRAP, POD, cluster, expect_captured, get, named, replaced, rules};

const POLICY: &str = include_str!("../../data/kubernetes/policy.yaml");

/// The arguments of Linkerd's injector, which names its program by a path, with the port of our sidecar's readiness.
const LINKERD: &str = r#"["--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path",
           "iptables-nft-save", "--ipv6=false", "--incoming-proxy-port", "4143", "--outgoing-proxy-port", "4140",
           "--proxy-uid", "2102", "--inbound-ports-to-ignore", "4190,4191,4567,4568,15021",
           "--outbound-ports-to-ignore", "4567,4568"]"#;

/// The pod of the mesh as Linkerd would have it: other arguments, other ports, another uid.
fn linkerd() -> Result<[String; 2]> {
    let pod = named(POD, "app", "linkerd")?;
    let pod = replaced(
        &pod,
        "[shunt-init, istio-iptables]",
        "[/usr/lib/linkerd/linkerd2-proxy-init]",
    )?;
    let begin = pod.find("[-p, ").context("no arguments")?;
    let end = pod[begin..].find(']').context("no end of the arguments")?;
    let pod = format!("{}{LINKERD}{}", &pod[..begin], &pod[begin + end + 1..]);
    let pod = replaced(&pod, "runAsUser: 1337", "runAsUser: 2102")?;
    let pod = replaced(&pod, "runAsGroup: 1337", "runAsGroup: 2102")?;
    let pod = replaced(&pod, "name: sidecar }", "name: sidecar-linkerd }")?;
    let config = named(BOOTSTRAP, "sidecar", "sidecar-linkerd")?;
    let config = replaced(&config, "port_value: 15001", "port_value: 4140")?;
    let config = replaced(&config, "port_value: 15006", "port_value: 4143")?;
    Ok([config, pod])
}

/// What the init container of a pod has proved.
fn expect_proved(cluster: &Cluster, pod: &str) -> Result<()> {
    let said = said(cluster, pod, "shunt-init")?;
    let proofs = proofs(&said);
    ensure!(
        proofs.contains(&"live") && !proofs.contains(&"FAILED"),
        "{said}"
    );
    summary(&said).map(drop)
}

fn packets(rules: &Installed, key: &str) -> Result<u64> {
    let rule = rules.rule(key);
    Ok(rule
        .with_context(|| format!("there is no rule {key}"))?
        .packets)
}

#[test]
fn linkerds_flags_capture_both_directions() -> Result<()> {
    let cluster = cluster()?;
    for manifest in linkerd()? {
        cluster.apply(&manifest)?;
    }
    cluster.wait_ready("linkerd")?;
    expect_proved(cluster, "linkerd")?;
    let netns = cluster.netns("linkerd")?;
    let before = netns.rules()?;
    expect_captured(cluster, "linkerd", "linkerd")?;
    let after = netns.rules()?;

    let rose = |key| Ok::<u64, anyhow::Error>(packets(&after, key)? - packets(&before, key)?);
    ensure!(rose(rule::OUTBOUND_CAPTURE)? == 1, "{after:#?}");
    // The kubelet's probe of the application is captured, too.
    ensure!(rose(rule::INBOUND_CAPTURE)? >= 1, "{after:#?}");
    // The sidecar's own connections: to the client, and to the application.
    ensure!(rose(rule::PROXY_UID)? == 1, "{after:#?}");
    ensure!(rose(rule::INBOUND_SOURCE_V4)? >= 1, "{after:#?}");
    let listed = rules(cluster, "linkerd")?;
    for port in [4140, 4143] {
        ensure!(listed.contains(&format!("redirect to :{port}")), "{listed}");
    }
    ensure!(listed.contains("elements = { 2102 }"), "{listed}");
    cluster.delete("linkerd", 0)
}

#[test]
fn a_policy_from_a_config_map_is_carried_out() -> Result<()> {
    let cluster = cluster()?;
    let node = cluster.node()?;
    let server = node.http_app("beside", 0)?;
    let beside = node.v4(server.port());
    ensure!(POLICY.contains(&format!("[{}]", beside.ip())), "{beside}");
    cluster.apply(POLICY)?;
    let ip = cluster.wait_ready("policy")?.ip;
    expect_proved(cluster, "policy")?;
    expect_captured(cluster, "policy", "policy")?;

    let netns = cluster.netns("policy")?;
    let before = netns.rules()?;
    // Excluded, inbound: the client is seen itself.
    let client = cluster.pod_ip("client")?;
    let to = format!("{ip}:9081");
    let seen = get(cluster, ("client", "client"), &to, "/")?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(
        seen["server"] == "uncaptured" && peer.starts_with(&format!("{client}:")),
        "{seen}"
    );
    // Excluded, outbound.
    let seen = get(cluster, ("policy", "app"), &beside.to_string(), "/")?;
    ensure!(seen["server"] == "beside", "{seen}");
    let after = netns.rules()?;
    let rose = |key| Ok::<u64, anyhow::Error>(packets(&after, key)? - packets(&before, key)?);
    ensure!(rose(rule::OUTBOUND_CAPTURE)? == 0, "{after:#?}");
    ensure!(rose(rule::OUTBOUND_EXCLUDE_V4)? == 1, "{after:#?}");
    // With the kubelet's probe of the sidecar.
    ensure!(rose(rule::INBOUND_EXCLUDE_PORTS)? >= 1, "{after:#?}");
    let logged = cluster.logs("policy", "sidecar")?;
    let beside = beside.to_string();
    ensure!(
        !logged.contains(&beside) && !logged.contains(&to),
        "{logged}"
    );
    cluster.delete("policy", 0)
}
