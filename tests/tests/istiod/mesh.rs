//! A scenario of istiod's in namespaces: what it sent to two sidecars, served from files.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use shunt_tests::ca::{Ca, SanType};
use shunt_tests::folder::Folder;
use shunt_tests::istiod::{Place, Source, recorded, refused};
use shunt_tests::prelude::*;

/// A server that anybody may connect to, under these names.
pub(crate) fn tls_server_config(ca: &Ca, names: &[&str]) -> Result<Arc<rustls::ServerConfig>> {
    let names = names
        .iter()
        .map(|name| Ok(SanType::DnsName((*name).try_into()?)));
    let own = ca.issue(names.collect::<Result<_>>()?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.certificate.der().clone()], key)?;
    Ok(Arc::new(config))
}

/// A client that believes this authority alone.
pub(crate) fn tls_client_config(ca: &Ca) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate().der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The files of a sidecar.
struct Files {
    folder: Folder,
    /// Addresses of the recording, and those in their place.
    addresses: BTreeMap<&'static str, String>,
    external: String,
}

impl Place for Files {
    fn file(&self, _source: Source) -> String {
        String::new()
    }

    fn address(&self, _host: &str) -> String {
        self.external.clone()
    }
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }

    /// Write what this sidecar got in this scenario, less what is refused.
    fn write_resources(&self, scenario: &str, sidecar: &str, program: Program) -> Result<()> {
        let who = format!("{scenario}/{sidecar}");
        let refused = refused().map_err(Error::msg)?;
        let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for recorded in recorded().into_iter().filter(|r| r.seen.contains(&who)) {
            let mut resource = recorded.resource;
            for (pattern, _) in &refused {
                pattern.remove(&mut resource, self);
            }
            self.name_sources(&mut resource);
            if program == Program::Envoy {
                log_to_stdout(&mut resource);
            }
            let message = resource["@type"].as_str().unwrap_or_default();
            let name = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            let file = match message.rsplit('.').next() {
                Some("Listener") => "lds.json".to_owned(),
                Some("Cluster") => "cds.json".to_owned(),
                Some("RouteConfiguration") => file_of("rds", &name("name")),
                Some("ClusterLoadAssignment") => file_of("eds", &name("cluster_name")),
                _ => bail!("a recorded {message}"),
            };
            files.entry(file).or_default().push(resource);
        }
        ensure!(files.len() > 4, "{who} has only {:?}", files.keys());
        for (file, resources) in files {
            let mut text = json!({ "resources": resources }).to_string();
            for (recorded, ours) in &self.addresses {
                text = text.replace(recorded, ours);
            }
            self.folder.write(&file, &text)?;
        }
        Ok(())
    }

    /// Give each route configuration, assignment and secret a file of its own, as Envoy wants it.
    fn name_sources(&self, value: &mut Value) {
        let Value::Object(fields) = value else {
            if let Value::Array(list) = value {
                list.iter_mut().for_each(|value| self.name_sources(value));
            }
            return;
        };
        for (source, name, kind) in [
            ("config_source", "route_config_name", "rds"),
            ("eds_config", "service_name", "eds"),
            ("sds_config", "name", "sds"),
        ] {
            let name = fields.get(name).and_then(Value::as_str).unwrap_or_default();
            let file = self.path(&file_of(kind, name));
            if let Some(source) = fields.get_mut(source) {
                source["path_config_source"]["path"] = file.into();
            }
        }
        fields
            .values_mut()
            .for_each(|value| self.name_sources(value));
    }

    /// Write the secrets that istiod's resources name, their certificates and keys in files.
    fn write_secrets(&self, ca: &Ca, id: &str) -> Result<()> {
        let issued = ca.issue_uri(id)?;
        self.folder.write("chain.pem", &issued.certificate.pem())?;
        self.folder.write("key.pem", &issued.key.serialize_pem())?;
        self.folder.write("ca.pem", &ca.certificate().pem())?;
        let file = |name: &str| json!({"filename": self.path(name)});
        let secret = |name: &str, kind: &str, value: Value| {
            let message = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
            json!({"@type": message, "name": name, kind: value})
        };
        let own = json!({"certificate_chain": file("chain.pem"), "private_key": file("key.pem")});
        let trusted = json!({"trusted_ca": file("ca.pem")});
        for secret in [
            secret("default", "tls_certificate", own),
            secret("ROOTCA", "validation_context", trusted.clone()),
            secret("file-root:system", "validation_context", trusted),
        ] {
            let file = file_of("sds", secret["name"].as_str().unwrap_or_default());
            let text = json!({ "resources": [secret] }).to_string();
            self.folder.write(&file, &text)?;
        }
        Ok(())
    }

    fn bootstrap(&self) -> String {
        let file = |name: &str| json!({"path_config_source": {"path": self.path(name)}});
        let admin = json!({"socket_address": {"address": "127.0.0.1", "port_value": 15000}});
        json!({
            "admin": {"address": admin},
            "dynamic_resources": {"lds_config": file("lds.json"), "cds_config": file("cds.json")},
        })
        .to_string()
    }
}

fn file_of(kind: &str, name: &str) -> String {
    format!("{kind}-{name}.json")
}

