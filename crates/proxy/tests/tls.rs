//! TLS through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use rustls::{ClientConfig, HandshakeKind};
use shunt_proxy::listener::inspect::tls::MAX_CLIENT_HELLO;
use shunt_proxy::model::{
    ClientCertDetails, Cluster, Codec, DownstreamTls, FilterChain, FilterChainMatch,
    ForwardClientCert, Listener, ListenerFilter, ListenerFilterKind, NetworkFilter,
    ServerNameMatch, TcpCluster, TcpProxy, TransportProtocol, UpstreamTls,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use support::http2::{SETTINGS, frame, request};
use support::tls::{
    CLIENT, Ca, ask, client_config, downstream, end_client, end_server, host, serve, server_config,
    shake, spiffe, upstream as secured_by,
};
use support::{CLUSTER, Log, Proxy, Upstream, cluster, connect, hcm, listener, route};

const GET: &str = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const FORMAT: &str = "%RESPONSE_CODE% sni=%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% \
                      %DOWNSTREAM_TLS_CIPHER% uri=%DOWNSTREAM_PEER_URI_SAN% \
                      local=%DOWNSTREAM_LOCAL_URI_SAN% subject=%DOWNSTREAM_PEER_SUBJECT% \
                      why=%DOWNSTREAM_TRANSPORT_FAILURE_REASON% \
                      upstream=%UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_FLAGS%\n";

fn tcp_filter(log: &Log, to: &str) -> NetworkFilter {
    NetworkFilter::Tcp(TcpProxy {
        stat_prefix: "tcp".into(),
        cluster: TcpCluster::Cluster(to.into()),
        idle_timeout: None,
        max_duration: None,
        max_connect_attempts: 1,
        hash_source: false,
        access_log: vec![log.formatted(FORMAT)],
    })
}

/// A listener whose one chain terminates TLS.
fn terminating(tls: DownstreamTls, filter: NetworkFilter, log: &Log) -> Listener {
    let mut listener = listener(filter);
    listener.filter_chains[0].tls = Some(Arc::new(tls));
    listener.access_log = vec![log.formatted(FORMAT)];
    listener
}

/// An HTTP proxy that terminates TLS.
fn http_over(tls: DownstreamTls, upstream: SocketAddr) -> Proxy {
    let log = Log::new();
    let mut manager = hcm(vec![route("/", CLUSTER)], log.formatted(FORMAT));
    manager.forward_client_cert = ForwardClientCert::AppendForward;
    manager.client_cert_details = ClientCertDetails {
        subject: true,
        uri: true,
        dns: true,
        ..ClientCertDetails::default()
    };
    let listener = terminating(tls, NetworkFilter::Http(manager), &log);
    Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream])])
}

/// A TCP proxy that terminates TLS.
fn tcp_over(tls: DownstreamTls, upstream: SocketAddr) -> Proxy {
    let log = Log::new();
    let filter = tcp_filter(&log, CLUSTER);
    let listener = terminating(tls, filter, &log);
    Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream])])
}

fn cluster_over(tls: UpstreamTls, upstream: SocketAddr) -> Cluster {
    let mut cluster = cluster(CLUSTER, &[]);
    cluster.kind = shunt_proxy::model::ClusterKind::Static(vec![shunt_proxy::model::Endpoint {
        address: upstream,
        healthy: true,
        tls: Some(Arc::new(tls)),
        balanced: shunt_proxy::model::Balanced::default(),
    }]);
    cluster
}

fn listener_label(proxy: &Proxy) -> String {
    // The kernel chose the port; the label is that of the configuration.
    let _address = proxy.address;
    "127.0.0.1_0".to_owned()
}

fn wait_listener(proxy: &Proxy, family: &'static str, value: u64) {
    let label = listener_label(proxy);
    proxy.wait_value(family, &[("envoy_listener_address", &label)], value);
}

fn wait_cluster(proxy: &Proxy, family: &'static str, value: u64) {
    proxy.wait_value(family, &[("envoy_cluster_name", CLUSTER)], value);
}

