//! A real Kubernetes of one node, started from nothing in seconds, gone without a trace.
//!
//! The real etcd, API server, controller manager, scheduler, kubelet, containerd and runc, in
//! namespaces of their own: nothing is changed on the machine but a folder for temporary files, a
//! cgroup, and one port on loopback that leads to the API server. Several clusters can live beside
//! each other; all use the same addresses inside. There is no kube-proxy and no DNS: balancing is
//! what the sidecar is for.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use shunt_tests::cluster::Cluster;
//!
//! let cluster = Cluster::start()?;
//! cluster.apply(include_str!("../../data/kubernetes/client.yaml"))?;
//! let client = cluster.wait_ready("client")?;
//! let rules = cluster.netns("client")?.ruleset()?;
//! println!("{} {rules} {:?}", client.ip, cluster.events("client")?);
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `home` | the folder of a cluster; tells remains from the living |
//! | `node` | the other side: guard, process 1, parts, their configuration, mounts, cgroups |
//! | `kubectl`, `pods` | what tests ask of it |
//! | `image`, `tar`, `containerd` | images made here, and brought in |

mod containerd;
mod home;
mod image;
mod kubectl;
pub mod node;
mod pods;
mod tar;

pub use home::Home;
pub use image::Image;
pub use kubectl::{Kubectl, PATIENCE};
pub use pods::PodState;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::node::{say, word};
use crate::expect::eventually::poll;
use crate::programs;

/// The image of every pod's first container, which holds its namespaces.
const PAUSE: &str = "shunt.test/pause:1";

/// The kind of cluster that tests start.
pub const FOR_TESTS: &str = "test";

/// A running cluster; it ends, with everything of it, on drop or with this process.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    kubectl: Kubectl,
    /// The guard, and the rope by which it hangs on this process. None: it belongs to a person.
    guard: Option<(Child, ChildStdin)>,
}

impl Cluster {
    /// Starts a cluster for tests and waits until pods can be created.
    ///
    /// # Errors
    /// Something of it is not installed or does not start; the log's end is in the error.
    pub fn start() -> Result<Self> {
        Self::start_showing(|_| ())
    }

    /// As [`Cluster::start`]; `show` is told each step.
    ///
    /// # Errors
    /// As for [`Cluster::start`].
    pub fn start_showing(show: impl FnMut(&str)) -> Result<Self> {
        let mut guard = guard_command(FOR_TESTS, word::ROPE)?
            .stdin(Stdio::piped())
            .spawn()
            .context("starting a cluster's guard")?;
        let rope = guard.stdin.take().context("the guard has no input")?;
        let home = follow(&mut guard, show)?;
        Ok(Self {
            kubectl: Kubectl::new(&home)?,
            home,
            guard: Some((guard, rope)),
        })
    }

    /// Starts a cluster that outlives this process, until [`Cluster::end_all`].
    ///
    /// # Errors
    /// As for [`Cluster::start`].
    pub fn keep(kind: &str, show: impl FnMut(&str)) -> Result<Self> {
        let mut guard = guard_command(kind, word::KEEP)?
            .stdin(Stdio::null())
            // Why it does not start it says on its output; later nobody is there to read.
            .stderr(Stdio::null())
            .spawn()
            .context("starting a cluster's guard")?;
        let home = follow(&mut guard, show)?;
        Self::at(&home)
    }

    /// A cluster that runs already, of whoever started it.
    ///
    /// # Errors
    /// There is no `kubectl`.
    pub fn at(home: &Home) -> Result<Self> {
        Ok(Self {
            kubectl: Kubectl::new(home)?,
            home: home.clone(),
            guard: None,
        })
    }

    /// The same cluster, with pods looked for in another of its namespaces. It ends no sooner.
    pub fn in_namespace(&self, name: &str) -> Self {
        Self {
            home: self.home.clone(),
            kubectl: self.kubectl.in_namespace(name),
            guard: None,
        }
    }

