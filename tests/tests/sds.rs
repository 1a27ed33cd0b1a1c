//! Secrets from files: renewed under load, wrong, and absent at the start.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use shunt_tests::ca::{Ca, Issued};
use shunt_tests::client::tcp::greeting;
use shunt_tests::folder::Folder;
use shunt_tests::prelude::*;

/// Changes of identity, half of them of the server, half of the client.
const ROTATIONS: usize = 40;
/// Threads that send requests all the time.
const LOAD: usize = 2;
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const STREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// The files of a sidecar.
struct Files(Folder);

impl Files {
    fn new() -> Result<Self> {
        let files = Self(Folder::new()?);
        files.0.write("sds.json", "{\"resources\": []}")?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    /// Secrets with these data sources.
    fn put(&self, chain: Value, key: Value, trusted: Value) -> Result<()> {
        let message = format!("{TLS}.Secret");
        let own = json!({"certificate_chain": chain, "private_key": key});
        let secrets = json!({"resources": [
            {"@type": message, "name": "own", "tls_certificate": own},
            {"@type": message, "name": "root", "validation_context": {"trusted_ca": trusted}},
        ]});
        Ok(self.0.put("sds.json", &secrets.to_string())?)
    }

    /// Secrets that are in the resources themselves.
    fn put_inline(&self, own: &Issued, trusted: &str) -> Result<()> {
        let inline = |pem: &str| json!({"inline_string": pem});
        let (chain, key) = (own.certificate.pem(), own.key.serialize_pem());
        self.put(inline(&chain), inline(&key), inline(trusted))
    }

    /// Secrets in files of a volume, as a kubelet mounts it: all change with one link.
    fn put_volume(&self, number: usize, own: &Issued, trusted: &str) -> Result<()> {
        let version = format!("v{number}");
        fs::create_dir(self.0.path(&version))?;
        for (name, pem) in [
            ("chain.pem", own.certificate.pem()),
            ("key.pem", own.key.serialize_pem()),
            ("ca.pem", trusted.to_owned()),
        ] {
            self.0.write(&format!("{version}/{name}"), &pem)?;
        }
        symlink(&version, self.0.path("next"))?;
        Ok(fs::rename(self.0.path("next"), self.0.path("..data"))?)
    }

    /// The secrets are in the volume.
    fn name_volume(&self) -> Result<()> {
        let file = |name: &str| json!({"filename": self.path(&format!("..data/{name}")),});
        let watched = json!({"path": self.path("")});
        let message = format!("{TLS}.Secret");
        let own = json!({
            "certificate_chain": file("chain.pem"), "private_key": file("key.pem"),
            "watched_directory": watched,
        });
        let root = json!({"trusted_ca": file("ca.pem"), "watched_directory": watched});
        let secrets = json!({"resources": [
            {"@type": message, "name": "own", "tls_certificate": own},
            {"@type": message, "name": "root", "validation_context": root},
        ]});
        Ok(self.0.put("sds.json", &secrets.to_string())?)
    }

    /// The part that both sides have in common; peers have names below this prefix.
    fn common(&self, peers: &str) -> Value {
        let secret = |name: &str| {
            let file = json!({"path_config_source": {"path": self.path("sds.json")}});
            json!({"name": name, "sds_config": file})
        };
        json!({
            "tls_certificate_sds_secret_configs": [secret("own")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"prefix": peers}},
                ]},
                "validation_context_sds_secret_config": secret("root"),
            },
        })
    }

    fn server_tls(&self) -> Value {
        json!({"name": "tls", "typed_config": {
            "@type": format!("{TLS}.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": self.common("spiffe://td/client/"),
        }})
    }

    fn client_tls(&self) -> Value {
        json!({"name": "tls", "typed_config": {
            "@type": format!("{TLS}.UpstreamTlsContext"),
            "common_tls_context": self.common("spiffe://td/server/"),
        }})
    }
}

