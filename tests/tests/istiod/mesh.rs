//! A scenario of istiod's in namespaces: what it sent to two sidecars, served from files.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair, SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use shunt_tests::istiod::{Place, Source, recorded, refused};
use shunt_tests::prelude::*;
use tempfile::TempDir;

/// Who vouches for everybody.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    fn issue(&self, names: Vec<SanType>) -> Result<(rcgen::Certificate, KeyPair)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    /// A server that anybody may connect to, under these names.
    pub(crate) fn server(&self, names: &[&str]) -> Result<Arc<rustls::ServerConfig>> {
        let names = names
            .iter()
            .map(|name| Ok(SanType::DnsName((*name).try_into()?)));
        let (certificate, key) = self.issue(names.collect::<Result<_>>()?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }

    /// A client that believes this one alone.
    pub(crate) fn client(&self) -> Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.as_ref().der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// The files of a sidecar.
struct Files {
    folder: TempDir,
    /// Addresses of the recording, and those in their place.
    addresses: BTreeMap<&'static str, String>,
    external: String,
}

impl Place for Files {
    fn file(&self, source: Source) -> String {
        self.path(match source {
            Source::Routes => "rds.json",
            Source::Endpoints => "eds.json",
        })
    }

    fn secret(&self, name: &str) -> String {
        self.path(name)
    }

    fn address(&self, _host: &str) -> String {
        self.external.clone()
    }
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = PathBuf::from(self.path(name));
        fs::write(&path, text)?;
        // The sidecar's user reads it.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// Write what this sidecar got in this scenario, less what is refused.
    fn write_resources(&self, scenario: &str, sidecar: &str) -> Result<()> {
        let who = format!("{scenario}/{sidecar}");
        let refused = refused().map_err(Error::msg)?;
        let mut files: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for recorded in recorded().into_iter().filter(|r| r.seen.contains(&who)) {
            let mut resource = recorded.resource;
            for (pattern, _) in &refused {
                pattern.remove(&mut resource, self);
            }
            let message = resource["@type"].as_str().unwrap_or_default();
            let file = match message.rsplit('.').next() {
                Some("Listener") => "lds.json",
                Some("Cluster") => "cds.json",
                Some("RouteConfiguration") => "rds.json",
                Some("ClusterLoadAssignment") => "eds.json",
                _ => bail!("a recorded {message}"),
            };
            files.entry(file).or_default().push(resource);
        }
        ensure!(files.len() == 4, "{who} has only {:?}", files.keys());
        for (file, resources) in files {
            let mut text = json!({ "resources": resources }).to_string();
            for (recorded, ours) in &self.addresses {
                text = text.replace(recorded, ours);
            }
            self.write(file, &text)?;
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
            let folder = tempfile::tempdir()?;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
            let files = Files {
                folder,
                addresses: addresses.clone(),
                external: external_ip.clone(),
            };
            let id = format!("spiffe://cluster.local/ns/app/sa/{sidecar}");
            let (certificate, key) = ca.issue(vec![SanType::URI(id.as_str().try_into()?)])?;
            files.write("chain.pem", &certificate.pem())?;
            files.write("key.pem", &key.serialize_pem())?;
            files.write("ca.pem", &ca.0.as_ref().pem())?;
            files.write_resources(scenario, sidecar)?;
            pod.apply_rules(&[])?;
            let sidecar = pod.sidecar(&files.bootstrap())?;
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
        let label = ("envoy_cluster_name", cluster);
        Ok(self
            .pod
            .metrics()?
            .count("envoy_cluster_ssl_handshake", &[label]))
    }

    /// Handshakes that its inbound listener accepted.
    pub(crate) fn inbound_handshakes(&self) -> Result<u64> {
        let address = ("envoy_listener_address", "0.0.0.0_15006");
        let metrics = self.pod.metrics()?;
        Ok(metrics.count("envoy_listener_ssl_handshake", &[address]))
    }
}
