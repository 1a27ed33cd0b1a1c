//! Secrets of `static_resources.secrets`: who gets them, and what is wrong with them.

use crate::resources::{cluster, line, listener, of_file, pem};
use crate::support::{Files, Sidecar, eventually, free_port};
use rcgen::KeyPair;
use shunt_proxy::model::{DownstreamTls, SecretRefs, UpstreamTls};
use shunt_xds::{Converter, LoadError, Loaded, Problem, load_bootstrap, to_json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// `own` in place, `root` in a file.
fn secrets(files: &Files, (chain, key): &(String, String)) -> String {
    files.write("ca.pem", &pem().0);
    let (chain, key) = (line(chain), line(key));
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

/// A secret of the bootstrap.
fn named(name: &str) -> String {
    format!("{{ name: {name} }}")
}

/// The two secrets, and what needs them: these entries of `listeners`, and the cluster.
fn static_resources(secrets: &str, listeners: &str) -> String {
    let cluster = deeper(&cluster(&named("own"), &named("root")));
    format!("static_resources:\n  secrets:{secrets}{listeners}  clusters:\n  - {cluster}")
}

/// Where nobody listens: what is loaded is not served.
const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15006);

/// A resource as deep as `static_resources` has it.
fn deeper(resource: &str) -> String {
    resource.replace("\n  ", "\n    ")
}

fn bootstrap(secrets: &str, own: &str, root: &str) -> String {
    let listener = deeper(&listener(AT, &named(own), &named(root)));
    static_resources(secrets, &format!("  listeners:\n  - {listener}"))
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
    let own = pem();
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
    let key = own.1.lines().nth(1).unwrap();
    assert!(!shown.contains(key), "{shown}");
}

#[test]
fn what_is_wrong_with_a_secret_of_a_bootstrap_is_told_with_its_path() {
    let files = Files::new();
    let whole = secrets(&files, &pem());
    let (chain, _) = pem();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let mismatched = secrets(&files, &(chain, other));
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
    let listener = listener(at, &named("own"), &named("root"));
    files.put(
        "lds.yaml",
        &of_file("envoy.config.listener.v3.Listener", &listener),
    );
    let text = format!(
        "{}dynamic_resources:\n  lds_config: {{ path_config_source: {{ path: {} }} }}\n",
        static_resources(&secrets(&files, &pem()), ""),
        files.path("lds.yaml").display()
    );
    files.write("bootstrap.yaml", &text);
    let sidecar = Sidecar::start(&files.path("bootstrap.yaml"));
    eventually(
        || "the listener is missing".into(),
        || sidecar.names() == ["secured"],
    );
}