fn listener(at: SocketAddr, tls: Option<Value>, filter: Value) -> Value {
    let mut chain = json!({"filters": [{"name": "filter", "typed_config": filter}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    let address = json!({"address": at.ip().to_string(), "port_value": at.port()});
    json!({
        "name": at.to_string(), "address": {"socket_address": address}, "filter_chains": [chain],
    })
}

fn http(cluster: &str) -> Value {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}});
    json!({
        "@type": format!("{NETWORK}.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": true},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
    })
}

fn tcp(cluster: &str) -> Value {
    json!({
        "@type": format!("{NETWORK}.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp", "cluster": cluster,
    })
}

/// A cluster of one endpoint; with TLS each request is made on a connection of its own.
fn cluster(name: &str, to: SocketAddr, tls: Option<Value>) -> Value {
    let address = json!({"address": to.ip().to_string(), "port_value": to.port()});
    let endpoint = json!({"endpoint": {"address": {"socket_address": address}}});
    let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]});
    let mut cluster = json!({"name": name, "load_assignment": assignment});
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
        cluster["max_requests_per_connection"] = json!(1);
    }
    cluster
}

/// A client and a server, each behind a sidecar, with mutual TLS between them.
struct Stage {
    client: Pod,
    server: Pod,
    _net: Network,
    ca: Ca,
    client_files: Files,
    server_files: Files,
}

impl Stage {
    fn new(name: &str) -> Result<Self> {
        let net = Network::new(name)?;
        Ok(Self {
            client: net.pod("client").build()?,
            server: net.pod("server").build()?,
            _net: net,
            ca: Ca::new()?,
            client_files: Files::new()?,
            server_files: Files::new()?,
        })
    }

    fn issue(&self, who: &str, number: usize) -> Result<Issued> {
        self.ca.issue_uri(&format!("spiffe://td/{who}/{number}"))
    }

    fn trusted(&self) -> String {
        self.ca.certificate().pem()
    }

    fn server_bootstrap(&self) -> String {
        let files = &self.server_files;
        let any = |port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let own = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listeners = json!([
            listener(any(8443), Some(files.server_tls()), http("web")),
            listener(any(8444), Some(files.server_tls()), tcp("stream")),
        ]);
        let clusters = json!([
            cluster("web", own(9080), None),
            cluster("stream", own(9082), None),
        ]);
        json!({"static_resources": {"listeners": listeners, "clusters": clusters}}).to_string()
    }

    fn client_bootstrap(&self) -> String {
        let tls = || Some(self.client_files.client_tls());
        let listeners = json!([
            listener(WEB, None, http("web")),
            listener(STREAM, None, tcp("stream")),
        ]);
        let clusters = json!([
            cluster("web", self.server.v4(8443), tls()),
            cluster("stream", self.server.v4(8444), tls()),
        ]);
        json!({"static_resources": {"listeners": listeners, "clusters": clusters}}).to_string()
    }

    fn app(&self) -> shunt_tests::net::AsUser<'_> {
        self.client.as_user(User::APP)
    }
}

/// Who spoke to whom, as the application was told.
fn told(response: &Response) -> Result<String> {
    ensure!(
        response.status == 200,
        "{}: {}",
        response.status,
        response.text()
    );
    let headers = response.request_headers()?;
    let told = headers
        .iter()
        .find(|(name, _)| name == "x-forwarded-client-cert");
    let (_, told) = told.context("nobody vouches for the client")?;
    let part = |name: &str| told.split(';').find_map(|part| part.strip_prefix(name));
    let (by, uri) = (part("By="), part("URI="));
    Ok(format!("{} {}", by.unwrap_or("-"), uri.unwrap_or("-")))
}

fn identities(client: usize, server: usize) -> String {
    format!("spiffe://td/server/{server} spiffe://td/client/{client}")
}

/// Sends bytes through a stream to an echo server and back.
fn echoes(mut stream: &TcpStream, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    ensure!(back == text.as_bytes(), "{back:?} came back");
    Ok(())
}

