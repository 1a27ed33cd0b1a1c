//! Filter chains, listener filters and TLS: what is served, and what is refused with its path.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use shunt_proxy::model::{
    ClusterKind, FilterChainMatch, ForwardClientCert, ListenerFilterKind, NetworkFilter,
    PortPredicate, ProxyProtocol, SanKind, ServerNameMatch, SourceType, StringMatch,
    TransportProtocol,
};
use shunt_xds::{Converter, LoadError, Loaded, Problem, load_bootstrap, to_json};
use std::fs;
use std::path::Path;

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// A bootstrap with TLS on both sides: certificates inline, and in files of this folder.
fn bootstrap(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    fs::write(folder.join("cert.pem"), &cert).unwrap();
    fs::write(folder.join("key.pem"), &key).unwrap();
    fs::write(folder.join("empty.pem"), "nothing\n").unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(folder.join("other.pem"), other).unwrap();
    let quoted = |pem: &str| pem.replace('\r', "").replace('\n', "\\n");
    format!(
        r#"
static_resources:
  listeners:
  - name: inbound
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 15006 }} }}
    listener_filters:
    - name: proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        allow_requests_without_proxy_protocol: true
        disallowed_versions: [V1]
    - name: tls
      filter_disabled:
        or_match:
          rules:
          - destination_port_range: {{ start: 3306, end: 3307 }}
          - and_match:
              rules:
              - not_match: {{ destination_port_range: {{ start: 1, end: 1024 }} }}
              - destination_port_range: {{ start: 1000, end: 2000 }}
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
        initial_read_buffer_size: 512
        max_client_hello_size: 4096
    - name: http
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector
    filter_chains:
    - filter_chain_match:
        destination_port: 443
        prefix_ranges: [ {{ address_prefix: 10.0.0.9, prefix_len: 8 }}, {{ address_prefix: "::" }} ]
        server_names: [A.test, "*.b.Test"]
        transport_protocol: tls
        application_protocols: [istio]
        direct_source_prefix_ranges: [ {{ address_prefix: 10.0.0.1, prefix_len: 32 }} ]
        source_type: EXTERNAL
        source_prefix_ranges: [ {{ address_prefix: "fd00::", prefix_len: 8 }} ]
        source_ports: [1, 65535]
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {TLS}.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params:
              tls_minimum_protocol_version: TLSv1_2
              tls_maximum_protocol_version: TLSv1_3
              cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384, "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]", AES128-GCM-SHA256]
              ecdh_curves: [X25519, P-256]
            tls_certificates:
            - certificate_chain: {{ inline_string: "{cert}" }}
              private_key: {{ filename: "{folder}/key.pem" }}
            validation_context:
              trusted_ca: {{ filename: "{folder}/cert.pem" }}
              match_typed_subject_alt_names:
              - san_type: URI
                matcher: {{ prefix: "spiffe://td/" }}
              match_subject_alt_names:
              - exact: shop.test
      transport_socket_connect_timeout: 15s
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          forward_client_cert_details: APPEND_FORWARD
          set_current_client_cert_details: {{ subject: true, uri: true, dns: true }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: app }} }} ]
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  - name: injected
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 443 }} }}
    filter_chains:
    - filter_chain_match: {{ server_names: [a.test] }}
      filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: app
  clusters:
  - name: app
    transport_socket_matches:
    - name: mesh
      match: {{ tlsMode: istio }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {TLS}.UpstreamTlsContext
          sni: outbound_.80_._.app.svc.cluster.local
          max_session_keys: 0
          common_tls_context:
            alpn_protocols: [istio]
            validation_context: {{ trusted_ca: {{ inline_string: "{cert}" }} }}
    - name: plain
      match: {{}}
      transport_socket:
        name: envoy.transport_sockets.raw_buffer
        typed_config: {{ "@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 10.0.0.1, port_value: 80 }} }} }}
          metadata: {{ filter_metadata: {{ envoy.transport_socket_match: {{ tlsMode: istio, more: 1 }} }} }}
        - endpoint: {{ address: {{ socket_address: {{ address: 10.0.0.2, port_value: 80 }} }} }}
          metadata: {{ filter_metadata: {{ envoy.transport_socket_match: {{ tlsMode: other }} }} }}
        - endpoint: {{ address: {{ socket_address: {{ address: 10.0.0.3, port_value: 80 }} }} }}
"#,
        cert = quoted(&cert),
        folder = folder.display(),
    )
}

fn load(folder: &Path, text: &str) -> Result<Loaded, LoadError> {
    let path = folder.join("bootstrap.yaml");
    fs::write(&path, text).unwrap();
    load_bootstrap(&path, &Converter::InProcess)
}

#[test]
fn filter_chains_listener_filters_and_tls_arrive_in_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let text = bootstrap(folder.path());
    let model = load(folder.path(), &text)
        .unwrap_or_else(|e| panic!("{e}"))
        .model;
    let inbound = &model.resources.listeners[0];
    let kinds: Vec<_> = inbound.listener_filters.iter().map(|f| f.kind).collect();
    let optional = ProxyProtocol {
        optional: true,
        v1: false,
        v2: true,
    };
    assert_eq!(
        kinds,
        [
            ListenerFilterKind::ProxyProtocol(optional),
            ListenerFilterKind::TlsInspector {
                max_client_hello: 4096
            },
            ListenerFilterKind::HttpInspector,
        ]
    );
    let tls = &inbound.listener_filters[1];
    for (port, runs) in [
        (3306, false),
        (3307, true),
        (1023, true),
        (1024, false),
        (2000, true),
    ] {
        assert_eq!(tls.runs_for(port), runs, "{port}");
    }
    assert!(matches!(tls.disabled, Some(PortPredicate::Or(_))));

    let chain = &inbound.filter_chains[0];
    let FilterChainMatch {
        destination_port,
        prefix_ranges,
        server_names,
        transport_protocol,
        application_protocols,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
    } = &chain.matcher;
    let told = |ranges: &[shunt_proxy::model::IpRange]| {
        let told: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        told.join(" ")
    };
    assert_eq!(*destination_port, Some(443));
    assert_eq!(told(prefix_ranges), "10.0.0.0/8 ::/0");
    let names = [
        ServerNameMatch::Exact("a.test".into()),
        ServerNameMatch::Suffix(".b.test".into()),
    ];
    assert_eq!(*server_names, names);
    assert_eq!(*transport_protocol, Some(TransportProtocol::Tls));
    assert_eq!(*application_protocols, ["istio".into()]);
    assert_eq!(told(direct_source_prefix_ranges), "10.0.0.1/32");
    assert_eq!(*source_type, Some(SourceType::External));
    assert_eq!(told(source_prefix_ranges), "fd00::/8");
    assert_eq!(*source_ports, [1, 65535]);
    assert_eq!(
        chain.handshake_timeout,
        Some(std::time::Duration::from_secs(15))
    );

    let tls = chain.tls.as_ref().unwrap();
    assert!(tls.require_client_certificate && tls.session_tickets);
    assert_eq!(tls.params.cipher_suites.as_ref().unwrap().len(), 3);
    assert_eq!(tls.params.groups.as_ref().unwrap().len(), 2);
    let names = &tls.validation.as_ref().unwrap().names;
    assert!(
        matches!(&names[0].value, StringMatch::Prefix { value, .. } if value == "spiffe://td/")
    );
    let kinds: Vec<SanKind> = names[1..].iter().map(|name| name.kind).collect();
    assert_eq!(kinds, SanKind::ALL);
    let NetworkFilter::Http(http) = &chain.filter else {
        panic!("not HTTP")
    };
    assert_eq!(http.forward_client_cert, ForwardClientCert::AppendForward);
    assert!(http.client_cert_details.subject && http.client_cert_details.uri);

    // As Envoy does, or its chain could never be taken.
    let injected = &model.resources.listeners[1].listener_filters;
    assert!(injected.len() == 1 && injected[0].kind.is_tls_inspector());
}

