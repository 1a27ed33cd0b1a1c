//! Pods with `hostUsers: false`, whose root is nobody outside.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use shunt_tests::client::http::Request;
use shunt_tests::expect::access_log::AccessRecord;
use shunt_tests::expect::eventually::{eventually, poll};
use shunt_tests::init::INJECTED;
use shunt_tests::net::{Namespace, Network, Pod, User};
use shunt_tests::process::{Command, Running};
use shunt_tests::{DEADLINE, programs, scene};

use crate::{POD, cluster, named, replaced};

/// What containerd before 2.0 makes the kubelet say. A test that fails here has met a newer one:
/// then the test below belongs into a pod.
const UNSUPPORTED: &str = "runtime does not support user namespaces";

#[test]
fn this_container_runtime_cannot_run_a_pod_in_a_user_namespace() -> Result<()> {
    let cluster = cluster()?;
    let pod = named(POD, "app", "no-host-users")?;
    let pod = replaced(&pod, "spec:\n", "spec:\n  hostUsers: false\n")?;
    cluster.apply(&pod)?;
    let said = poll(DEADLINE, || {
        let events = cluster.events("no-host-users").ok()?;
        events.into_iter().find(|event| event.contains(UNSUPPORTED))
    });
    if said.is_none() {
        bail!("not refused: {}", cluster.report("no-host-users"));
    }
    cluster.delete("no-host-users", 0)
}

#[test]
fn rules_and_sidecar_work_in_a_user_namespace() -> Result<()> {
    let net = Network::new("user-namespace")?;
    let users = UserNamespace::new()?;
    let pod = net.pod("pod").inside(users.network()?).build()?;
    let peer = net.pod("peer").build()?;

    let init = users.command(&pod, User::ROOT, programs::shunt_init()?);
    init.args(INJECTED).finish()?.success()?;
    let sidecar = users.command(&pod, User::PROXY, programs::shunt_agent()?);
    let mut sidecar = sidecar
        .args(["sidecar", "--config", "/dev/stdin"])
        .stdin_text(scene::BOOTSTRAP)?
        .start()?;
    pod.wait_until_ready(|| match sidecar.ended()? {
        Some(status) => bail!("the sidecar: {status}\n{}", sidecar.stderr().text()),
        None => Ok(()),
    })?;

    // In: the application of the pod sees the sidecar, never the client.
    let _app = pod.http_app("app", scene::HTTP)?;
    let request = Request::get("/in");
    let seen = peer
        .as_user(User::APP)
        .request(pod.v4(scene::HTTP), &request)?
        .json()?;
    let from = seen["peer"].as_str().unwrap_or_default();
    ensure!(from.starts_with("127.0.0.6:"), "the application saw {from}");

    // Out, by a process whose uid counts in the namespace.
    let _peer_app = peer.http_app("peer", scene::HTTP)?;
    let to = peer.v4(scene::HTTP).to_string();
    let app = users.command(&pod, User::APP, programs::test_app()?);
    app.args(["get", &to, "/out"]).finish()?.success()?;
    sidecar.stdout().wait_until(|lines| {
        let records = AccessRecord::all(lines).ok()?;
        let outbound = |record: &AccessRecord| record.get("upstream_host") == to;
        records.iter().any(outbound).then_some(())
    })
}

/// A user namespace as a container runtime makes it: root and 65535 more users are mapped to ids
/// that own nothing outside. It owns a network namespace.
struct UserNamespace {
    holder: Running,
}

impl UserNamespace {
    /// The first id outside.
    const OUTSIDE: u32 = 1_000_000;

    fn new() -> Result<Self> {
        let here = Namespace::current("here")?;
        let ours = fs::read_link("/proc/self/ns/net")?;
        let holder = Command::inside(here, "unshare")
            .args(["--user", "--net", "--"])
            .arg(programs::test_app()?)
            .arg("pause")
            .start()?;
        let folder = format!("/proc/{}", holder.pid());
        eventually("the namespaces are made", || {
            fs::read_link(format!("{folder}/ns/net")).is_ok_and(|link| link != ours)
        })?;
        for map in ["uid_map", "gid_map"] {
            let path = format!("{folder}/{map}");
            fs::write(&path, format!("0 {} 65536", Self::OUTSIDE))
                .with_context(|| format!("writing {path}"))?;
        }
        Ok(Self { holder })
    }

    fn network(&self) -> Result<Namespace> {
        let namespace = Namespace::of_process(self.holder.pid(), "pod")?;
        namespace.set_up()?;
        Ok(namespace)
    }

    /// A program inside, with no more privileges than its container would have.
    fn command(&self, pod: &Pod, user: User, program: PathBuf) -> Command {
        let target = format!("--target={}", self.holder.pid());
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        let mut command = pod
            .command("nsenter")
            .args([&target, "--user", "--setuid", &uid, "--setgid", &gid])
            .args(["--", "setpriv", "--no-new-privs"]);
        if user == User::ROOT {
            command = command.args(["--bounding-set", "-all,+net_admin,+net_raw"]);
        }
        command.arg(program)
    }
}