#[test]
fn http_over_tls_is_terminated_and_its_record_tells_what_was_agreed() {
    let ca = Ca::new("ca");
    let (upstream, requests) = Upstream::http(OK);
    let proxy = http_over(downstream(ca.issue(&host("shop.test"))), upstream.address);
    let config = Arc::new(client_config(&ca, None, &[]));
    let answer = ask(proxy.address, &config, "shop.test", GET).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = requests.recv().unwrap();
    assert!(
        request.contains("\r\nx-forwarded-proto: https\r\n"),
        "{request}"
    );
    assert!(!request.contains("x-forwarded-client-cert"), "{request}");
    let record = proxy.records(1).remove(0);
    let told = "200 sni=shop.test TLSv1.3 TLS_AES_256_GCM_SHA384 uri=- local=- subject=- why=-";
    assert!(record.starts_with(told), "{record}");
    wait_listener(&proxy, "envoy_listener_ssl_handshake", 1);
    wait_listener(&proxy, "envoy_listener_ssl_no_certificate", 1);
}

#[test]
fn a_client_of_the_mesh_is_believed_by_its_name_and_the_upstream_is_told() {
    let ca = Ca::new("ca");
    let (upstream, requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&spiffe("spiffe://td/ns/a/sa/server")));
    tls.validation = Some(ca.validation(&["spiffe://td/ns/a/sa/client"]));
    tls.require_client_certificate = true;
    let proxy = http_over(tls, upstream.address);
    let identity = ca.issue(&spiffe("spiffe://td/ns/a/sa/client"));
    let mut config = client_config(&ca, Some(identity), &["istio-http/1.1", "istio"]);
    // As in a mesh: the name that is asked for is in no certificate.
    config
        .dangerous()
        .set_certificate_verifier(support::tls::anybody());
    let name = "outbound_.80_._.a.b.svc.cluster.local";
    let claim = "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=forged\r\n\r\n";
    let answer = ask(proxy.address, &Arc::new(config), name, claim).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = requests.recv().unwrap();
    let told = "\r\nx-forwarded-client-cert: By=forged,By=spiffe://td/ns/a/sa/server;Hash=";
    assert!(request.contains(told), "{request}");
    let told = ";Subject=\"CN=a leaf\";URI=spiffe://td/ns/a/sa/client\r\n";
    assert!(request.contains(told), "{request}");
    let record = proxy.records(1).remove(0);
    let told = format!(
        "200 sni={name} TLSv1.3 TLS_AES_256_GCM_SHA384 uri=spiffe://td/ns/a/sa/client \
                        local=spiffe://td/ns/a/sa/server subject=CN=a leaf why=- "
    );
    assert!(record.starts_with(&told), "{record}");
}

#[test]
fn clients_that_cannot_be_believed_are_refused_and_counted_by_the_reason() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let (upstream, requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.validation = Some(ca.validation(&["spiffe://td/ns/a/sa/client"]));
    let proxy = http_over(tls, upstream.address);
    let client = spiffe("spiffe://td/ns/a/sa/client");
    let expired = support::tls::Leaf {
        expired: true,
        ..spiffe("spiffe://td/ns/a/sa/client")
    };
    let rows = [
        (
            None,
            "fail_verify_no_cert",
            "did not provide required client certificate",
        ),
        (
            Some(other.issue(&client)),
            "fail_verify_error",
            "certificate verification failed",
        ),
        (Some(ca.issue(&expired)), "fail_verify_error", "expired"),
        (
            Some(ca.issue(&spiffe("spiffe://td/ns/a/sa/thief"))),
            "fail_verify_san",
            "URI:spiffe://td/ns/a/sa/thief",
        ),
        (Some(ca.issue(&CLIENT)), "fail_verify_san", "it has none"),
    ];
    let mut seen = 0;
    for (identity, family, why) in rows {
        let config = Arc::new(client_config(&ca, identity, &[]));
        let error = ask(proxy.address, &config, "shop.test", GET).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{why}");
        seen += 1;
        let record = proxy.records(seen).remove(seen - 1);
        assert!(record.starts_with("0 sni="), "{record}");
        assert!(
            record.contains("why=TLS_error") && record.contains(why),
            "{why}: {record}"
        );
        let family: &'static str = match family {
            "fail_verify_no_cert" => "envoy_listener_ssl_fail_verify_no_cert",
            "fail_verify_error" => "envoy_listener_ssl_fail_verify_error",
            _ => "envoy_listener_ssl_fail_verify_san",
        };
        assert!(
            proxy
                .registry
                .value(family, &[("envoy_listener_address", "127.0.0.1_0")])
                > Some(0)
        );
    }
    wait_listener(&proxy, "envoy_listener_ssl_fail_verify_no_cert", 1);
    wait_listener(&proxy, "envoy_listener_ssl_fail_verify_error", 2);
    wait_listener(&proxy, "envoy_listener_ssl_fail_verify_san", 2);
    // Nothing of it came through; the right one does.
    assert!(requests.try_recv().is_err());
    let config = Arc::new(client_config(&ca, Some(ca.issue(&client)), &[]));
    ask(proxy.address, &config, "shop.test", GET).unwrap();
    wait_listener(&proxy, "envoy_listener_ssl_handshake", 1);
}