#[test]
fn identities_are_renewed_under_load_and_nobody_is_disturbed() -> Result<()> {
    let stage = Stage::new("sds-load")?;
    let _app = stage.server.http_app("app", 9080)?;
    let echo = stage.server.echo("echo", 9082)?;
    let (server, client) = (stage.issue("server", 0)?, stage.issue("client", 0)?);
    stage.server_files.put_inline(&server, &stage.trusted())?;
    stage
        .client_files
        .put_volume(0, &client, &stage.trusted())?;
    stage.client_files.name_volume()?;
    let at_server = stage.server.sidecar(&stage.server_bootstrap())?;
    let _at_client = stage.client.sidecar(&stage.client_bootstrap())?;
    let stream = stage.app().connect(STREAM)?;
    greeting(&stream)?;
    let (ended, seen) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let load = || -> Result<u64> {
        let mut connection = stage.app().http(WEB)?;
        let mut sent = 0;
        while !ended.load(Ordering::SeqCst) {
            let response = connection.send(&Request::get("/load"))?;
            let told = told(&response).with_context(|| format!("request {sent}"))?;
            if let Ok(mut seen) = seen.lock() {
                seen.insert(told);
            }
            sent += 1;
        }
        Ok(sent)
    };
    let rotate = || -> Result<()> {
        for number in 1..=ROTATIONS {
            // Both in turn, so that each meets each.
            let (client, server) = (number / 2, number.div_ceil(2));
            if number % 2 == 1 {
                let own = stage.issue("server", server)?;
                stage.server_files.put_inline(&own, &stage.trusted())?;
            } else {
                let own = stage.issue("client", client)?;
                stage
                    .client_files
                    .put_volume(client, &own, &stage.trusted())?;
            }
            let now = identities(client, server);
            let is_seen = || seen.lock().is_ok_and(|seen| seen.contains(&now));
            eventually(&now, is_seen)?;
            echoes(&stream, &now)?;
        }
        // Whoever vouches for them changes too: both are believed for as long as it takes.
        let new = Ca::new()?;
        let both = format!("{}{}", stage.trusted(), new.certificate().pem());
        let issue = |who: &str| new.issue_uri(&format!("spiffe://td/{who}/new"));
        let number = ROTATIONS / 2;
        let old = stage.issue("server", number)?;
        stage.server_files.put_inline(&old, &both)?;
        let own = stage.issue("client", 1000)?;
        stage.client_files.put_volume(1000, &own, &both)?;
        let now = identities(1000, number);
        eventually(&now, || seen.lock().is_ok_and(|seen| seen.contains(&now)))?;
        stage.server_files.put_inline(&issue("server")?, &both)?;
        let now = "spiffe://td/server/new spiffe://td/client/1000";
        eventually(now, || seen.lock().is_ok_and(|seen| seen.contains(now)))?;
        stage
            .client_files
            .put_volume(1001, &issue("client")?, &both)?;
        let now = "spiffe://td/server/new spiffe://td/client/new";
        eventually(now, || seen.lock().is_ok_and(|seen| seen.contains(now)))?;
        let alone = new.certificate().pem();
        stage.server_files.put_inline(&issue("server")?, &alone)?;
        stage
            .client_files
            .put_volume(1002, &issue("client")?, &alone)?;
        echoes(&stream, "still here")
    };
    let sent = thread::scope(|scope| -> Result<u64> {
        let loads: Vec<_> = (0..LOAD).map(|_| scope.spawn(load)).collect();
        let rotated = rotate();
        ended.store(true, Ordering::SeqCst);
        let mut sent = 0;
        for load in loads {
            let outcome = load.join();
            sent += outcome.unwrap_or_else(|_panic| bail!("a client panicked"))?;
        }
        rotated?;
        Ok(sent)
    })?;
    ensure!(sent > ROTATIONS as u64, "only {sent} requests");
    // The stream is the one that was there at first; no chain was drained, no handshake failed.
    assert_eq!(echo.connections(), 1);
    let (client, server) = (stage.client.metrics()?, stage.server.metrics()?);
    let handshakes = client.count(
        "envoy_cluster_ssl_handshake",
        &[("envoy_cluster_name", "web")],
    );
    ensure!(
        handshakes >= sent,
        "{handshakes} handshakes for {sent} requests"
    );
    for (metrics, counter) in [
        (&client, "envoy_cluster_upstream_cx_connect_fail"),
        (&client, "envoy_cluster_ssl_connection_error"),
        (&client, "envoy_cluster_ssl_fail_verify_error"),
        (&client, "envoy_sds_update_rejected"),
        (&server, "envoy_listener_ssl_connection_error"),
        (&server, "envoy_listener_ssl_fail_verify_error"),
        (&server, "envoy_listener_manager_listener_modified"),
        (&server, "envoy_sds_update_rejected"),
    ] {
        assert_eq!(metrics.count(counter, &[]), 0, "{counter}");
    }
    drop(at_server);
    Ok(())
}

