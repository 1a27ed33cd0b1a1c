//! The pods, and what runs in them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use shunt_tests::client::http::Request;
use shunt_tests::net::{Network, Pod, User};
use shunt_tests::process::{Command, Running};

use super::app::{self, Role};
use super::remains;
use crate::workspace;

/// The HTTP service that the client calls. No machine owns the address.
pub(super) const SERVICE: SocketAddr = service([10, 96, 0, 10], 9080);
/// The TCP service in which the client speaks first.
pub(super) const ECHO: SocketAddr = service([10, 96, 0, 11], app::ECHO_PORT);
/// The TCP service in which the server speaks first.
pub(super) const GREETER: SocketAddr = service([10, 96, 0, 12], app::GREETER_PORT);

const fn service(ip: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = ip;
    SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}

/// Everything the demonstration made; on drop it is gone, unless it is to be kept.
pub(super) struct Stage {
    pub(super) client: Actor,
    pub(super) reviews: [Actor; 2],
    network: Network,
    keep: bool,
}

/// A pod and its processes.
pub(super) struct Actor {
    pub(super) pod: Pod,
    bootstrap: PathBuf,
    app: Option<Process>,
    sidecar: Option<Process>,
    sidecar_took: String,
}

/// A process, which ends with this one or outlives it.
enum Process {
    Tied(Running),
    Kept { pid: u32, output: PathBuf },
}

impl Stage {
    /// Makes the pods and starts the applications.
    pub(super) fn build(keep: bool) -> Result<Self> {
        let network = Network::new("demo")?;
        if keep {
            remains::remember_namespace(network.router(), "router")?;
        }
        let actor = |name: &str, host: u8, bootstrap: &str| -> Result<Actor> {
            // The addresses are written in the bootstraps.
            let pod = network
                .pod(name)
                .v4(Ipv4Addr::new(10, 244, 0, host))
                .build()?;
            if keep {
                remains::remember_namespace(pod.namespace(), name)?;
            }
            let bootstrap = workspace::root().join("tests/data/demo").join(bootstrap);
            Ok(Actor {
                pod,
                bootstrap,
                app: None,
                sidecar: None,
                sidecar_took: String::new(),
            })
        };
        let client = actor("client", 2, "client.yaml")?;
        let mut reviews = [
            actor("reviews-v1", 3, "reviews.yaml")?,
            actor("reviews-v2", 4, "reviews.yaml")?,
        ];
        for (actor, role) in reviews.iter_mut().zip([Role::ReviewsV1, Role::ReviewsV2]) {
            actor.start_app(role, keep)?;
        }
        Ok(Self {
            client,
            reviews,
            network,
            keep,
        })
    }

    /// Every pod.
    pub(super) fn actors(&self) -> [&Actor; 3] {
        let [v1, v2] = &self.reviews;
        [&self.client, v1, v2]
    }

    pub(super) fn describe(&self) -> String {
        let pods: Vec<_> = self
            .actors()
            .iter()
            .map(|actor| format!("{} {}", actor.name(), actor.pod.v4(0).ip()))
            .collect();
        format!("{}: namespaces joined by a bridge", pods.join(", "))
    }

    /// Runs `shunt-init` in each pod; returns what is to be told.
    pub(super) fn write_rules(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for actor in self.actors() {
            let begun = Instant::now();
            actor.pod.apply_rules(&[])?;
            let took = begun.elapsed();
            let rules = actor.pod.rules()?.rules.len();
            lines.push(format!(
                "{:<10}  {rules} rules in {} ms",
                actor.name(),
                took.as_millis()
            ));
        }
        Ok(lines)
    }

    /// Starts a sidecar in each pod and waits until each is ready.
    pub(super) fn start_sidecars(&mut self) -> Result<()> {
        let keep = self.keep;
        let [v1, v2] = &mut self.reviews;
        for actor in [v1, v2, &mut self.client] {
            actor.start_sidecar(keep)?;
        }
        Ok(())
    }

    pub(super) fn describe_sidecars(&self) -> Vec<String> {
        self.actors()
            .iter()
            .map(|actor| actor.sidecar_took.clone())
            .collect()
    }