#[test]
fn a_client_that_need_not_show_a_certificate_may_come_without_but_not_with_a_bad_one() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let (upstream, _requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.validation = Some(ca.validation(&[]));
    let proxy = http_over(tls, upstream.address);
    let without = Arc::new(client_config(&ca, None, &[]));
    ask(proxy.address, &without, "shop.test", GET).unwrap();
    let bad = Arc::new(client_config(&ca, Some(other.issue(&CLIENT)), &[]));
    ask(proxy.address, &bad, "shop.test", GET).unwrap_err();
    wait_listener(&proxy, "envoy_listener_ssl_fail_verify_error", 1);
}

#[test]
fn an_application_protocol_is_agreed_on_where_one_fits_and_else_none() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.alpn = ["istio-peer-exchange", "h2", "http/1.1"]
        .map(str::to_owned)
        .to_vec();
    let proxy = http_over(tls, upstream.address);
    let rows: [(&[&str], Option<&[u8]>); 5] = [
        (&["h2", "http/1.1"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        // Not to be agreed on by who does not speak it.
        (&["istio-peer-exchange", "istio"], None),
        (&[], None),
    ];
    for (offered, agreed) in rows {
        let config = Arc::new(client_config(&ca, None, offered));
        let mut client = shake(proxy.address, &config, "shop.test").unwrap();
        assert_eq!(client.conn.alpn_protocol(), agreed, "{offered:?}");
        // And what was agreed on is spoken.
        if agreed == Some(b"h2") {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            let hello = [&preface[..], &frame(SETTINGS, 0, 0, &[]), &request(1)];
            client.write_all(&hello.concat()).unwrap();
            let mut answer = Vec::new();
            let mut byte = [0];
            while !answer.ends_with(b"hi") {
                client.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
        } else {
            ask(proxy.address, &config, "shop.test", GET).unwrap();
        }
    }
}

#[test]
fn a_chain_that_speaks_http1_alone_agrees_on_nothing_else() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.alpn = vec!["h2".to_owned()];
    let log = Log::new();
    let mut manager = hcm(vec![route("/", CLUSTER)], log.formatted(FORMAT));
    manager.codec = Codec::Http1;
    let filter = NetworkFilter::Http(manager);
    let listener = terminating(tls, filter, &log);
    let proxy = Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream.address])]);
    let config = Arc::new(client_config(&ca, None, &["h2"]));
    let client = shake(proxy.address, &config, "shop.test").unwrap();
    assert_eq!(client.conn.alpn_protocol(), None);
    ask(proxy.address, &config, "shop.test", GET).unwrap();
}

