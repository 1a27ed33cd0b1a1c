//! The files of the sidecar: what stands in them, and what each change writes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use serde_json::json;
use shunt_tests::ca::Ca;
use shunt_tests::folder::Folder;
use shunt_tests::prelude::*;

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The listener whose chains never change, with routes from a file.
pub(crate) const STEADY: SocketAddr = local(8080);
/// The listener of TCP streams, which never changes either; by TLS to the one beside it.
pub(crate) const STREAMS: SocketAddr = local(8081);
/// The listener of which one chain changes with its file, and another does not.
pub(crate) const CHANGING: SocketAddr = local(8082);
/// Whose connections get that other chain.
pub(crate) const UNCHANGED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// The listener that comes and goes.
pub(crate) const VISITING: SocketAddr = local(8083);
/// Where TLS ends: requests, and streams.
const TLS_REQUESTS: SocketAddr = local(8443);
const TLS_STREAMS: SocketAddr = local(8444);

/// The applications.
pub(crate) const ONE: u16 = 9001;
pub(crate) const TWO: u16 = 9002;
pub(crate) const STREAM: u16 = 9003;
pub(crate) const ECHO: u16 = 9004;
pub(crate) const WHO: u16 = 9005;

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// What stands in the files.
#[derive(Clone)]
pub(crate) struct Version {
    /// What the routes answer themselves.
    pub(crate) routes: usize,
    /// Which application the endpoints of one cluster are.
    pub(crate) endpoints: u16,
    /// Which application the other cluster is.
    pub(crate) cluster: u16,
    /// What the chain that changes answers.
    pub(crate) chain: usize,
    /// What the listener that comes and goes answers, while it is there.
    pub(crate) visiting: Option<usize>,
    /// The number in the identity of both ends of TLS.
    pub(crate) identity: usize,
}

impl Version {
    fn other(port: u16) -> u16 {
        if port == ONE { TWO } else { ONE }
    }
}

/// Something in a file that a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Routes,
    Endpoints,
    Cluster,
    Chain,
    Visiting,
    Identity,
}

impl Part {
    pub(crate) const ALL: [Self; 6] = {
        use Part::{Chain, Cluster, Endpoints, Identity, Routes, Visiting};
        [Routes, Endpoints, Cluster, Chain, Visiting, Identity]
    };

    /// What a client is told of it.
    pub(crate) fn told(self, version: &Version) -> String {
        match self {
            Self::Routes => version.routes.to_string(),
            Self::Endpoints => version.endpoints.to_string(),
            Self::Cluster => version.cluster.to_string(),
            Self::Chain => version.chain.to_string(),
            Self::Visiting => version
                .visiting
                .map_or_else(|| GONE.to_owned(), |number| number.to_string()),
            Self::Identity => {
                let number = version.identity;
                format!("spiffe://td/{number} spiffe://td/{number}")
            }
        }
    }
}

/// What a client is told where nobody listens.
pub(crate) const GONE: &str = "nobody listens";

/// A file that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    Routes,
    Endpoints,
    Cluster,
    Field,
    TakenPort,
    Secret,
    Text,
}

impl Bad {
    pub(crate) const ALL: [Self; 7] = {
        use Bad::{Cluster, Endpoints, Field, Routes, Secret, TakenPort, Text};
        [Routes, Endpoints, Cluster, Field, TakenPort, Secret, Text]
    };

    /// What counts it, and how often for each time.
    pub(crate) fn counted(self) -> (&'static str, u64) {
        match self {
            Self::Routes => ("envoy_http_rds_update_rejected", 1),
            Self::Endpoints => ("envoy_cluster_update_rejected", 1),
            Self::Cluster => ("envoy_cluster_manager_cds_update_rejected", 1),
            Self::Field | Self::TakenPort => ("envoy_listener_manager_lds_update_rejected", 1),
            // Once for each secret.
            Self::Secret => ("envoy_sds_update_rejected", 2),
            Self::Text => ("envoy_listener_manager_lds_update_failure", 1),
        }
    }
}

/// The files, and who vouches for the identities in them.
pub(crate) struct Files {
    folder: Folder,
    ca: Ca,
}

impl Files {
    /// They hold this.
    pub(crate) fn new(version: &Version) -> Result<Self> {
        let files = Self {
            folder: Folder::new()?,
            ca: Ca::new()?,
        };
        for part in Part::ALL {
            files.write(part, version)?;
        }
        files.clusters(version)?;
        Ok(files)
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!(
            "dynamic_resources:\n  lds_config: {}\n  cds_config: {}\n",
            self.source("lds.yaml"),
            self.source("cds.yaml")
        )
    }

