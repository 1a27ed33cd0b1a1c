//! Secrets in files: what waits for them, what is taken, and what stays where one is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod resources;
mod statics;
#[path = "../support/mod.rs"]
mod support;

use rcgen::KeyPair;
use resources::{TLS, cluster, line, listener, of_file, pem};
use shunt_proxy::store::View;
use shunt_proxy::transport::tls::client::ClientTls;
use shunt_proxy::transport::tls::rotating::Made;
use shunt_proxy::transport::tls::server::ServerTls;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{Files, Sidecar, eventually, free_port};

const REJECTED: &str = "envoy_sds_update_rejected";
const SUCCESS: &str = "envoy_sds_update_success";
const OWN: [(&str, &str); 1] = [("envoy_sds_secret", "own")];
const ROOT: [(&str, &str); 1] = [("envoy_sds_secret", "root")];

/// A listener that terminates TLS and a cluster that originates it, both with secrets of
/// `sds.yaml`.
fn start(files: &Files) -> (Sidecar, std::net::SocketAddr) {
    let at = free_port();
    let source = |name: &str| {
        let path = files.path(name);
        format!("{{ path_config_source: {{ path: {} }} }}", path.display())
    };
    let secret = |name: &str| format!("{{ name: {name}, sds_config: {} }}", source("sds.yaml"));
    let (own, root) = (secret("own"), secret("root"));
    let listener = of_file(
        "envoy.config.listener.v3.Listener",
        &listener(at, &own, &root),
    );
    files.put("lds.yaml", &listener);
    let cluster = of_file("envoy.config.cluster.v3.Cluster", &cluster(&own, &root));
    files.put("cds.yaml", &cluster);
    files.write(
        "bootstrap.yaml",
        &format!(
            "dynamic_resources:\n  lds_config: {}\n  cds_config: {}\n",
            source("lds.yaml"),
            source("cds.yaml")
        ),
    );
    (Sidecar::start(&files.path("bootstrap.yaml")), at)
}

/// The secret `own` with its certificate and key in files, and `root`.
fn secrets(files: &Files, own: &str) -> String {
    let file = |name: &str| format!("{{ filename: {} }}", files.path(name).display());
    format!(
        r#"resources:
- "@type": {TLS}.Secret
  name: {own}
  tls_certificate: {{ certificate_chain: {}, private_key: {} }}
- "@type": {TLS}.Secret
  name: root
  validation_context: {{ trusted_ca: {} }}
"#,
        file("chain.pem"),
        file("key.pem"),
        file("ca.pem")
    )
}

fn put_pair(files: &Files) {
    let (chain, key) = pem();
    files.put("ca.pem", &chain);
    files.put("chain.pem", &chain);
    files.put("key.pem", &key);
}

type Contexts = (Arc<Made<ServerTls>>, Arc<Made<ClientTls>>);

/// The contexts that the first chain of the first listener, and the cluster `upstream`, now shake
/// hands with.
fn current_tls(sidecar: &Sidecar) -> Contexts {
    let store = &sidecar.process.store;
    let listeners = store.listeners();
    let chain = listeners.all[0].chains.all().next().unwrap();
    let server = chain.tls.as_ref().unwrap().server.current();
    let id = store.cluster_id(&"upstream".into());
    let mut clusters = View::default();
    let cluster = clusters.cluster(store, id).unwrap();
    let client = cluster.tls.as_ref().unwrap().client.current();
    (server, client)
}

fn both_are_new(sidecar: &Sidecar, before: &Contexts) -> bool {
    let now = current_tls(sidecar);
    !Arc::ptr_eq(&now.0, &before.0) && !Arc::ptr_eq(&now.1, &before.1)
}

fn none_is_new(sidecar: &Sidecar, before: &Contexts) -> bool {
    let now = current_tls(sidecar);
    Arc::ptr_eq(&now.0, &before.0) && Arc::ptr_eq(&now.1, &before.1)
}

#[test]
fn what_needs_a_secret_waits_for_it_and_is_not_served_without() {
    let files = Files::new();
    files.put("sds.yaml", "resources: []");
    let (sidecar, at) = start(&files);
    sidecar.wait("envoy_listener_manager_total_listeners_warming", &[], 1);
    sidecar.wait("envoy_cluster_manager_warming_clusters", &[], 1);
    assert!(sidecar.names().is_empty());
    assert!(TcpStream::connect(at).is_err());
    assert!(!sidecar.warm.load(Ordering::SeqCst));
    // Of two secrets one is not enough, and neither is one that cannot be read.
    put_pair(&files);
    files.put("sds.yaml", &secrets(&files, "other"));
    sidecar.wait(REJECTED, &OWN, 2);
    sidecar.wait(SUCCESS, &ROOT, 1);
    assert_eq!(sidecar.value(SUCCESS, &OWN), 0);
    assert!(sidecar.names().is_empty());
    files.put("sds.yaml", &secrets(&files, "own"));
    eventually(
        || "the listener is missing".into(),
        || sidecar.names() == ["secured"],
    );
    assert!(TcpStream::connect(at).is_ok());
    eventually(|| "not warm".into(), || sidecar.warm.load(Ordering::SeqCst));
    sidecar.wait("envoy_cluster_manager_warming_clusters", &[], 0);
}