#[test]
fn the_certificate_that_names_the_server_is_shown() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("first.test")));
    tls.identities.push(ca.issue(&host("second.test")));
    tls.identities.push(ca.issue(&host("*.wild.test")));
    let proxy = http_over(tls, upstream.address);
    let config = Arc::new(client_config(&ca, None, &[]));
    // The client verifies the name itself.
    for name in ["first.test", "second.test", "a.wild.test"] {
        ask(proxy.address, &config, name, GET).unwrap();
    }
    let error = shake(proxy.address, &config, "other.test")
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("first.test"), "{error}");
}

fn resumes(proxy: &Proxy, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = shake(proxy.address, config, "shop.test").unwrap();
    client.write_all(GET.as_bytes()).unwrap();
    // The tickets come before the answer.
    client.read_exact(&mut [0; 40]).unwrap();
    client.conn.handshake_kind().unwrap()
}

#[test]
fn a_session_is_resumed_with_its_ticket_and_not_where_there_are_none() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.validation = Some(ca.validation(&["spiffe://a"]));
    let proxy = http_over(tls, upstream.address);
    let identity = ca.issue(&spiffe("spiffe://a"));
    let config = Arc::new(client_config(&ca, Some(identity), &[]));
    assert_eq!(resumes(&proxy, &config), HandshakeKind::Full);
    assert_eq!(resumes(&proxy, &config), HandshakeKind::Resumed);
    wait_listener(&proxy, "envoy_listener_ssl_session_reused", 1);
    // Who the client is was not forgotten.
    let records = proxy.records(2);
    assert!(
        records.iter().all(|r| r.contains(" uri=spiffe://a ")),
        "{records:#?}"
    );

    let mut tls = downstream(ca.issue(&host("shop.test")));
    tls.session_tickets = false;
    let proxy = http_over(tls, upstream.address);
    let config = Arc::new(client_config(&ca, None, &[]));
    assert_eq!(resumes(&proxy, &config), HandshakeKind::Full);
    assert_eq!(resumes(&proxy, &config), HandshakeKind::Full);
}

#[test]
fn what_is_no_tls_is_refused_and_counted() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = http_over(downstream(ca.issue(&host("shop.test"))), upstream.address);
    for garbage in [
        GET.as_bytes(),
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        &[0xff; 100],
    ] {
        let mut client = connect(proxy.address);
        client.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // An alert at most, then the end.
        let _reset = client.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    wait_listener(&proxy, "envoy_listener_ssl_connection_error", 3);
}

#[test]
fn a_handshake_that_takes_too_long_ends_the_connection() {
    let ca = Ca::new("ca");
    let (upstream, _requests) = Upstream::http(OK);
    let log = Log::new();
    let manager = hcm(vec![route("/", CLUSTER)], log.formatted(FORMAT));
    let tls = downstream(ca.issue(&host("shop.test")));
    let mut listener = terminating(tls, NetworkFilter::Http(manager), &log);
    listener.filter_chains[0].handshake_timeout = Some(Duration::from_millis(50));
    let proxy = Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream.address])]);
    let mut client = connect(proxy.address);
    client.write_all(&[0x16, 3, 1]).unwrap();
    let ended = client.read(&mut [0]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    wait_listener(
        &proxy,
        "envoy_listener_downstream_cx_transport_socket_connect_timeout",
        1,
    );
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("why=transport socket timeout was reached"),
        "{record}"
    );
}

fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

#[test]
fn bytes_pass_both_ways_through_tls_with_half_close_by_the_client() {
    const LENGTH: usize = 3_000_000;
    let ca = Ca::new("ca");
    let upstream_tls = Arc::new(server_config(ca.issue(&host("upstream.test")), None, &[]));
    let (seen, upstream_saw) = mpsc::channel();
    let upstream = Upstream::start(move |tcp| {
        let mut stream = serve(tcp, &upstream_tls).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        seen.send(got).unwrap();
        // Only now, after the client's end of stream.
        stream.write_all(&pattern(LENGTH, 2)).unwrap();
        end_server(&mut stream);
    });
    let log = Log::new();
    let filter = tcp_filter(&log, CLUSTER);
    let tls = downstream(ca.issue(&host("shop.test")));
    let listener = terminating(tls, filter, &log);
    let to = cluster_over(secured_by(Some(ca.validation(&[]))), upstream.address);
    let proxy = Proxy::listen(log, listener, vec![to]);
    let config = Arc::new(client_config(&ca, None, &[]));
    let mut client = shake(proxy.address, &config, "shop.test").unwrap();
    client.write_all(&pattern(LENGTH, 1)).unwrap();
    end_client(&mut client);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == pattern(LENGTH, 2));
    assert!(upstream_saw.recv().unwrap() == pattern(LENGTH, 1));
    let record = proxy.records(1).remove(0);
    assert!(record.contains("why=- upstream=- -"), "{record}");
}