    /// Make a change to a part that a client sees; returns the moment at which it was made.
    pub(crate) fn change(
        &self,
        part: Part,
        number: usize,
        version: &mut Version,
    ) -> Result<Instant> {
        match part {
            Part::Routes => version.routes = number,
            Part::Endpoints => version.endpoints = Version::other(version.endpoints),
            Part::Cluster => version.cluster = Version::other(version.cluster),
            Part::Chain => version.chain = number,
            Part::Visiting => {
                version.visiting = match version.visiting {
                    Some(_) => None,
                    None => Some(number),
                }
            }
            Part::Identity => version.identity = number,
        }
        self.write(part, version)
    }

    fn write(&self, part: Part, version: &Version) -> Result<Instant> {
        match part {
            Part::Routes => self.routes(version, "[\"*\"]"),
            Part::Endpoints => self.endpoints(version.endpoints.into()),
            Part::Cluster => self.clusters(version),
            Part::Chain | Part::Visiting => self.listeners(version, ""),
            Part::Identity => self.secrets(version.identity, version.identity),
        }
    }

    /// Put a wrong file in its place: what is right in it is a change too.
    pub(crate) fn put_bad(&self, bad: Bad, number: usize, version: &Version) -> Result<Instant> {
        let mut version = version.clone();
        (version.routes, version.chain) = (number, number);
        version.cluster = Version::other(version.cluster);
        match bad {
            Bad::Routes => self.routes(&version, "[\"*\", \"*\"]"),
            Bad::Endpoints => self.endpoints(70_000),
            Bad::Cluster => {
                // A cluster without a name beside those that are right.
                let nameless = fixed("\"\"", ONE, "");
                self.put("cds.yaml", &format!("{}{nameless}", self.all(&version)))
            }
            Bad::Field => self.listeners(&version, "  no_such_field: 1\n"),
            Bad::TakenPort => {
                let taken = listener("taken", local(ONE), &[chain(&direct("taken"), "")]);
                self.listeners(&version, &taken)
            }
            Bad::Secret => self.secrets(number, number + 1),
            // Cut in the middle of a line.
            Bad::Text => Ok(self.folder.moved("lds.yaml", "resources:\n- \"@type")?),
        }
    }

    fn source(&self, name: &str) -> String {
        let path = self.folder.path(name);
        format!("{{ path_config_source: {{ path: {} }} }}", path.display())
    }

    fn put(&self, name: &str, resources: &str) -> Result<Instant> {
        let text = format!("resources:\n{resources}");
        Ok(self.folder.moved(name, &text)?)
    }

    fn routes(&self, version: &Version, domains: &str) -> Result<Instant> {
        let to = |name: &str| {
            format!(
                "    - {{ match: {{ prefix: /{name} }}, route: {{ cluster: {name}, timeout: 0s }} }}\n"
            )
        };
        let routed = ["endpoints", "cluster", "stream", "identity"].map(to);
        let text = format!(
            r#"- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: steady
  virtual_hosts:
  - name: all
    domains: {domains}
    routes:
    - {{ match: {{ prefix: /routes }}, direct_response: {{ status: 200, body: {{ inline_string: "{}" }} }} }}
{}"#,
            version.routes,
            routed.concat()
        );
        self.put("rds.yaml", &text)
    }

    fn endpoints(&self, port: u32) -> Result<Instant> {
        let text = format!(
            r#"- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: endpoints
  endpoints: {}
"#,
            endpoints(port)
        );
        self.put("eds.yaml", &text)
    }

    fn clusters(&self, version: &Version) -> Result<Instant> {
        self.put("cds.yaml", &self.all(version))
    }

    /// All clusters.
    fn all(&self, version: &Version) -> String {
        let tls = self.tls("UpstreamTlsContext", "");
        // Each request by a handshake of its own, which is how a new identity is seen.
        let requests = format!("{tls}  max_requests_per_connection: 1\n");
        let of_file = format!(
            r#"- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: endpoints
  type: EDS
  eds_cluster_config: {{ eds_config: {} }}
"#,
            self.source("eds.yaml")
        );
        [
            fixed("cluster", version.cluster, ""),
            fixed("stream", STREAM, ""),
            fixed("echo", ECHO, ""),
            fixed("who", WHO, ""),
            fixed("identity", TLS_REQUESTS.port(), &requests),
            fixed("streams", TLS_STREAMS.port(), &tls),
            of_file,
        ]
        .concat()
    }

