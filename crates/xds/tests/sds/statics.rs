//! Secrets of `static_resources.secrets`: who gets them, and what is wrong with them.

use crate::support::{Files, Sidecar, eventually, free_port};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use shunt_proxy::model::{DownstreamTls, SecretRefs, UpstreamTls};
use shunt_xds::{Converter, LoadError, Loaded, Problem, load_bootstrap, to_json};
use std::sync::Arc;

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

fn pair() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    let line = |pem: &str| pem.replace('\r', "").replace('\n', "\\n");
    (line(&cert.pem()), line(&signing_key.serialize_pem()))
}

/// `own` in place, `root` in a file.
fn secrets(files: &Files, (chain, key): &(String, String)) -> String {
    files.write("ca.pem", &pair().0.replace("\\n", "\n"));
    format!(
        r#"
  - name: own
    tls_certificate:
      certificate_chain: {{ inline_string: "{chain}" }}
      private_key: {{ inline_string: "{key}" }}
  - name: root
    validation_context: {{ trusted_ca: {{ filename: {} }} }}
"#,
        files.path("ca.pem").display()
    )
}

/// A listener at this port whose chain names these secrets.
fn listener(port: u16, own: &str, root: &str) -> String {
    format!(
        r#"name: secured
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": {TLS}.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificate_sds_secret_configs: [ {{ name: {own} }} ]
            validation_context_sds_secret_config: {{ name: {root} }}
      filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: upstream
"#
    )
}

fn cluster() -> String {
    format!(
        r#"name: upstream
    transport_socket:
      name: tls
      typed_config:
        "@type": {TLS}.UpstreamTlsContext
        common_tls_context:
          tls_certificate_sds_secret_configs: [ {{ name: own }} ]
          combined_validation_context:
            default_validation_context: {{ match_typed_subject_alt_names: [ {{ san_type: DNS, matcher: {{ exact: shop.test }} }} ] }}
            validation_context_sds_secret_config: {{ name: root }}
"#
    )
}

fn bootstrap(secrets: &str, own: &str, root: &str) -> String {
    format!(
        "static_resources:\n  secrets:{secrets}  listeners:\n  - {}  clusters:\n  - {}",
        listener(15006, own, root),
        cluster()
    )
}

fn load(files: &Files, text: &str) -> Result<Loaded, LoadError> {
    files.write("bootstrap.yaml", text);
    load_bootstrap(&files.path("bootstrap.yaml"), &Converter::InProcess)
}

fn tls(loaded: &Loaded) -> (Arc<DownstreamTls>, Arc<UpstreamTls>) {
    let resources = &loaded.model.resources;
    let chain = &resources.listeners[0].filter_chains[0];
    let cluster = &resources.clusters[0];
    let tls = (chain.tls.clone(), cluster.tls.clone());
    (tls.0.unwrap(), tls.1.unwrap())
}

#[test]
fn a_name_without_a_source_is_that_of_a_secret_in_the_bootstrap() {
    let files = Files::new();
    let own = pair();
    let text = bootstrap(&secrets(&files, &own), "own", "root");
    let loaded = load(&files, &text).unwrap();
    assert!(loaded.updates.is_none(), "nothing of it changes");
    let (server, client) = tls(&loaded);
    assert_eq!(server.identities.len(), 1);
    assert_eq!(server.secrets, SecretRefs::default());
    let server_believes = server.validation.as_ref().unwrap();
    assert_eq!(server_believes.trusted.len(), 1);
    assert!(server_believes.names.is_empty());
    assert_eq!(client.identity.as_ref(), server.identities.first());
    let client_believes = client.validation.as_ref().unwrap();
    assert_eq!(client_believes.trusted, server_believes.trusted);
    assert_eq!(client_believes.names.len(), 1, "those of the context stay");
    let shown = to_json(&loaded.wire, None, &Converter::InProcess).unwrap();
    let key = own.1.split("\\n").nth(1).unwrap();
    assert!(!shown.contains(key), "{shown}");
}

#[test]
fn what_is_wrong_with_a_secret_of_a_bootstrap_is_told_with_its_path() {
    let files = Files::new();
    let whole = secrets(&files, &pair());
    let (chain, _) = pair();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let mismatched = secrets(
        &files,
        &(chain, other.replace('\r', "").replace('\n', "\\n")),
    );
    let twice = format!("{whole}{}", whole.trim_start_matches('\n'));
    let chains = "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config";
    let context = format!("{chains}.common_tls_context");
    for (secrets, own, root, path, words) in [
        (
            &whole,
            "absent",
            "root",
            format!("{context}.tls_certificate_sds_secret_configs[0].name"),
            "there is no secret \"absent\" in static_resources.secrets",
        ),
        (
            &whole,
            "root",
            "root",
            context.clone(),
            "the secret \"root\" is no tls_certificate",
        ),
        (
            &whole,
            "own",
            "own",
            context,
            "the secret \"own\" is no validation_context",
        ),
        (
            &mismatched,
            "own",
            "root",
            "static_resources.secrets[0].tls_certificate".to_owned(),
            "private_key is not the key of the first certificate of certificate_chain",
        ),
        (
            &twice,
            "own",
            "root",
            "static_resources.secrets[2].name".to_owned(),
            "is named \"own\" too",
        ),
    ] {
        let Err(LoadError::Invalid { problems, .. }) = load(&files, &bootstrap(secrets, own, root))
        else {
            panic!("{path}: it is taken");
        };
        let list = problems.list();
        let told = list
            .iter()
            .any(|p| p.path == path && p.message.contains(words));
        assert!(told, "{path}: {problems}");
        let of_absent = |p: &Problem| p.message.contains("there is no secret");
        let absent = list.iter().filter(|p| of_absent(p)).count();
        assert_eq!(absent, usize::from(own == "absent"), "{path}: {problems}");
    }
}

#[test]
fn a_listener_of_a_file_may_name_a_secret_of_the_bootstrap() {
    let files = Files::new();
    let at = free_port();
    let indented = listener(at.port(), "own", "root").replace("\n    ", "\n  ");
    let of_file = format!(
        "resources:\n- \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n  {indented}"
    );
    files.put("lds.yaml", &of_file);
    let text = format!(
        "static_resources:\n  secrets:{}  clusters:\n  - {}dynamic_resources:\n  lds_config: \
         {{ path_config_source: {{ path: {} }} }}\n",
        secrets(&files, &pair()),
        cluster(),
        files.path("lds.yaml").display()
    );
    files.write("bootstrap.yaml", &text);
    let sidecar = Sidecar::start(&files.path("bootstrap.yaml"));
    eventually(
        || "the listener is missing".into(),
        || sidecar.names() == ["secured"],
    );
}