#[test]
fn a_tls_stream_that_ends_without_close_notify_is_a_reset_for_the_other_side() {
    let ca = Ca::new("ca");
    // From downstream.
    let (seen, upstream_saw) = mpsc::channel();
    let plain = Upstream::start(move |mut tcp| {
        let mut got = [0; 4];
        tcp.read_exact(&mut got).unwrap();
        seen.send(tcp.read(&mut [0])).unwrap();
    });
    let proxy = tcp_over(downstream(ca.issue(&host("shop.test"))), plain.address);
    let config = Arc::new(client_config(&ca, None, &[]));
    let mut client = shake(proxy.address, &config, "shop.test").unwrap();
    client.write_all(b"part").unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    let error = upstream_saw.recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("why=the TLS stream ended without close_notify"),
        "{record}"
    );

    // From upstream.
    let upstream_tls = Arc::new(server_config(ca.issue(&host("upstream.test")), None, &[]));
    let secured = Upstream::start(move |tcp| {
        let mut stream = serve(tcp, &upstream_tls).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"part").unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let _waits = stream.sock.read(&mut [0]);
    });
    let log = Log::new();
    let filter = tcp_filter(&log, CLUSTER);
    let to = cluster_over(secured_by(Some(ca.validation(&[]))), secured.address);
    let proxy = Proxy::start(log, filter, vec![to]);
    let mut client = connect(proxy.address);
    client.write_all(b"ping").unwrap();
    let mut got = Vec::new();
    let error = client.read_to_end(&mut got).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{got:?}");
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("upstream=the TLS stream ended without close_notify UC"),
        "{record}"
    );
}

/// A listener that passes TLS on by server name, to one cluster for each.
fn passthrough(chains: &[(&str, &str)], clusters: Vec<Cluster>) -> Proxy {
    let log = Log::new();
    let mut listener = listener(tcp_filter(&log, CLUSTER));
    listener.listener_filters = vec![ListenerFilter::always(ListenerFilterKind::TlsInspector {
        max_client_hello: MAX_CLIENT_HELLO,
    })];
    listener.filter_chains = chains
        .iter()
        .map(|(name, to)| FilterChain {
            name: "".into(),
            matcher: FilterChainMatch {
                transport_protocol: Some(TransportProtocol::Tls),
                server_names: vec![match name.strip_prefix('*') {
                    Some(suffix) => ServerNameMatch::Suffix(suffix.into()),
                    None => ServerNameMatch::Exact((*name).into()),
                }],
                ..FilterChainMatch::default()
            },
            tls: None,
            handshake_timeout: None,
            filter: tcp_filter(&log, to),
        })
        .collect();
    listener.access_log = vec![log.formatted(FORMAT)];
    Proxy::listen(log, listener, clusters)
}