#[test]
fn an_endpoint_is_reached_by_the_first_transport_that_its_metadata_match() {
    let folder = tempfile::tempdir().unwrap();
    let text = bootstrap(folder.path());
    let model = load(folder.path(), &text)
        .unwrap_or_else(|e| panic!("{e}"))
        .model;
    let ClusterKind::Static(endpoints) = &model.resources.clusters[0].kind else {
        panic!("not static")
    };
    let by_tls: Vec<bool> = endpoints.iter().map(|e| e.tls.is_some()).collect();
    assert_eq!(by_tls, [true, false, false]);
    let tls = endpoints[0].tls.as_ref().unwrap();
    assert!(!tls.resumption);
    assert_eq!(
        tls.sni.as_ref().unwrap().to_str(),
        "outbound_.80_._.app.svc.cluster.local"
    );
}

const CHAIN: &str = "static_resources.listeners[0].filter_chains[0]";
const CONTEXT: &str = ".transport_socket.typed_config.common_tls_context";
const UPSTREAM: &str = "static_resources.clusters[0].transport_socket_matches[0].transport_socket\
                        .typed_config";

#[test]
fn what_is_wrong_or_not_implemented_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let text = bootstrap(folder.path());
    assert!(load(folder.path(), &text).is_ok());
    // What stands there, what shall stand there; where the one problem is, and what it says.
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        (
            "key.pem",
            "other.pem",
            CHAIN,
            CONTEXT,
            "private_key is not the key of the first certificate",
        ),
        (
            "key.pem",
            "none.pem",
            CHAIN,
            "{C}.tls_certificates[0].private_key.filename",
            "cannot be read",
        ),
        (
            "key.pem",
            "empty.pem",
            CHAIN,
            "{C}.tls_certificates[0].private_key",
            "begins with -----BEGIN PRIVATE KEY-----",
        ),
        (
            "cert.pem",
            "empty.pem",
            CHAIN,
            "{C}.validation_context.trusted_ca",
            "there is no certificate in it",
        ),
        (
            "              match_typed_subject_alt_names:",
            "              verify_certificate_hash: [\"00\"]\n              match_typed_subject_alt_names:",
            CHAIN,
            "{C}.validation_context.verify_certificate_hash",
            "not implemented",
        ),
        (
            "              match_typed_subject_alt_names:",
            "              crl: { inline_string: x }\n              match_typed_subject_alt_names:",
            CHAIN,
            "{C}.validation_context.crl",
            "not implemented",
        ),
        (
            "              match_typed_subject_alt_names:",
            "              allow_expired_certificate: true\n              match_typed_subject_alt_names:",
            CHAIN,
            "{C}.validation_context.allow_expired_certificate",
            "at false",
        ),
        (
            "san_type: URI",
            "san_type: OTHER_NAME",
            CHAIN,
            "{C}.validation_context.match_typed_subject_alt_names[0].san_type",
            "OTHER_NAME",
        ),
        (
            "ecdh_curves: [X25519, P-256]",
            "ecdh_curves: [X25519, P-521]",
            CHAIN,
            "{C}.tls_params.ecdh_curves[1]",
            "\"P-521\" is none",
        ),
        (
            "cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384,",
            "cipher_suites: [NONSENSE,",
            CHAIN,
            "{C}.tls_params.cipher_suites[0]",
            "\"NONSENSE\" is none",
        ),
        (
            "tls_maximum_protocol_version: TLSv1_3",
            "tls_maximum_protocol_version: TLSv1_1",
            CHAIN,
            "{C}.tls_params.tls_maximum_protocol_version",
            "no version is left",
        ),
        (
            "alpn_protocols: [h2, http/1.1]",
            "alpn_protocols: [\"\"]",
            CHAIN,
            "{C}.alpn_protocols[0]",
            "1 to 255 bytes",
        ),
        (
            "require_client_certificate: true",
            "require_client_certificate: true\n          session_timeout: 5s",
            CHAIN,
            ".transport_socket.typed_config.session_timeout",
            "not implemented",
        ),
        (
            "    alpn_protocols: [istio]\n",
            "    alpn_protocols: [istio]\n            tls_certificate_sds_secret_configs: [ { name: default } ]\n",
            UPSTREAM,
            ".common_tls_context.tls_certificate_sds_secret_configs[0].name",
            "say by sds_config which file it is in",
        ),
        (
            "max_session_keys: 0",
            "auto_host_sni: true",
            UPSTREAM,
            ".auto_host_sni",
            "at false",
        ),
        (
            "sni: outbound_.80_._.app.svc.cluster.local",
            "sni: \"a b\"",
            UPSTREAM,
            ".sni",
            "cannot be sent",
        ),
        (
            "server_names: [A.test,",
            "server_names: [\"a*.test\",",
            CHAIN,
            ".filter_chain_match.server_names[0]",
            "*.example.com",
        ),
        (
            "prefix_len: 32",
            "prefix_len: 33",
            CHAIN,
            ".filter_chain_match.direct_source_prefix_ranges[0].prefix_len",
            "33 bits",
        ),
        (
            "source_ports: [1,",
            "source_ports: [0,",
            CHAIN,
            ".filter_chain_match.source_ports[0]",
            "1 to 65535",
        ),
        (
            "max_client_hello_size: 4096",
            "max_client_hello_size: 100",
            "static_resources.listeners[0].listener_filters[1]",
            ".typed_config.max_client_hello_size",
            "256 to 16384",
        ),
        (
            "max_client_hello_size: 4096",
            "enable_ja3_fingerprinting: true",
            "static_resources.listeners[0].listener_filters[1]",
            ".typed_config.enable_ja3_fingerprinting",
            "at false",
        ),
        (
            "destination_port_range: { start: 3306, end: 3307 }",
            "destination_port_range: { start: 3306, end: 3306 }",
            "static_resources.listeners[0].listener_filters[1]",
            ".filter_disabled.or_match.rules[0].destination_port_range",
            "not part of the range",
        ),
        (
            "disallowed_versions: [V1]",
            "rules: [ { tlv_type: 1 } ]",
            "static_resources.listeners[0].listener_filters[0]",
            ".typed_config.rules",
            "not implemented",
        ),
        (
            "set_current_client_cert_details: { subject: true,",
            "set_current_client_cert_details: { issuer: true,",
            CHAIN,
            ".filters[0].typed_config.set_current_client_cert_details.issuer",
            "not implemented",
        ),
    ];
    for (from, to, below, path, says) in rows {
        assert!(text.contains(from), "{from}");
        let path = format!("{below}{}", path.replace("{C}", CONTEXT));
        let problem = the_problem(folder.path(), &text.replacen(from, to, 1), to);
        assert_eq!(problem.path, path, "{to}: {problem}");
        assert!(problem.message.contains(says), "{to}: {problem}");
    }
}

