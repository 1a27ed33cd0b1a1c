//! Listener filters through a proxy in this process: PROXY headers, inspectors, their timeout.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::listener::inspect::tls::MAX_CLIENT_HELLO;
use shunt_proxy::model::{
    FilterChain, FilterChainMatch, IpRange, Listener, ListenerFilter, ListenerFilterKind,
    NetworkFilter, PortPredicate, ProxyProtocol, TcpCluster, TcpProxy, TransportProtocol,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use support::{CLUSTER, Log, Proxy, Upstream, cluster, connect, listener};

const FORMAT: &str = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %BYTES_RECEIVED% \
                      %CONNECTION_TERMINATION_DETAILS% %RESPONSE_FLAGS%\n";
const TLS_INSPECTOR: ListenerFilterKind = ListenerFilterKind::TlsInspector {
    max_client_hello: MAX_CLIENT_HELLO,
};
const REQUIRED: ProxyProtocol = ProxyProtocol {
    optional: false,
    v1: true,
    v2: true,
};

fn tcp(log: &Log, to: &str) -> NetworkFilter {
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

/// Says who it is, then sends back what it gets.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |mut tcp| {
        tcp.write_all(name.as_bytes()).unwrap();
        let mut got = Vec::new();
        tcp.read_to_end(&mut got).unwrap();
        tcp.write_all(&got).unwrap();
    })
}

fn filtered(log: &Log, filters: Vec<ListenerFilter>) -> Listener {
    let mut listener = listener(tcp(log, CLUSTER));
    listener.listener_filters = filters;
    listener.access_log = vec![log.formatted(FORMAT)];
    listener
}

fn exchange(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    got
}

#[test]
fn a_proxy_header_names_the_peer_and_is_no_part_of_the_stream() {
    let upstream = named("hello:");
    let log = Log::new();
    let kind = ListenerFilterKind::ProxyProtocol(REQUIRED);
    let listener = filtered(&log, vec![ListenerFilter::always(kind)]);
    let proxy = Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream.address])]);
    let v1 = b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\nbytes";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x02\xc6\x33\x64\x07\x04\xd2\x01\xbb\x04\0\0bytes";
    for header in [&v1[..], v2] {
        // In one piece, and byte by byte.
        assert_eq!(
            exchange(&mut connect(proxy.address), header),
            b"hello:bytes"
        );
        let mut client = connect(proxy.address);
        client.set_nodelay(true).unwrap();
        let (last, first) = header.split_last().unwrap();
        for byte in first {
            client.write_all(&[*byte]).unwrap();
        }
        assert_eq!(exchange(&mut client, &[*last]), b"hello:bytes");
    }
    let records = proxy.records(4);
    let (ones, twos) = records.split_at(2);
    for record in ones {
        assert_eq!(record, "192.0.2.1:1234 198.51.100.7:443 5 - -");
    }
    for record in twos {
        assert_eq!(record, "192.0.2.2:1234 198.51.100.7:443 5 - -");
    }
}

#[test]
fn a_connection_without_a_proxy_header_is_refused_unless_it_may_come_without() {
    let upstream = named("hello:");
    let log = Log::new();
    let kind = ListenerFilterKind::ProxyProtocol(REQUIRED);
    let mut listener = filtered(&log, vec![ListenerFilter::always(kind)]);
    // Saying nothing is no way around it either.
    listener.listener_filters_timeout = Some(Duration::from_secs(1));
    listener.continue_on_listener_filters_timeout = true;
    let proxy = Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream.address])]);
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 nonsense\r\n", b""] {
        let mut client = connect(proxy.address);
        client.write_all(bytes).unwrap();
        let mut got = Vec::new();
        let _reset = client.read_to_end(&mut got);
        assert!(got.is_empty(), "{got:?}");
    }
    let address = [("envoy_listener_address", "127.0.0.1_0")];
    proxy.wait_value(
        "envoy_listener_downstream_cx_proxy_proto_error",
        &address,
        2,
    );
    proxy.wait_value("envoy_listener_downstream_pre_cx_timeout", &address, 1);
    let records = proxy.records(3);
    assert!(
        records[0].ends_with(" 0 no_PROXY_header DPE"),
        "{records:#?}"
    );
    assert!(
        records[2].ends_with(" 0 listener_filters_timeout -"),
        "{records:#?}"
    );
    let prefix = [("envoy_tcp_prefix", "tcp")];
    let served = proxy
        .registry
        .value("envoy_tcp_downstream_cx_total", &prefix);
    assert_eq!(served, Some(0));

    let log = Log::new();
    let kind = ListenerFilterKind::ProxyProtocol(ProxyProtocol {
        optional: true,
        ..REQUIRED
    });
    let listener = filtered(&log, vec![ListenerFilter::always(kind)]);
    let proxy = Proxy::listen(log, listener, vec![cluster(CLUSTER, &[upstream.address])]);
    assert_eq!(
        exchange(&mut connect(proxy.address), b"bytes"),
        b"hello:bytes"
    );
}