#[test]
fn tls_is_passed_on_untouched_by_the_server_name_however_it_is_cut() {
    let echo = |name: &'static str| {
        Upstream::start(move |mut tcp| {
            tcp.write_all(name.as_bytes()).unwrap();
            let mut got = Vec::new();
            tcp.read_to_end(&mut got).unwrap();
            tcp.write_all(&got).unwrap();
        })
    };
    let (exact, wild) = (echo("exact:"), echo("wild:"));
    let proxy = passthrough(
        &[("a.b.test", "exact"), ("*.b.test", "wild")],
        vec![
            cluster("exact", &[exact.address]),
            cluster("wild", &[wild.address]),
        ],
    );
    let ca = Ca::new("ca");
    let config = Arc::new(client_config(&ca, None, &["h2"]));
    for (name, expected) in [
        ("a.b.test", "exact:"),
        ("x.b.test", "wild:"),
        ("A.B.TEST", "exact:"),
    ] {
        let server = name.to_owned().try_into().unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::clone(&config), server).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let mut client = connect(proxy.address);
        client.set_nodelay(true).unwrap();
        for byte in &hello {
            client.write_all(&[*byte]).unwrap();
        }
        client.write_all(b"and what follows").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        let sent = [expected.as_bytes(), &hello, b"and what follows"].concat();
        assert!(got == sent, "{name}");
    }
    let records = proxy.records(3);
    assert!(records[0].contains(" sni=a.b.test - - "), "{records:#?}");

    // No chain: closed, and recorded.
    let error = shake(proxy.address, &config, "c.test")
        .map(drop)
        .unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut);
    wait_listener(&proxy, "envoy_listener_no_filter_chain_match", 1);
    let mut plain = connect(proxy.address);
    plain.write_all(b"G").unwrap();
    // Told apart at the first byte.
    let _closed = plain.read(&mut [0]);
    wait_listener(&proxy, "envoy_listener_no_filter_chain_match", 2);
    proxy.wait_value("envoy_tls_inspector_tls_found", &[], 4);
    proxy.wait_value("envoy_tls_inspector_sni_found", &[], 4);
    proxy.wait_value("envoy_tls_inspector_alpn_found", &[], 4);
    proxy.wait_value("envoy_tls_inspector_tls_not_found", &[], 1);
}

#[test]
fn a_client_hello_without_end_closes_the_connection() {
    let proxy = passthrough(&[("a.test", CLUSTER)], vec![cluster(CLUSTER, &[])]);
    let mut client = connect(proxy.address);
    client
        .write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 1])
        .unwrap();
    let _closed = client.read(&mut [0]);
    proxy.wait_value("envoy_tls_inspector_client_hello_too_large", &[], 1);
    assert!(
        proxy.records(1)[0].trim_end().ends_with(" DPE"),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn tls_is_originated_with_name_protocol_and_certificate() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&spiffe("spiffe://td/server"));
    let server = server_config(identity, Some(&ca), &["http/1.1", "istio"]);
    let server = Arc::new(server);
    let (seen, upstream_saw) = mpsc::channel();
    let upstream = Upstream::start(move |tcp| {
        let Ok(mut stream) = serve(tcp, &server) else {
            return;
        };
        let conn = &stream.conn;
        let agreed = conn.alpn_protocol().map(<[u8]>::to_vec);
        let client = conn.peer_certificates().unwrap()[0].clone();
        seen.send((conn.server_name().map(str::to_owned), agreed, client))
            .unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|n| n == 1) {
            got.push(byte[0]);
            if got.ends_with(b"\r\n\r\n") {
                stream.write_all(OK.as_bytes()).unwrap();
            }
        }
    });
    for (configured, agreed) in [
        (&[][..], &b"http/1.1"[..]),
        (&["istio-peer-exchange", "istio"], b"istio"),
    ] {
        let client = ca.issue(&spiffe("spiffe://td/client"));
        let shown = client.chain[0].clone();
        let mut tls = secured_by(Some(ca.validation(&["spiffe://td/server"])));
        tls.identity = Some(client);
        tls.alpn = configured
            .iter()
            .map(|&name: &&str| name.to_owned())
            .collect();
        let log = Log::new();
        let manager = hcm(vec![route("/", CLUSTER)], log.config());
        let to = cluster_over(tls, upstream.address);
        let proxy = Proxy::start(log, NetworkFilter::Http(manager), vec![to]);
        let mut client = proxy.connect();
        // The connection is kept.
        for _ in 0..3 {
            let answer = support::exchange(&mut client, GET);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        let (name, protocol, certificate) = upstream_saw.recv().unwrap();
        assert_eq!(name.as_deref(), Some("upstream.test"));
        assert_eq!(protocol.as_deref(), Some(agreed));
        assert_eq!(certificate, shown);
        wait_cluster(&proxy, "envoy_cluster_ssl_handshake", 1);
        wait_cluster(&proxy, "envoy_cluster_upstream_cx_total", 1);
    }
}