    /// The processes, for the check that they are gone.
    pub(super) fn pids(&self) -> Vec<u32> {
        let processes = self
            .actors()
            .into_iter()
            .flat_map(|actor| [&actor.app, &actor.sidecar]);
        processes.flatten().map(Process::pid).collect()
    }

    /// Lets go of everything without ending it. The namespaces live by their names from now on.
    pub(super) fn keep(self) -> Result<()> {
        drop(self.network);
        Ok(())
    }
}

impl Actor {
    pub(super) fn name(&self) -> &str {
        self.pod.name()
    }

    /// What the application counted.
    pub(super) fn counted(&self) -> Result<app::Counts> {
        app::Counts::ask(&self.pod)
    }

    /// The sidecar's access log so far.
    pub(super) fn access_log(&self) -> Result<Vec<String>> {
        let process = self
            .sidecar
            .as_ref()
            .context("the sidecar is not running")?;
        let text = process.output()?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with("[20"))
            .map(str::to_owned)
            .collect())
    }

    fn start_app(&mut self, role: Role, keep: bool) -> Result<()> {
        let program = std::env::current_exe().context("looking for the own executable")?;
        let command = self
            .pod
            .command(program)
            .args(["demo", "--app", role.pod()])
            .user(User::APP);
        let mut process = Process::start(command, &format!("{}-app", self.name()), keep)?;
        process.wait_until(|| app::Counts::ask(&self.pod).is_ok())?;
        self.app = Some(process);
        Ok(())
    }

    fn start_sidecar(&mut self, keep: bool) -> Result<()> {
        let begun = Instant::now();
        let command = self.pod.sidecar_command(&self.bootstrap)?;
        let mut process = Process::start(command, &format!("{}-sidecar", self.name()), keep)?;
        self.pod
            .wait_until_ready(|| process.check())
            .with_context(|| format!("it said:\n{}", process.output().unwrap_or_default()))?;
        self.sidecar_took = format!(
            "{:<10}  uid 1337, ready after {} ms, {}",
            self.name(),
            begun.elapsed().as_millis(),
            shown(&self.bootstrap)
        );
        self.sidecar = Some(process);
        Ok(())
    }
}

impl Process {
    fn start(command: Command, name: &str, keep: bool) -> Result<Self> {
        if keep {
            let output = remains::output(name)?;
            let pid = command.detach(&output)?;
            remains::remember_process(name, pid)?;
            return Ok(Self::Kept { pid, output });
        }
        Ok(Self::Tied(command.start()?))
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Tied(running) => running.pid(),
            Self::Kept { pid, .. } => *pid,
        }
    }

    fn output(&self) -> Result<String> {
        match self {
            Self::Tied(running) => Ok(format!(
                "{}{}",
                running.stderr().text(),
                running.stdout().text()
            )),
            Self::Kept { output, .. } => std::fs::read_to_string(output)
                .with_context(|| format!("reading {}", output.display())),
        }
    }

    /// Fails if the process has ended.
    fn check(&mut self) -> Result<()> {
        let ended = match self {
            Self::Tied(running) => running.ended()?.is_some(),
            Self::Kept { pid, .. } => remains::has_ended(*pid),
        };
        if ended {
            bail!("it ended");
        }
        Ok(())
    }

    fn wait_until(&mut self, condition: impl Fn() -> bool) -> Result<()> {
        let done = shunt_tests::expect::eventually::poll(shunt_tests::DEADLINE, || {
            if condition() {
                Some(Ok(()))
            } else {
                self.check().err().map(Err)
            }
        });
        done.context("not within the time")
            .flatten()
            .with_context(|| format!("it said:\n{}", self.output().unwrap_or_default()))
    }
}

/// A path as it is written from the top of the tree.
fn shown(path: &Path) -> String {
    path.strip_prefix(workspace::root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A request for the service, as the client's library would send it.
pub(super) fn request(canary: bool) -> Request {
    let request = Request::get("/reviews/0")
        .header("host", "reviews:9080")
        .header("user-agent", "demo/1");
    if canary {
        request.header("x-canary", "always")
    } else {
        request
    }
}