    fn listeners(&self, version: &Version, more: &str) -> Result<Instant> {
        let tls = self.tls(
            "DownstreamTlsContext",
            "      require_client_certificate: true\n",
        );
        let rds = format!(
            "rds: {{ route_config_name: steady, config_source: {} }}",
            self.source("rds.yaml")
        );
        let unchanged = format!(
            "  - filter_chain_match: {{ source_prefix_ranges: [{{ address_prefix: {UNCHANGED}, \
             prefix_len: 32 }}] }}\n{}",
            &chain(&direct("unchanged"), "").replacen("  - ", "    ", 1)
        );
        let changing = chain(&direct(&version.chain.to_string()), "");
        let who = format!(
            "forward_client_cert_details: SANITIZE_SET\n        \
             set_current_client_cert_details: {{ uri: true }}\n        {}",
            routes(r#"{ match: { prefix: / }, route: { cluster: who } }"#)
        );
        let mut all = vec![
            listener("steady", STEADY, &[chain(&http(&rds), "")]),
            listener("streams", STREAMS, &[chain(&tcp("streams"), "")]),
            listener("changing", CHANGING, &[unchanged, changing]),
            listener("requests", TLS_REQUESTS, &[chain(&http(&who), &tls)]),
            listener("inner", TLS_STREAMS, &[chain(&tcp("echo"), &tls)]),
        ];
        if let Some(number) = version.visiting {
            let visiting = routes(&format!(
                "{{ match: {{ prefix: /stream }}, route: {{ cluster: stream, timeout: 0s }} }}, \
                 {{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ \
                 inline_string: \"{number}\" }} }} }}"
            ));
            all.push(listener(
                "visiting",
                VISITING,
                &[chain(&http(&visiting), "")],
            ));
        }
        all.push(more.to_owned());
        self.put("lds.yaml", &all.concat())
    }

    /// The identity of one number, with the key of another.
    fn secrets(&self, number: usize, key: usize) -> Result<Instant> {
        let issue = |number: usize| self.ca.issue_uri(&format!("spiffe://td/{number}"));
        let own = issue(number)?;
        let chain = own.certificate.pem();
        let key = if key == number { own } else { issue(key)? }.key;
        let inline = |pem: String| json!({"inline_string": pem});
        let message = format!("{TLS}.Secret");
        let own = json!({
            "certificate_chain": inline(chain), "private_key": inline(key.serialize_pem()),
        });
        let trusted = json!({"trusted_ca": inline(self.ca.certificate().pem())});
        let secrets = json!({"resources": [
            {"@type": message, "name": "own", "tls_certificate": own},
            {"@type": message, "name": "root", "validation_context": trusted},
        ]});
        Ok(self.folder.moved("sds.json", &secrets.to_string())?)
    }

    /// The transport socket of one end, indented as in a cluster.
    fn tls(&self, end: &str, more: &str) -> String {
        let secret = |name: &str| {
            let source = self.source("sds.json");
            format!("{{ name: {name}, sds_config: {source} }}")
        };
        format!(
            r#"  transport_socket:
    name: tls
    typed_config:
      "@type": {TLS}.{end}
{more}      common_tls_context:
        tls_certificate_sds_secret_configs: [{}]
        combined_validation_context:
          default_validation_context: {{ match_typed_subject_alt_names: [{{ san_type: URI, matcher: {{ prefix: "spiffe://td/" }} }}] }}
          validation_context_sds_secret_config: {}
"#,
            secret("own"),
            secret("root")
        )
    }
}

/// A cluster of one endpoint.
fn fixed(name: &str, port: u16, more: &str) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: {name}
  load_assignment: {{ cluster_name: {name}, endpoints: {} }}
{more}"#,
        endpoints(port.into())
    )
}

fn endpoints(port: u32) -> String {
    format!(
        "[{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {port} }} }} }} }}] }}]"
    )
}

fn listener(name: &str, at: SocketAddr, chains: &[String]) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: {name}
  address: {{ socket_address: {{ address: {}, port_value: {} }} }}
  filter_chains:
{}"#,
        at.ip(),
        at.port(),
        chains.concat()
    )
}

/// A filter chain with a filter and, perhaps, a transport socket.
fn chain(filter: &str, transport: &str) -> String {
    // As deep as a chain is, and not as a cluster.
    let transport: String = transport
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect();
    format!("  - filters:\n    - name: filter\n      typed_config:{filter}\n{transport}")
}

fn http(routes: &str) -> String {
    format!(
        r#"
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: http
        upgrade_configs: [{{ upgrade_type: websocket }}]
        {routes}
        http_filters:
        - name: router
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"#
    )
}

fn routes(all: &str) -> String {
    format!("route_config: {{ virtual_hosts: [{{ name: all, domains: ['*'], routes: [{all}] }}] }}")
}

/// HTTP that is answered with this text.
fn direct(text: &str) -> String {
    http(&routes(&format!(
        "{{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: \
         \"{text}\" }} }} }}"
    )))
}

fn tcp(cluster: &str) -> String {
    format!(
        r#"
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: streams
        cluster: {cluster}"#
    )
}
