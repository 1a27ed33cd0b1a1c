//! Limits of connections through a proxy in this process: how long they live, how many requests
//! they serve, and the probes that keep them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{NetworkFilter, TcpKeepalive, UpstreamProtocol};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::http2::{DATA, GOAWAY, Raw, answer, ask, block_on, client, get, request, upstream};
use support::{CLUSTER, DEADLINE, Proxy, Upstream, exchange, read_message};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const OF_CLUSTER: [(&str, &str); 1] = [("envoy_cluster_name", CLUSTER)];

/// The kernel's timer of the socket that has these addresses (proc(5), `/proc/net/tcp`): 2 is that
/// of keepalive.
fn timer(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(v4.ip().octets()),
            v4.port()
        ),
        SocketAddr::V6(_) => panic!("these tests use IPv4"),
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row = table.lines().map(|line| line.split_whitespace().collect());
    let row = row.filter(|row: &Vec<&str>| row.len() > 5);
    let mut found = row.filter(|row| row[1] == hex(local) && row[2] == hex(remote));
    let timer = found.next()?[5].split(':').next()?.to_owned();
    Some(timer)
}

#[test]
fn connections_that_rest_are_probed_where_that_is_configured() {
    for configured in [false, true] {
        let keepalive = configured.then_some(TcpKeepalive {
            probes: Some(3),
            time: Some(Duration::from_secs(60)),
            interval: None,
        });
        let (seen, peers) = mpsc::channel();
        let upstream = Upstream::start(move |mut stream| {
            seen.send(stream.peer_addr().unwrap()).unwrap();
            while read_message(&mut stream).is_some() {
                stream.write_all(OK.as_bytes()).unwrap();
            }
        });
        let log = support::Log::new();
        let hcm = support::hcm(vec![support::route("/", CLUSTER)], log.config());
        let mut listener = support::listener(NetworkFilter::Http(hcm));
        listener.keepalive = keepalive;
        let mut cluster = support::cluster(CLUSTER, &[upstream.address]);
        cluster.keepalive = keepalive;
        let proxy = Proxy::listen(log, listener, vec![cluster]);
        let mut client = proxy.connect();
        exchange(&mut client, GET);
        let down = (proxy.address, client.local_addr().unwrap());
        let up = (peers.recv().unwrap(), upstream.address);
        for (local, remote) in [down, up] {
            // Until the last byte is acknowledged, the timer is that of its retransmission.
            let deadline = Instant::now() + DEADLINE;
            let rests = || timer(local, remote).filter(|timer| timer != "01");
            let timer = loop {
                match rests() {
                    Some(timer) => break timer,
                    None => assert!(Instant::now() < deadline, "{local} to {remote}"),
                }
            };
            assert_eq!(timer == "02", configured, "{local} to {remote}");
        }
    }
}

/// The streams that are answered on a connection before it ends, which GOAWAY has announced.
fn served_until_sent_away(mut client: Raw) -> Vec<u32> {
    let (mut served, mut told) = (Vec::new(), false);
    while let Some(frame) = client.read() {
        match frame.kind {
            DATA if frame.payload == b"hi" => served.push(frame.stream),
            GOAWAY => told = true,
            _ => {}
        }
    }
    assert!(told, "no GOAWAY");
    served.sort_unstable();
    served
}

#[test]
fn a_client_of_http2_is_sent_away_after_as_many_requests_as_may_be() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.limits.max_requests_per_connection = Some(2);
        hcm.limits.drain_timeout = Duration::from_millis(100);
    });
    let mut client = Raw::connect(proxy.address, &[]);
    client.send(&request(1));
    client.send(&request(3));
    assert_eq!(served_until_sent_away(client), [1, 3]);
}

#[test]
fn an_old_connection_of_http2_is_drained_and_its_stream_goes_on() {
    let (turn, turns) = mpsc::channel::<()>();
    let turns = Arc::new(Mutex::new(turns));
    let upstream = Upstream::start(move |mut stream| {
        read_message(&mut stream);
        turns.lock().unwrap().recv().unwrap();
        let _gone = stream.write_all(OK.as_bytes());
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.limits.max_connection_duration = Some(Duration::from_secs(1));
        hcm.limits.drain_timeout = Duration::from_millis(100);
    });
    let mut client = Raw::connect(proxy.address, &[]);
    client.send(&request(1));
    // First that no more streams may come, and after the drain time which was the last.
    client.await_frame(GOAWAY, 0);
    let last = client.await_frame(GOAWAY, 0);
    assert_eq!(last.payload[..4], [0, 0, 0, 1]);
    turn.send(()).unwrap();
    assert_eq!(client.await_frame(DATA, 1).payload, b"hi");
    while client.read().is_some() {}
}

#[test]
fn an_upstream_connection_of_http2_serves_until_it_is_old() {
    let upstream = upstream(|_, mut respond| async move { answer(&mut respond, 200, "hi") });
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.protocol = UpstreamProtocol::Http2;
        cluster.max_connection_duration = Some(Duration::from_secs(1));
    });
    block_on(async {
        let client = client(proxy.address).await;
        ask(&client, get("/")).await.unwrap();
        // It is closed when its time is over, though nobody asks.
        proxy.wait_value("envoy_cluster_upstream_cx_destroy", &OF_CLUSTER, 1);
        ask(&client, get("/")).await.unwrap();
    });
    proxy.wait_value("envoy_cluster_upstream_cx_total", &OF_CLUSTER, 2);
}

#[test]
fn a_request_that_pauses_is_given_up_by_the_patience_of_its_route_also_by_http2() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        let _end = stream.read(&mut [0]);
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        let route = &mut support::inline(hcm).virtual_hosts[0].routes[0];
        let shunt_proxy::model::RouteAction::Forward(forward) = &mut route.action else {
            panic!("it forwards");
        };
        forward.idle = shunt_proxy::model::StreamIdle::After(Duration::from_millis(100));
    });
    block_on(async {
        let client = client(proxy.address).await;
        let answer = ask(&client, get("/")).await.unwrap();
        assert_eq!(answer.status, http::StatusCode::GATEWAY_TIMEOUT);
    });
    let answer = exchange(&mut proxy.connect(), GET);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}