#[test]
fn a_pair_that_is_wrong_is_counted_and_what_was_taken_stays() {
    let files = Files::new();
    put_pair(&files);
    files.put("sds.yaml", &secrets(&files, "own"));
    let (sidecar, _at) = start(&files);
    let before = current_tls(&sidecar);
    let other = KeyPair::generate().unwrap().serialize_pem();
    let (chain, _) = pem();
    let half = &chain[..chain.len() / 2];
    for (i, (name, text)) in [
        ("key.pem", other.as_str()),
        ("key.pem", ""),
        ("chain.pem", half),
        ("chain.pem", "-----BEGIN CERTIFICATE-----\n"),
    ]
    .into_iter()
    .enumerate()
    {
        files.put(name, text);
        sidecar.wait(REJECTED, &OWN, i as u64 + 1);
        assert!(none_is_new(&sidecar, &before), "{name}: {text}");
    }
    // A half of the next pair does not make it whole.
    let (chain, key) = pem();
    files.put("chain.pem", &chain);
    sidecar.wait(REJECTED, &OWN, 5);
    assert!(none_is_new(&sidecar, &before));
    files.put("key.pem", &key);
    eventually(
        || "the new pair is not taken".into(),
        || both_are_new(&sidecar, &before),
    );
    // The listener and the cluster are those that they were.
    assert_eq!(
        sidecar.value("envoy_listener_manager_listener_modified", &[]),
        0
    );
    assert_eq!(
        sidecar.value("envoy_cluster_manager_cluster_modified", &[]),
        0
    );
}

#[test]
fn a_secret_that_is_wrong_holds_back_itself_and_not_its_neighbours() {
    let files = Files::new();
    put_pair(&files);
    files.put("sds.yaml", &secrets(&files, "own"));
    let (sidecar, _at) = start(&files);
    let taken = 1;
    sidecar.wait(SUCCESS, &ROOT, taken);
    let before = current_tls(&sidecar);
    // A pair that is none, beside another authority that is one.
    let (chain, _) = pem();
    let wrong = |own: &str, chain: &str, key: &str| {
        format!(
            r#"resources:
- "@type": {TLS}.Secret
  name: {own}
  tls_certificate: {{ certificate_chain: {{ inline_string: "{1}" }}, private_key: {{ inline_string: "{2}" }} }}
- "@type": {TLS}.Secret
  name: root
  validation_context: {{ trusted_ca: {{ inline_string: "{0}" }} }}
"#,
            line(&pem().0),
            line(chain),
            line(key),
        )
    };
    files.put("sds.yaml", &wrong("own", &chain, &pem().1));
    sidecar.wait(REJECTED, &OWN, 1);
    sidecar.wait(SUCCESS, &ROOT, taken + 1);
    assert_eq!(sidecar.value(REJECTED, &ROOT), 0);
    eventually(
        || "the neighbour is not taken".into(),
        || both_are_new(&sidecar, &before),
    );
    // Nobody needs this one: it is counted for nobody, and `own` stays what it was.
    let before = current_tls(&sidecar);
    files.put("sds.yaml", &wrong("other", &chain, &pem().1));
    sidecar.wait(SUCCESS, &ROOT, taken + 2);
    assert_eq!(sidecar.value(REJECTED, &OWN), 1);
    assert!(both_are_new(&sidecar, &before));
    // The same file again, whole.
    let before = current_tls(&sidecar);
    let (chain, key) = pem();
    files.put("sds.yaml", &wrong("own", &chain, &key));
    eventually(
        || "the pair that is right is not taken".into(),
        || both_are_new(&sidecar, &before),
    );
    assert_eq!(sidecar.value(REJECTED, &OWN), 1);
}