#[test]
fn nobody_is_believed_by_a_name_or_a_certificate_that_no_ca_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let text = bootstrap(folder.path());
    let trusted = format!(
        "              trusted_ca: {{ filename: \"{}/cert.pem\" }}\n",
        folder.path().display()
    );
    assert!(text.contains(&trusted));
    let problem = the_problem(folder.path(), &text.replacen(&trusted, "", 1), "no CA");
    assert_eq!(
        problem.path,
        format!("{CHAIN}{CONTEXT}.validation_context.trusted_ca")
    );
    // And where nothing is validated at all, a certificate cannot be required.
    let begin = text.find("            validation_context:\n").unwrap();
    let end = text.find("      transport_socket_connect_timeout").unwrap();
    let text = format!("{}{}", &text[..begin], &text[end..]);
    let problem = the_problem(folder.path(), &text, "no validation");
    let path = ".transport_socket.typed_config.require_client_certificate";
    assert_eq!(problem.path, format!("{CHAIN}{path}"), "{problem}");
}

fn the_problem(folder: &Path, text: &str, what: &str) -> Problem {
    match load(folder, text).map(drop) {
        Err(LoadError::Invalid { problems, .. }) => {
            let [problem] = problems.list() else {
                panic!("{what}: not one problem: {problems}")
            };
            problem.clone()
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(()) => panic!("{what}: accepted"),
    }
}

#[test]
fn a_key_of_rsa_or_of_another_curve_is_no_reason_to_refuse() {
    // rcgen makes keys of P-256; one of P-384 and its certificate are served as well.
    let folder = tempfile::tempdir().unwrap();
    let text = bootstrap(folder.path());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let params = CertificateParams::new(["shop.test".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap().pem();
    fs::write(folder.path().join("cert.pem"), &cert).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let begin = text.find("certificate_chain: { inline_string").unwrap();
    let end = begin + text[begin..].find('\n').unwrap();
    let file = format!(
        "certificate_chain: {{ filename: \"{}/cert.pem\" }}",
        folder.path().display()
    );
    let text = format!("{}{file}{}", &text[..begin], &text[end..]);
    load(folder.path(), &text).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_dump_of_a_bootstrap_holds_no_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bootstrap.yaml");
    let text = bootstrap(folder.path());
    let key = fs::read_to_string(folder.path().join("key.pem")).unwrap();
    let quoted = key.replace('\r', "").replace('\n', "\\n");
    let file = format!("{{ filename: \"{}/key.pem\" }}", folder.path().display());
    let inline = text.replacen(&file, &format!("{{ inline_string: \"{quoted}\" }}"), 1);
    assert_ne!(inline, text);
    fs::write(&path, inline).unwrap();
    let loaded = load_bootstrap(&path, &Converter::InProcess).unwrap();
    let dump = to_json(&loaded.wire, None, &Converter::InProcess).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!dump.contains(secret), "{dump}");
    assert!(dump.contains("[redacted]"));
}
