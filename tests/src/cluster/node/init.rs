//! The init: process 1 of the node's namespaces. Starts the parts in their order and then reaps
//! whatever is left to it.

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::parts::{Parts, obituary};
use super::{NODE, NODE_ADDRESS, mounts, say};
use crate::cluster::image::Image;
use crate::cluster::{Home, PAUSE, containerd};
use crate::expect::eventually::poll;
use crate::net::Namespace;
use crate::peers;

/// How long each step may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(240);

/// Is the init until something it cannot do without ends.
pub(super) fn run(home: &Home, pause: &Path) -> Result<()> {
    mounts::set_up(home)?;
    let node = Namespace::current("node")?;
    node.set_up_alone(IpAddr::V4(NODE_ADDRESS))?;
    let mut parts = Parts::new(home.clone());
    step("etcd, kube-apiserver and containerd start");
    parts.start_first()?;

    let image = Image::scratch(PAUSE)
        .program("/pause", pause)?
        .entrypoint(&["/pause", "pause"]);
    let mut imported = Err(anyhow::Error::msg("not tried"));
    await_step(&mut parts, "containerd answers", || {
        home.containerd().exists()
    })?;
    await_step(&mut parts, "containerd takes an image", || {
        imported = containerd::import(home, &image);
        imported.is_ok()
    })
    .or_else(|error| imported.context(format!("{error:#}")))?;

    let kubectl = Kubectl::new(home)?;
    await_step(&mut parts, "the API server answers", || {
        kubectl.says(&["get", "--raw", "/readyz"], "ok")
    })?;
    step("kube-controller-manager, kube-scheduler and kubelet start");
    parts.start_second()?;
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    await_step(&mut parts, "the node is ready", || {
        kubectl.says(&["get", "node", NODE, "-o", ready], "True")
    })?;
    let untainted = "jsonpath=-{.spec.taints}-";
    await_step(&mut parts, "pods may run on the node", || {
        kubectl.says(&["get", "node", NODE, "-o", untainted], "--")
    })?;
    let account = ["get", "serviceaccount", "default", "-o", "name"];
    await_step(&mut parts, "pods can be created", || {
        kubectl.says(&account, "serviceaccount/default")
    })?;
    say(say::READY);
    reap(home, &parts)
}

/// Waits for processes that lost their parent, and for parts, which must not end.
fn reap(home: &Home, parts: &Parts) -> Result<()> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the status and lives through the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        let pid = u32::try_from(pid).context("waiting: no process is left")?;
        if let Some(name) = parts.name_of(pid) {
            bail!("{}", obituary(home, name, ExitStatus::from_raw(status)));
        }
    }
}

fn await_step(parts: &mut Parts, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let outcome = poll(PATIENCE, || match parts.expect_alive() {
        Err(error) => Some(Err(error)),
        Ok(()) => done().then_some(Ok(())),
    });
    outcome.with_context(|| format!("waiting until {what}: not within {PATIENCE:?}"))??;
    step(what);
    Ok(())
}

fn step(what: &str) {
    say(&format!("{}{what}", say::STEP));
}

#[expect(clippy::print_stdout, reason = "whoever started the guard reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// `kubectl` as the administrator, from inside.
struct Kubectl<'a> {
    home: &'a Home,
    program: PathBuf,
}

impl<'a> Kubectl<'a> {
    fn new(home: &'a Home) -> Result<Self> {
        let program = peers::program("kubectl")?;
        Ok(Self { home, program })
    }

    /// Whether it answers this, and nothing else.
    fn says(&self, args: &[&str], wanted: &str) -> bool {
        let output = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(self.home.file("admin.kubeconfig"))
            .arg("--cache-dir")
            .arg(self.home.file("kubectl"))
            .args(args)
            .output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted)
    }
}