#[test]
fn an_upstream_that_cannot_be_believed_gets_no_request() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let expired = support::tls::Leaf {
        expired: true,
        ..spiffe("spiffe://td/server")
    };
    let rows = [
        (
            ca.issue(&spiffe("spiffe://td/thief")),
            "fail_verify_san",
            "URI:spiffe://td/thief",
        ),
        (
            other.issue(&spiffe("spiffe://td/server")),
            "fail_verify_error",
            "UnknownIssuer",
        ),
        (ca.issue(&expired), "fail_verify_error", "expired"),
    ];
    for (identity, family, why) in rows {
        let server = Arc::new(server_config(identity, None, &[]));
        let upstream = Upstream::start(move |tcp| {
            if let Ok(mut stream) = serve(tcp, &server) {
                let read = stream.read(&mut [0; 16]);
                assert!(
                    !read.is_ok_and(|n| n > 0),
                    "nothing may be told to a stranger"
                );
            }
        });
        let tls = secured_by(Some(ca.validation(&["spiffe://td/server"])));
        let log = Log::new();
        let manager = hcm(vec![route("/", CLUSTER)], log.formatted(FORMAT));
        let to = cluster_over(tls, upstream.address);
        let proxy = Proxy::start(log, NetworkFilter::Http(manager), vec![to]);
        let answer = support::exchange(&mut proxy.connect(), GET);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let record = proxy.records(1).remove(0);
        assert!(
            record.contains("upstream=TLS_error") && record.contains(why),
            "{why}: {record}"
        );
        assert!(record.trim_end().ends_with(" UF"), "{record}");
        let family = match family {
            "fail_verify_san" => "envoy_cluster_ssl_fail_verify_san",
            _ => "envoy_cluster_ssl_fail_verify_error",
        };
        wait_cluster(&proxy, family, 1);
        wait_cluster(&proxy, "envoy_cluster_upstream_cx_connect_fail", 1);
    }
}

#[test]
fn without_a_validation_whoever_answers_is_believed_and_sessions_are_resumed() {
    let ca = Ca::new("ca");
    let server = Arc::new(server_config(ca.issue(&host("any.test")), None, &[]));
    let (seen, upstream_saw) = mpsc::channel();
    let upstream = Upstream::start(move |tcp| {
        let mut stream = serve(tcp, &server).unwrap();
        seen.send(stream.conn.handshake_kind().unwrap()).unwrap();
        let mut got = [0; 4];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        end_server(&mut stream);
    });
    let log = Log::new();
    let filter = tcp_filter(&log, CLUSTER);
    let to = cluster_over(secured_by(None), upstream.address);
    let proxy = Proxy::start(log, filter, vec![to]);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = proxy.connect();
        client.write_all(b"ping").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"ping");
        assert_eq!(upstream_saw.recv().unwrap(), expected);
    }
    wait_cluster(&proxy, "envoy_cluster_ssl_session_reused", 1);
}

#[test]
fn an_upstream_that_never_shakes_hands_fails_within_the_time_to_connect() {
    let upstream = Upstream::start(|mut tcp| {
        let _waits = thread::spawn(move || tcp.read(&mut [0; 10_000]).map(|_| thread::park()));
        thread::park();
    });
    let log = Log::new();
    let manager = hcm(vec![route("/", CLUSTER)], log.formatted(FORMAT));
    let mut to = cluster_over(secured_by(None), upstream.address);
    to.connect_timeout = Duration::from_millis(100);
    let proxy = Proxy::start(log, NetworkFilter::Http(manager), vec![to]);
    let answer = support::exchange(&mut proxy.connect(), GET);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    wait_cluster(&proxy, "envoy_cluster_upstream_cx_connect_timeout", 1);
}
