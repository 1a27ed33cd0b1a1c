//! Inbound capture by TPROXY through a real sidecar: the application sees its clients' addresses.

use shunt_tests::net::User;
use shunt_tests::prelude::*;
use shunt_tests::server::Answer;

/// The application's ports.
const HTTP: u16 = 8080;
const TCP: u16 = 7777;

/// The sidecar of a pod that captures by TPROXY: in the proxy's group, which the rules know it by,
/// and with the capability that it takes.
const SIDECAR: User = User { uid: 0, gid: 1337 };

const BOOTSTRAP: &str = r#"
static_resources:
  listeners:
  - name: virtualOutbound
    traffic_direction: OUTBOUND
    address: { socket_address: { address: 0.0.0.0, port_value: 15001 } }
    use_original_dst: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: out
          cluster: passthrough
  - name: virtualInbound
    traffic_direction: INBOUND
    address: { socket_address: { address: 0.0.0.0, port_value: 15006 } }
    transparent: true
    listener_filters:
    - name: envoy.filters.listener.original_dst
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst
    - name: envoy.filters.listener.original_src
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc
        mark: 1337
    filter_chains:
    - filter_chain_match: { destination_port: 8080 }
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: any
              domains: ["*"]
              routes: [{ match: { prefix: / }, route: { cluster: passthrough } }]
    default_filter_chain:
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: in
          cluster: passthrough
  clusters:
  - name: passthrough
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
"#;

#[test]
fn the_application_sees_the_address_of_each_client() -> Result<()> {
    let net = Network::new("tproxy")?;
    let pod = net.pod("pod").build()?;
    let clients = [net.pod("one").build()?, net.pod("two").build()?];
    pod.apply_rules(&["-m", "TPROXY"])?;
    let _sidecar = pod.sidecar_under(BOOTSTRAP, |command| command.user(SIDECAR))?;
    let _stream = pod.echo("app", TCP)?;
    let app = pod.http_app_with("app", HTTP, |exchange| {
        Answer::ok(exchange.sighting.peer.ip().to_string().as_bytes())
    })?;
    for family in Family::BOTH {
        for client in &clients {
            let to = pod.on(family, TCP);
            let seen = client.as_user(User::APP).greet(to)?;
            assert_eq!(seen.local, to, "where it was going");
            assert_eq!(seen.peer.ip(), client.on(family, 0).ip(), "from the client");
        }
        // A connection that one client has left behind is not another's.
        for client in clients.iter().chain(&clients) {
            let request = Request::get("/").header("host", "app");
            let to = pod.on(family, HTTP);
            let answer = client.as_user(User::APP).request(to, &request)?;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.text(), client.on(family, 0).ip().to_string());
        }
    }
    assert_eq!(app.requests(), 8);
    let metrics = pod.metrics()?;
    let through = metrics.count("envoy_listener_downstream_cx_total", &[]);
    assert_eq!(
        through, 12,
        "connections of clients that the sidecar served"
    );
    assert!(
        metrics.count("envoy_cluster_upstream_cx_total", &[]) >= 8,
        "and made itself: {metrics:?}"
    );
    Ok(())
}

#[test]
fn the_applications_own_calls_leave_and_come_back_as_ever() -> Result<()> {
    let net = Network::new("tproxy-out")?;
    let pod = net.pod("pod").build()?;
    let peer = net.pod("peer").build()?;
    pod.apply_rules(&["-m", "TPROXY"])?;
    let _sidecar = pod.sidecar_under(BOOTSTRAP, |command| command.user(SIDECAR))?;
    let _server = peer.echo("peer", TCP)?;
    for family in Family::BOTH {
        let to = peer.on(family, TCP);
        let seen = pod.as_user(User::APP).greet(to)?;
        assert_eq!((seen.local, seen.peer.ip()), (to, pod.on(family, 0).ip()));
    }
    Ok(())
}

#[test]
fn without_its_capability_the_sidecar_says_what_is_missing() -> Result<()> {
    let net = Network::new("tproxy-cap")?;
    let pod = net.pod("pod").build()?;
    let finished = pod.sidecar_command(BOOTSTRAP)?.start()?.finish()?;
    assert_ne!(finished.code(), Some(0), "{finished}");
    let said = finished.to_string();
    for word in ["virtualInbound", "CAP_NET_ADMIN", "REDIRECT"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    Ok(())
}