#[test]
fn a_pair_that_is_wrong_is_told_and_the_one_before_goes_on() -> Result<()> {
    let stage = Stage::new("sds-wrong")?;
    let _app = stage.server.http_app("app", 9080)?;
    let (server, client) = (stage.issue("server", 0)?, stage.issue("client", 0)?);
    stage.server_files.put_inline(&server, &stage.trusted())?;
    stage.client_files.put_inline(&client, &stage.trusted())?;
    let at_server = stage.server.sidecar(&stage.server_bootstrap())?;
    let _at_client = stage.client.sidecar(&stage.client_bootstrap())?;
    let ask = || told(&stage.app().get(WEB, "/")?);
    assert_eq!(ask()?, identities(0, 0));
    let wrong = Issued {
        certificate: stage.issue("server", 1)?.certificate,
        key: server.key,
    };
    stage.server_files.put_inline(&wrong, &stage.trusted())?;
    for words in [
        "not taken: the secrets in",
        "the secret \"own\" cannot be used",
    ] {
        at_server.process.stderr().wait_for(words)?;
    }
    assert_eq!(ask()?, identities(0, 0));
    let own = ("envoy_sds_secret", "own");
    let rejected = stage
        .server
        .metrics()?
        .count("envoy_sds_update_rejected", &[own]);
    assert_eq!(rejected, 1);
    stage
        .server_files
        .put_inline(&stage.issue("server", 2)?, &stage.trusted())?;
    eventually("the next is taken", || {
        ask().is_ok_and(|told| told == identities(0, 2))
    })
}

#[test]
fn without_its_secret_nothing_is_accepted_and_nothing_is_sent() -> Result<()> {
    let stage = Stage::new("sds-absent")?;
    let app = stage.server.http_app("app", 9080)?;
    let mut at_server = stage
        .server
        .sidecar_command(&stage.server_bootstrap())?
        .start()?;
    let mut at_client = stage
        .client
        .sidecar_command(&stage.client_bootstrap())?
        .start()?;
    let alive = |process: &mut Running| match process.ended()? {
        Some(status) => bail!("it ended with {status}: {}", process.stderr().text()),
        None => Ok(()),
    };
    eventually("the client answers by itself", || {
        stage
            .app()
            .get(WEB, "/")
            .is_ok_and(|response| response.status == 503)
    })?;
    eventually("the server runs", || stage.server.readiness().is_ok())?;
    assert_eq!(stage.server.readiness()?, 503);
    assert_eq!(stage.client.readiness()?, 503);
    for words in [
        " waits for the secret \"own\" in ",
        "; add or correct it there",
    ] {
        at_server.stderr().wait_for(words)?;
    }
    ensure!(stage.app().connect(stage.server.v4(8443)).is_err());
    // The client is ready first: it must find nobody, rather than somebody in plaintext.
    let trusted = stage.trusted();
    stage
        .client_files
        .put_inline(&stage.issue("client", 0)?, &trusted)?;
    stage.client.wait_until_ready(|| alive(&mut at_client))?;
    assert_eq!(stage.app().get(WEB, "/")?.status, 503);
    assert_eq!(app.connections(), 0);
    stage
        .server_files
        .put_inline(&stage.issue("server", 0)?, &trusted)?;
    stage.server.wait_until_ready(|| alive(&mut at_server))?;
    assert_eq!(told(&stage.app().get(WEB, "/")?)?, identities(0, 0));
    Ok(())
}
