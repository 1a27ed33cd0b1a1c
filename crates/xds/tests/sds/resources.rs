//! What the tests serve: certificates, and a listener and a cluster that need secrets.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::SocketAddr;

pub(crate) const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// A certificate and its key.
pub(crate) fn pem() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// What stands for this PEM in a double-quoted string of YAML.
pub(crate) fn line(pem: &str) -> String {
    pem.replace('\r', "").replace('\n', "\\n")
}

/// A listener at this address that terminates TLS, with these `SdsSecretConfig`s; as an entry of the
/// `resources` of a file.
pub(crate) fn listener(at: SocketAddr, own: &str, root: &str) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        r#"name: secured
  address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
  filter_chains:
  - transport_socket:
      name: tls
      typed_config:
        "@type": {TLS}.DownstreamTlsContext
        require_client_certificate: true
        common_tls_context:
          tls_certificate_sds_secret_configs: [ {own} ]
          validation_context_sds_secret_config: {root}
    filters:
    - name: tcp
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: tcp
        cluster: upstream
"#
    )
}

/// A cluster that originates TLS, likewise.
pub(crate) fn cluster(own: &str, root: &str) -> String {
    format!(
        r#"name: upstream
  transport_socket:
    name: tls
    typed_config:
      "@type": {TLS}.UpstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs: [ {own} ]
        combined_validation_context:
          default_validation_context: {{ match_typed_subject_alt_names: [ {{ san_type: DNS, matcher: {{ exact: shop.test }} }} ] }}
          validation_context_sds_secret_config: {root}
"#
    )
}

/// The `resources` of a file with one of this type.
pub(crate) fn of_file(kind: &str, resource: &str) -> String {
    format!("resources:\n- \"@type\": type.googleapis.com/{kind}\n  {resource}")
}