/// Write records to standard output without opening `/dev/stdout`, which belongs to another user
/// here.
fn log_to_stdout(value: &mut Value) {
    const LOGGERS: &str = "type.googleapis.com/envoy.extensions.access_loggers";
    match value {
        Value::Object(fields) => {
            let file = format!("{LOGGERS}.file.v3.FileAccessLog");
            if fields.get("@type").is_some_and(|url| *url == file) {
                fields.remove("path");
                let stream = format!("{LOGGERS}.stream.v3.StdoutAccessLog");
                fields.insert("@type".to_owned(), stream.into());
            }
            fields.values_mut().for_each(log_to_stdout);
        }
        Value::Array(list) => list.iter_mut().for_each(log_to_stdout),
        _ => {}
    }
}

/// Which program is a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Shunt,
    Envoy,
}

impl Program {
    /// Starts the sidecar and waits until it serves.
    fn start(self, pod: &Pod, bootstrap: &str) -> Result<Sidecar> {
        if self == Self::Shunt {
            return pod.sidecar(bootstrap);
        }
        let mut process = pod
            .command(programs::envoy()?)
            .args(["--config-yaml", bootstrap, "--log-level", "warning"])
            .args(["--service-node", "sidecar", "--service-cluster", "app"])
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .user(User::PROXY)
            .start()?;
        eventually("Envoy serves or ends", || {
            pod.admin("/ready").is_ok() || process.ended().is_ok_and(|ended| ended.is_some())
        })?;
        if let Some(status) = process.ended()? {
            bail!("Envoy ended with {status}: {}", process.stderr().text());
        }
        Ok(Sidecar { process })
    }
}

/// A pod with its sidecar.
pub(crate) struct Member {
    pub(crate) pod: Pod,
    pub(crate) sidecar: Sidecar,
    _files: Files,
}

/// All pods of a scenario.
pub(crate) struct Mesh {
    pub(crate) client: Member,
    /// Two pods of one service.
    pub(crate) reviews: [Member; 2],
    /// Has no sidecar.
    pub(crate) legacy: Pod,
    /// Not in the cluster at all; 203.0.113.0/24 of the recording is its network.
    pub(crate) external: Pod,
    pub(crate) ca: Ca,
    _net: Network,
}

impl Mesh {
    /// The pods of a scenario with their sidecars, ready.
    pub(crate) fn new(scenario: &str, name: &str) -> Result<Self> {
        Self::of(scenario, name, [Program::Shunt; 2])
    }

    /// As [`Mesh::new`], with these programs as the sidecars of the client and of the service.
    pub(crate) fn of(scenario: &str, name: &str, programs: [Program; 2]) -> Result<Self> {
        let net = Network::new(name)?;
        let ca = Ca::new()?;
        let pods = ["client", "reviews-1", "reviews-2"].map(|name| net.pod(name).build());
        let [client, one, two] = pods;
        let (client, one, two) = (client?, one?, two?);
        let legacy = net.pod("legacy").build()?;
        let external = net
            .pod("external")
            .v4(Ipv4Addr::new(10, 244, 7, 7))
            .build()?;
        let ip = |pod: &Pod| pod.v4(0).ip().to_string();
        let quoted = |address: &str| format!("\"{address}\"");
        let addresses = BTreeMap::from([
            ("\"10.77.0.2\"", quoted(&ip(&client))),
            ("\"10.77.0.3\"", quoted(&ip(&one))),
            ("\"10.77.0.4\"", quoted(&ip(&two))),
            ("\"10.77.0.9\"", quoted(&ip(&legacy))),
            ("\"203.0.113.0\"", quoted("10.244.7.0")),
        ]);
        let external_ip = ip(&external);
        let start = |pod: Pod, sidecar: &str| -> Result<Member> {
            let files = Files {
                folder: Folder::new()?,
                addresses: addresses.clone(),
                external: external_ip.clone(),
            };
            let id = format!("spiffe://cluster.local/ns/app/sa/{sidecar}");
            files.write_secrets(&ca, &id)?;
            let program = programs[usize::from(sidecar != "client")];
            files.write_resources(scenario, sidecar, program)?;
            pod.apply_rules(&[])?;
            let sidecar = program.start(&pod, &files.bootstrap())?;
            Ok(Member {
                pod,
                sidecar,
                _files: files,
            })
        };
        Ok(Self {
            client: start(client, "client")?,
            reviews: [start(one, "reviews")?, start(two, "reviews")?],
            legacy,
            external,
            ca,
            _net: net,
        })
    }
}

impl Member {
    /// The record of the request or connection that satisfies this, once it is there.
    pub(crate) fn record(&self, wanted: impl Fn(&AccessRecord) -> bool) -> Result<AccessRecord> {
        let records = self.sidecar.wait_for_records(1, wanted)?;
        records.into_iter().next().context("no record")
    }

    /// Handshakes with endpoints of a cluster.
    pub(crate) fn handshakes(&self, cluster: &str) -> Result<u64> {
        let metrics = self.pod.metrics()?;
        let of =
            |metric: &str, cluster: &str| metrics.count(metric, &[("envoy_cluster_name", cluster)]);
        // Envoy takes the name, which is an `alt_stat_name` with a semicolon, apart at its dots.
        let (service, domain) = cluster.split_once('.').unwrap_or((cluster, ""));
        let domain = format!("{domain};").replace(['.', ';'], "_");
        let of_envoy = of(&format!("envoy_cluster_{domain}_ssl_handshake"), service);
        Ok(of("envoy_cluster_ssl_handshake", cluster) + of_envoy)
    }

    /// Handshakes that its inbound listener accepted.
    pub(crate) fn inbound_handshakes(&self) -> Result<u64> {
        let address = ("envoy_listener_address", "0.0.0.0_15006");
        let metrics = self.pod.metrics()?;
        Ok(metrics.count("envoy_listener_ssl_handshake", &[address]))
    }
}