#[test]
fn a_secret_that_is_not_served_or_named_twice_holds_back_itself_alone() {
    let files = Files::new();
    put_pair(&files);
    files.put("sds.yaml", &secrets(&files, "own"));
    let (sidecar, _at) = start(&files);
    let mut taken = 1;
    sidecar.wait(SUCCESS, &ROOT, taken);
    let secret = |rest: &str| format!("- {{ \"@type\": {TLS}.Secret, {rest} }}\n");
    let root = || {
        let ca = line(&pem().0);
        secret(&format!(
            "name: root, validation_context: {{ trusted_ca: {{ inline_string: \"{ca}\" }} }}"
        ))
    };
    let whole = secrets(&files, "own");
    let own = whole.trim_start_matches("resources:\n");
    let own = own.split("- \"@type\"").nth(1).unwrap();
    let mut rejected = 0;
    for wrong in [
        secret("name: own, session_ticket_keys: { keys: [ { inline_string: x } ] }"),
        secret("name: own, generic_secret: { secret: { inline_string: x } }"),
        secret("name: own, tls_certificat: {}"),
        secret("name: own, validation_context: { trusted_ca: 7 }"),
        format!("- \"@type\"{own}").repeat(2),
    ] {
        let before = current_tls(&sidecar);
        // The wrong one first: its neighbour keeps its position.
        files.put("sds.yaml", &format!("resources:\n{wrong}{}", root()));
        (rejected, taken) = (rejected + 1, taken + 1);
        sidecar.wait(REJECTED, &OWN, rejected);
        sidecar.wait(SUCCESS, &ROOT, taken);
        eventually(
            || format!("beside {wrong} the neighbour is not taken"),
            || both_are_new(&sidecar, &before),
        );
    }
    // The pair that was taken before stays, and is shown.
    let dump = sidecar.dump();
    let shown = |name: &str| dump.contains(&format!("\"name\": \"{name}\""));
    assert!(shown("own") && shown("root"), "{dump}");
    // What has no name is of all.
    let nameless = secret("tls_certificat: {}");
    files.put("sds.yaml", &format!("resources:\n{nameless}{}", root()));
    sidecar.wait(REJECTED, &OWN, rejected + 1);
    assert_eq!(sidecar.value(REJECTED, &ROOT), 1);
}

#[test]
fn a_pair_that_is_wrong_at_the_start_is_taken_when_it_is_right() {
    let files = Files::new();
    files.put("chain.pem", &pem().0);
    files.put("key.pem", &pem().1);
    files.put("ca.pem", &pem().0);
    files.put("sds.yaml", &secrets(&files, "own"));
    let (sidecar, at) = start(&files);
    sidecar.wait(REJECTED, &OWN, 1);
    assert_eq!(sidecar.value(REJECTED, &ROOT), 0, "it is held back alone");
    assert!(TcpStream::connect(at).is_err());
    put_pair(&files);
    eventually(
        || "the listener is missing".into(),
        || sidecar.names() == ["secured"],
    );
}

#[test]
fn secrets_of_a_mounted_volume_are_read_again_when_its_link_is_swapped() {
    let files = Files::new();
    let version = |name: &str| {
        std::fs::create_dir(files.path(name)).unwrap();
        let (chain, key) = pem();
        files.write(&format!("{name}/chain.pem"), &chain);
        files.write(&format!("{name}/ca.pem"), &chain);
        files.write(&format!("{name}/key.pem"), &key);
    };
    version("one");
    version("two");
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, files.path("next")).unwrap();
        std::fs::rename(files.path("next"), files.path("..data")).unwrap();
    };
    link("one");
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    files.put("sds.yaml", &secrets(&files, "own"));
    let (sidecar, _at) = start(&files);
    let before = current_tls(&sidecar);
    link("two");
    eventually(
        || "the new volume is not taken".into(),
        || both_are_new(&sidecar, &before),
    );
    assert_eq!(sidecar.value(REJECTED, &OWN), 0);
}

#[test]
fn secrets_are_shown_without_their_keys() {
    let files = Files::new();
    let (chain, key) = pem();
    files.put(
        "sds.yaml",
        &format!(
            r#"resources:
- "@type": {TLS}.Secret
  name: own
  tls_certificate:
    certificate_chain: {{ inline_string: "{0}" }}
    private_key: {{ inline_string: "{1}" }}
- "@type": {TLS}.Secret
  name: root
  validation_context: {{ trusted_ca: {{ inline_string: "{0}" }} }}
"#,
            line(&chain),
            line(&key)
        ),
    );
    let (sidecar, _at) = start(&files);
    let dump = sidecar.dump();
    let key = key.lines().nth(1).unwrap();
    assert!(!dump.contains(key), "{dump}");
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let configs = dump["configs"].as_array().unwrap();
    let secrets = configs
        .iter()
        .find(|c| c["dynamic_active_secrets"].is_array());
    let own = &secrets.unwrap()["dynamic_active_secrets"][0];
    assert_eq!(own["name"], "own");
    let shown = &own["secret"]["tls_certificate"];
    assert_eq!(shown["private_key"]["inline_string"], "[redacted]");
    assert_eq!(
        shown["certificate_chain"]["inline_string"],
        chain.replace('\r', "")
    );
}
