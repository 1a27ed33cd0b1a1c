//! What a real istiod sends: every listener's filter chain matches, listener filters and TLS, and
//! every cluster's transport sockets, made static and loaded.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use serde_json::{Value, json};
use shunt_xds::{Converter, load_bootstrap};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/istiod")
}

/// The resources of this type in every scenario, as each sidecar got them.
fn resources(kind: &str) -> Vec<(String, Vec<Value>)> {
    let mut found = Vec::new();
    for scenario in fs::read_dir(corpus()).unwrap_or_else(|e| panic!("the corpus is needed: {e}")) {
        for sidecar in ["client", "reviews"] {
            let file = scenario.as_ref().unwrap().path().join(sidecar).join(kind);
            let Ok(text) = fs::read(&file) else { continue };
            found.push((
                file.display().to_string(),
                serde_json::from_slice(&text).unwrap(),
            ));
        }
    }
    assert!(found.len() >= 18, "only {} files {kind}", found.len());
    found
}

/// A TLS context with what SDS would give it: certificates, and whom to trust.
fn fill(context: &mut Value, pem: &(String, String)) {
    let Some(common) = context.get_mut("common_tls_context") else {
        return;
    };
    let common = common.as_object_mut().unwrap();
    let (cert, key) = (&pem.0, &pem.1);
    if common
        .remove("tls_certificate_sds_secret_configs")
        .is_some()
    {
        let certificate = json!({
            "certificate_chain": {"inline_string": cert},
            "private_key": {"inline_string": key},
        });
        common.insert("tls_certificates".to_owned(), json!([certificate]));
    }
    if let Some(mut combined) = common.remove("combined_validation_context") {
        let mut validation = combined["default_validation_context"].take();
        validation["trusted_ca"] = json!({"inline_string": cert});
        common.insert("validation_context".to_owned(), validation);
    }
}

fn fill_socket(holder: &mut Value, pem: &(String, String)) -> usize {
    match holder.pointer_mut("/transport_socket/typed_config") {
        Some(context) => {
            fill(context, pem);
            1
        }
        None => 0,
    }
}

fn identity() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn load(listeners: &Value, clusters: &[Value], from: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bootstrap.json");
    let bootstrap = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    fs::write(&path, bootstrap.to_string()).unwrap();
    if let Err(error) = load_bootstrap(&path, &Converter::InProcess) {
        panic!("{from}: {error}");
    }
}

#[test]
fn every_listener_of_istiod_is_accepted_but_for_what_stands_behind_its_transport() {
    let pem = identity();
    let mut terminated = 0;
    for (file, mut listeners) in resources("Listener.json") {
        for listener in &mut listeners {
            let object = listener.as_object_mut().unwrap();
            object.remove("@type");
            object.remove("access_log");
            let mut default = object.remove("default_filter_chain");
            let chains = object.get_mut("filter_chains");
            let chains = chains.and_then(Value::as_array_mut).into_iter().flatten();
            for chain in chains.chain(default.as_mut()) {
                terminated += fill_socket(chain, &pem);
                chain["filters"] = json!([{
                    "name": "tcp",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "tcp",
                        "cluster": "app",
                    },
                }]);
            }
            if let Some(default) = default {
                listener["default_filter_chain"] = default;
            }
        }
        load(&Value::from(listeners), &[json!({"name": "app"})], &file);
    }
    assert!(terminated > 50, "only {terminated} chains terminate TLS");
}

#[test]
fn every_transport_socket_of_istiods_clusters_is_accepted() {
    let pem = identity();
    let listener = json!([{
        "name": "any",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [{"filters": [{
            "name": "tcp",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "tcp",
                "cluster": "BlackHoleCluster",
            },
        }]}],
    }]);
    let mut originated = 0;
    for (file, clusters) in resources("Cluster.json") {
        let mut kept = Vec::new();
        for mut cluster in clusters {
            originated += fill_socket(&mut cluster, &pem);
            let matches = cluster.get_mut("transport_socket_matches");
            for entry in matches.and_then(Value::as_array_mut).into_iter().flatten() {
                originated += fill_socket(entry, &pem);
            }
            let mut own = json!({"name": cluster["name"]});
            for field in ["transport_socket", "transport_socket_matches"] {
                if let Some(value) = cluster.get(field) {
                    own[field] = value.clone();
                }
            }
            kept.push(own);
        }
        load(&listener, &kept, &file);
    }
    assert!(originated > 100, "only {originated} transport sockets");
}
