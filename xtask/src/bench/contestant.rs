//! Who takes part in the benches of the sidecar, and how each is started.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;
use super::process::Process;
use super::{configuration, program};
use crate::workspace::capture;

/// The core of the proxy.
const PROXY_CORE: usize = 0;
/// The core of the load and the upstream.
const LOAD_CORE: usize = 1;
/// The host header of every request.
pub(super) const AUTHORITY: &str = "reviews.default.svc.cluster.local:9080";
/// Two endpoints on one address: another loopback address would be captured on its way there.
const UPSTREAMS: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8081"];
/// Where requests enter a proxy.
const ENTRY: &str = "127.0.0.1:10000";
/// Where Envoy and the sidecar say that they are ready.
const ADMIN: &str = "127.0.0.1:15000";
/// Where nginx takes HTTP/1.1 beside calls of gRPC: it cannot tell one from the other.
const HTTP1_BESIDE: &str = "127.0.0.1:10003";
/// Where streams enter a proxy, and where they end.
const STREAMS: &str = "127.0.0.1:10001";
/// Where new connections enter one that speaks TLS.
const HANDSHAKES: &str = "127.0.0.1:10002";
const FAR_END: &str = "127.0.0.1:8082";
/// Whoever is not root is captured; the load takes this uid, the proxies stay root.
const APPLICATION: &str = "65534";

/// How a contestant is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row of the ladder: a name that `shunt-bench row` knows.
    Row(&'static str),
    Shunt(Setting),
    Envoy(Setting),
    HaProxy,
    Nginx,
    /// HTTP/2 on both sides, with the routes of the others.
    Grpc(Peer),
    /// Out by mutual TLS and in again, both in one process; streams at 10001, new connections
    /// at 10002.
    Tls(Peer),
    /// Without HTTP: the exchange at 10000, streams at 10001.
    Tcp(Tcp),
    /// No proxy: the upstream itself, on the core of the load.
    Direct,
}

/// A proxy that has one setting only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Shunt,
    HaProxy,
    Nginx,
    Envoy,
}

impl Peer {
    /// All of them, by name: Shunt first, and last the one that ratios are taken to.
    pub(super) const ALL: [(&str, Self); 4] = [
        ("shunt-agent", Self::Shunt),
        ("HAProxy", Self::HaProxy),
        ("nginx", Self::Nginx),
        ("Envoy", Self::Envoy),
    ];
}

/// Who passes bytes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tcp {
    Shunt,
    Envoy,
    HaProxy {
        /// `option splice-auto`.
        splices: bool,
    },
    Nginx,
}

/// What an Envoy bootstrap says beside the routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Connections arrive by the real rules instead of directly.
    pub(super) captured: bool,
    /// Istio's format to standard output, which is discarded.
    pub(super) access_log: bool,
    /// A time limit for each request (Envoy's default, 15 s) instead of none (Istio's).
    pub(super) timeout: bool,
}

/// The setting most rows share: direct, no log, no limit.
pub(super) const PLAIN: Setting = Setting {
    captured: false,
    access_log: false,
    timeout: false,
};

/// A proxy that runs in a namespace of its own, with its upstream.
pub(super) struct Contestant {
    pub(super) namespace: Namespace,
    pub(super) proxy: Process,
    /// From its start to the first answered request (behind capture: to the admin's word).
    pub(super) ready_after: Duration,
    target: SocketAddr,
    captured: bool,
    _upstream: Process,
    _far_end: Option<Process>,
}

impl Contestant {
    /// Starts upstream and proxy, and waits until a request gets through. `name` is for files.
    ///
    /// # Errors
    /// When it does not start or never serves; says what the proxy said.
    pub(super) fn start(name: &str, kind: Kind) -> Result<Self> {
        let captured =
            matches!(kind, Kind::Shunt(setting) | Kind::Envoy(setting) if setting.captured);
        let namespace = if captured {
            Namespace::pod()?
        } else {
            Namespace::new()?
        };
        // Root's own connections are not captured, so behind capture the admin interface is asked.
        let (target, asked) = match kind {
            _ if captured => ("10.96.0.10:9080", ADMIN),
            Kind::Grpc(Peer::Nginx) => (ENTRY, HTTP1_BESIDE),
            _ => (ENTRY, ENTRY),
        };
        let target: SocketAddr = target.parse().context("parsing our own address")?;
        let asked: SocketAddr = asked.parse().context("parsing our own address")?;
        let upstream = namespace.run_on(LOAD_CORE, || {
            let mut command = Command::new(program("shunt-bench"));
            command.arg(match kind {
                Kind::Grpc(_) => "grpc-upstream",
                _ => "upstream",
            });
            command.args(UPSTREAMS);
            Process::start(&format!("{name}-upstream"), command)
        })?;
        let far_end = match kind {
            Kind::Tcp(_) | Kind::Tls(_) => Some(namespace.run_on(LOAD_CORE, || {
                let mut command = Command::new(program("shunt-bench"));
                command.args(["sink", FAR_END]);
                Process::start(&format!("{name}-far-end"), command)
            })?),
            _ => None,
        };
        let command = configuration::command(name, kind, UPSTREAMS)?;
        if captured {
            namespace.run(capture_everything)?;
        }
        let core = match kind {
            Kind::Direct => LOAD_CORE,
            _ => PROXY_CORE,
        };
        let outcome = namespace.run_on(core, || {
            let start = Instant::now();
            let mut proxy = Process::start(name, command)?;
            proxy.wait_until_it_serves(asked, AUTHORITY)?;
            Ok((proxy, start.elapsed()))
        });
        let (proxy, ready_after) = outcome.with_context(|| format!("starting {name}"))?;
        Ok(Self {
            namespace,
            proxy,
            ready_after,
            target,
            captured,
            _upstream: upstream,
            _far_end: far_end,
        })
    }

    /// A `shunt-bench` verb aimed at this proxy, from where the load runs.
    pub(super) fn client(&self, verb: &str) -> Command {
        let mut command = Command::new(program("shunt-bench"));
        command.args([verb, "--authority", AUTHORITY, "--to"]);
        command.arg(self.target.to_string());
        if self.captured {
            command.args(["--uid", APPLICATION]);
        }
        command
    }

    /// The verb that sends streams through this proxy.
    pub(super) fn streams(&self) -> Command {
        let mut command = Command::new(program("shunt-bench"));
        command.args(["stream", "--to", STREAMS]);
        command
    }

    /// The verb that opens connections of which each makes a handshake.
    pub(super) fn handshakes(&self) -> Command {
        let mut command = Command::new(program("shunt-bench"));
        command.args(["churn", "--authority", AUTHORITY, "--to", HANDSHAKES]);
        command
    }

    /// Runs such a command to its end on the core of the load.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn measure(&self, mut command: Command) -> Result<String> {
        self.namespace.run_on(LOAD_CORE, || capture(&mut command))
    }
}

/// Writes the real rules into this thread's namespace, with root as the proxy's identity.
fn capture_everything() -> Result<()> {
    let arguments =
        "istio-iptables -p 15001 -z 15006 -u 0 -g 0 -m REDIRECT -i * -b * -d 15090,15021,15020";
    capture(Command::new(program("shunt-init")).args(arguments.split(' ')))?;
    Ok(())
}