#[test]
fn the_source_that_a_proxy_names_and_the_one_that_connects_choose_the_chain() {
    let (direct, through) = (named("direct"), named("through"));
    let log = Log::new();
    let kind = ListenerFilterKind::ProxyProtocol(ProxyProtocol {
        optional: true,
        ..REQUIRED
    });
    let mut listener = filtered(&log, vec![ListenerFilter::always(kind)]);
    let range = |text: &str, bits| IpRange::new(text.parse().unwrap(), bits).unwrap();
    listener.filter_chains = vec![
        chain(
            FilterChainMatch {
                direct_source_prefix_ranges: vec![range("127.0.0.0", 8)],
                source_prefix_ranges: vec![range("192.0.2.0", 24)],
                ..FilterChainMatch::default()
            },
            tcp(&log, "through"),
        ),
        chain(
            FilterChainMatch {
                direct_source_prefix_ranges: vec![range("127.0.0.0", 8)],
                ..FilterChainMatch::default()
            },
            tcp(&log, "direct"),
        ),
    ];
    let clusters = vec![
        cluster("direct", &[direct.address]),
        cluster("through", &[through.address]),
    ];
    let proxy = Proxy::listen(log, listener, clusters);
    assert_eq!(exchange(&mut connect(proxy.address), b"!"), b"direct!");
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\n!";
    assert_eq!(exchange(&mut connect(proxy.address), header), b"through!");
}

fn chain(matcher: FilterChainMatch, filter: NetworkFilter) -> FilterChain {
    FilterChain {
        name: "".into(),
        matcher,
        tls: None,
        handshake_timeout: None,
        filter,
    }
}

/// A listener that tells TLS from plaintext before it goes on.
fn telling_tls(log: &Log, disabled: Option<PortPredicate>) -> Listener {
    let mut listener = filtered(
        log,
        vec![ListenerFilter {
            kind: TLS_INSPECTOR,
            disabled,
        }],
    );
    let of = |transport| FilterChainMatch {
        transport_protocol: Some(transport),
        ..FilterChainMatch::default()
    };
    listener.filter_chains = vec![
        chain(of(TransportProtocol::Tls), tcp(log, "tls")),
        chain(of(TransportProtocol::RawBuffer), tcp(log, CLUSTER)),
    ];
    listener
}

fn greeting(client: &mut TcpStream) -> Result<[u8; 6], std::io::Error> {
    let mut got = [0; 6];
    client.read_exact(&mut got).map(|()| got)
}

#[test]
fn a_server_that_speaks_first_is_heard_on_a_port_that_disables_the_inspector() {
    let upstream = named("hello:");
    let log = Log::new();
    // Every port, since the kernel chooses it.
    let listener = telling_tls(&log, Some(PortPredicate::Range(1, 65536)));
    let clusters = vec![cluster(CLUSTER, &[upstream.address]), cluster("tls", &[])];
    let proxy = Proxy::listen(log, listener, clusters);
    assert_eq!(greeting(&mut connect(proxy.address)).unwrap(), *b"hello:");
    // And TLS is not looked for: it is plaintext to such a port.
    let got = exchange(&mut connect(proxy.address), &[22, 3, 1, 0, 1]);
    assert_eq!(got, b"hello:\x16\x03\x01\0\x01");
    let found = proxy.registry.value("envoy_tls_inspector_tls_found", &[]);
    assert_eq!(found, Some(0));
}

#[test]
fn a_silent_client_goes_on_after_the_timeout_where_that_is_configured() {
    let upstream = named("hello:");
    let log = Log::new();
    let mut listener = telling_tls(&log, Some(PortPredicate::Not(Box::new(PortPredicate::Any))));
    listener.listener_filters_timeout = Some(Duration::from_millis(100));
    listener.continue_on_listener_filters_timeout = true;
    let clusters = || vec![cluster(CLUSTER, &[upstream.address]), cluster("tls", &[])];
    let proxy = Proxy::listen(log, listener.clone(), clusters());
    assert_eq!(greeting(&mut connect(proxy.address)).unwrap(), *b"hello:");
    // What came before the timeout is not lost.
    let mut client = connect(proxy.address);
    client.write_all(&[22, 3]).unwrap();
    assert_eq!(greeting(&mut client).unwrap(), *b"hello:");
    assert_eq!(exchange(&mut client, b"x"), [22, 3, b'x']);
    let address = [("envoy_listener_address", "127.0.0.1_0")];
    proxy.wait_value("envoy_listener_downstream_pre_cx_timeout", &address, 2);

    listener.continue_on_listener_filters_timeout = false;
    let log = Log::new();
    listener.access_log = vec![log.formatted(FORMAT)];
    let proxy = Proxy::listen(log, listener, clusters());
    assert!(greeting(&mut connect(proxy.address)).is_err());
    assert!(
        proxy.records(1)[0].contains(" listener_filters_timeout "),
        "{:?}",
        proxy.records(1)
    );
}