    /// Passes if this machine lets a cluster have cgroups of its own.
    ///
    /// # Errors
    /// It does not; the path is in the error.
    pub fn expect_possible() -> Result<()> {
        let home = Home::create("probe")?;
        let made = node::cgroup::make(home.name());
        let removed = home.remove();
        made.and(removed)
    }

    /// Ends all kept clusters of a kind and removes what dead ones left; says how many lived.
    ///
    /// # Errors
    /// One does not end, or something cannot be removed.
    pub fn end_all(kind: &str) -> Result<usize> {
        let mut ended = 0;
        for home in Home::all(kind)? {
            let Some(pid) = home.guard() else { continue };
            kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)
                .with_context(|| format!("ending {}", home.name()))?;
            poll(PATIENCE, || home.guard().is_none().then_some(())).with_context(|| {
                format!("the guard of {} (process {pid}) does not end", home.name())
            })?;
            ended += 1;
        }
        Home::clean(kind)?;
        Ok(ended)
    }

    /// Ends it and waits until all is gone.
    ///
    /// # Errors
    /// The guard could not remove something.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some((mut guard, rope)) = self.guard.take() else {
            return Ok(());
        };
        drop(rope);
        let status = guard.wait().context("waiting for the guard")?;
        ensure!(status.success(), "the cluster's guard ended with {status}");
        Ok(())
    }

    /// Its folder.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Any other verb of `kubectl`.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Brings an image in; pods with `imagePullPolicy: IfNotPresent` or `Never` find it.
    ///
    /// # Errors
    /// It cannot be written or is refused.
    pub fn import_image(&self, image: &Image) -> Result<()> {
        containerd::import(&self.home, image)
    }

    /// Traces of a cluster on the machine: its folder, its cgroups, its processes.
    ///
    /// # Errors
    /// The mounts cannot be read.
    pub fn traces(home: &Home) -> Result<Vec<String>> {
        let mut traces = Vec::new();
        if home.folder().exists() {
            traces.push(home.folder().display().to_string());
        }
        let cgroups = node::cgroup::existing(home.name())?;
        traces.extend(cgroups.iter().map(|path| path.display().to_string()));
        // Parts and containers name the folder or the cgroup somewhere.
        for entry in std::fs::read_dir("/proc").context("reading /proc")? {
            let process = entry?.path();
            let names_it = ["cmdline", "cgroup"].iter().any(|file| {
                let text = std::fs::read(process.join(file)).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(home.name())
            });
            if names_it {
                traces.push(process.display().to_string());
            }
        }
        traces.extend(home.guard().map(|pid| format!("its guard, process {pid}")));
        Ok(traces)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// The guard's program, in a process group of its own: Ctrl-C is for whoever started it, and the
/// guard hears of that by its rope.
fn guard_command(kind: &str, until: &str) -> Result<Command> {
    let mut command = Command::new(programs::test_node()?);
    command
        .args([word::GUARD, kind, until])
        .arg(programs::test_app()?)
        .process_group(0)
        .stdout(Stdio::piped());
    Ok(command)
}

/// Reads what a guard says until its cluster is ready.
fn follow(guard: &mut Child, mut show: impl FnMut(&str)) -> Result<Home> {
    let stdout = guard.stdout.take().context("the guard has no output")?;
    let mut home = None;
    let mut why = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading what the guard says")?;
        if let Some(folder) = line.strip_prefix(say::HOME) {
            home = Some(Home::at(PathBuf::from(folder)));
        } else if let Some(step) = line.strip_prefix(say::STEP) {
            show(step);
        } else if line == say::READY {
            return home.context("the guard named no folder");
        } else {
            why.push_str(&line);
            why.push('\n');
        }
    }
    let status = guard.wait().context("waiting for the guard")?;
    bail!("the cluster did not start ({status}):\n{why}")
}
