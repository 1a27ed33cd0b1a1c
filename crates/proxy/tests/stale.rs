//! Connections that rested in a pool until their upstream closed them: they cost no error where a
//! request may be sent again, and none is sent twice that may not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use http::Method;
use shunt_proxy::model::CircuitBreakers;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Barrier, mpsc};
use support::http2::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, OF_CLUSTER, Raw, SETTINGS, ask,
    block_on, by_http2, client, frame,
};
use support::{DEADLINE, Proxy, Upstream, exchange, read_message};

const REPLAYED: &str = "shunt_cluster_upstream_rq_replayed_total";
const CONNECTIONS: &str = "envoy_cluster_upstream_cx_total";
const TERMINATED: &str = " 503 UC upstream_reset_before_response_started{connection_termination}";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// What an upstream does with a connection on which another request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Closes it with the first byte of that, unread: a reset.
    Reset,
    /// Ends it when all of that is there.
    Silence,
    /// Ends it in the middle of the answer.
    PartOfAnAnswer,
}

/// Serves one request on each connection, and ends it with the next; tells which it has read.
fn closing(end: End) -> (Upstream, mpsc::Receiver<String>) {
    let (seen, requests) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        let Some(request) = read_message(&mut stream) else {
            return;
        };
        seen.send(request).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
        if end == End::Reset {
            // What is not read makes a reset of the close.
            let _came = stream.peek(&mut [0]);
            return;
        }
        let Some(request) = read_message(&mut stream) else {
            return;
        };
        seen.send(request).unwrap();
        if end == End::PartOfAnAnswer {
            stream.write_all(b"HT").unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let _until_the_proxy_ends = stream.read(&mut [0]);
    });
    (upstream, requests)
}

fn request(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn what_may_be_sent_twice_costs_no_error_on_a_connection_that_is_closed_as_it_comes() {
    let chunked = "PUT / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
    let with_body = request("PUT", &"x".repeat(20_000));
    let delete = request("DELETE", "");
    for end in [End::Reset, End::Silence] {
        for text in [get, chunked, &with_body, &delete] {
            let (upstream, requests) = closing(end);
            let proxy = Proxy::http(&[upstream.address]);
            let mut client = proxy.connect();
            for _ in 0..25 {
                assert_eq!(
                    status(&exchange(&mut client, text)),
                    "200",
                    "{end:?} {text}"
                );
            }
            for record in proxy.records(25) {
                assert!(record.contains(" 200 - via_upstream"), "{record}");
            }
            proxy.wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 25);
            proxy.wait_value(REPLAYED, &OF_CLUSTER, 24);
            proxy.wait_value(CONNECTIONS, &OF_CLUSTER, 25);
            let body = text.split_once("\r\n\r\n").unwrap().1;
            let times = if end == End::Silence { 49 } else { 25 };
            for _ in 0..times {
                let seen = requests.recv_timeout(DEADLINE).unwrap();
                assert!(seen.ends_with(&format!("\r\n\r\n{body}")), "{end:?} {seen}");
            }
        }
    }
}

#[test]
fn what_may_not_be_sent_twice_is_not() {
    let long = request("PUT", &"x".repeat(80_000));
    let expecting = "PUT / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\n\
                     content-length: 2\r\n\r\nhi";
    for (end, text, proxy_continue) in [
        (End::Silence, &request("POST", "hello")[..], false),
        (End::Silence, &request("PATCH", ""), false),
        // Of a body no more is kept than this.
        (End::Silence, &long, false),
        (End::Silence, expecting, true),
        // An answer had begun.
        (End::PartOfAnAnswer, &request("GET", ""), false),
    ] {
        let (upstream, requests) = closing(end);
        let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
            hcm.heads.proxy_continue = proxy_continue;
        });
        let mut client = proxy.connect();
        assert_eq!(status(&exchange(&mut client, &request("GET", ""))), "200");
        let mut client = proxy.connect();
        let mut answer = exchange(&mut client, text);
        if status(&answer) == "100" {
            answer = read_message(&mut client).unwrap();
        }
        assert_eq!(status(&answer), "503", "{text}");
        let record = proxy.records(2).remove(1);
        assert!(record.contains(TERMINATED), "{record}");
        for _ in 0..2 {
            requests.recv_timeout(DEADLINE).unwrap();
        }
        assert!(requests.try_recv().is_err(), "sent once: {text}");
        proxy.wait_value(CONNECTIONS, &OF_CLUSTER, 1);
        assert_eq!(proxy.registry.value(REPLAYED, &OF_CLUSTER).unwrap_or(0), 0);
    }
}

#[test]
fn a_connection_that_did_not_rest_is_not_tried_twice() {
    let (seen, requests) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        seen.send(read_message(&mut stream)).unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    let answer = exchange(&mut proxy.connect(), &request("GET", ""));
    assert_eq!(status(&answer), "503");
    assert!(requests.recv_timeout(DEADLINE).unwrap().is_some());
    assert!(requests.try_recv().is_err(), "sent once");
    let record = proxy.records(1).remove(0);
    assert!(record.contains(TERMINATED), "{record}");
}

#[test]
fn of_many_connections_that_were_closed_one_is_tried() {
    let together = Arc::new(Barrier::new(4));
    let first = Arc::clone(&together);
    let upstream = Upstream::start(move |mut stream| {
        let Some(request) = read_message(&mut stream) else {
            return;
        };
        if request.starts_with("GET /first") {
            first.wait();
            stream.write_all(OK.as_bytes()).unwrap();
            let _came = stream.peek(&mut [0]);
        } else {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    let clients: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut client = proxy.connect();
            let first = b"GET /first HTTP/1.1\r\nhost: shop\r\n\r\n";
            client.write_all(first).unwrap();
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(status(&read_message(&mut client).unwrap()), "200");
    }
    proxy.wait_value(CONNECTIONS, &OF_CLUSTER, 4);
    let answer = exchange(&mut proxy.connect(), &request("GET", ""));
    assert_eq!(status(&answer), "200");
    proxy.wait_value(REPLAYED, &OF_CLUSTER, 1);
    proxy.wait_value(CONNECTIONS, &OF_CLUSTER, 5);
}

#[test]
fn a_request_is_sent_again_though_there_may_be_one_connection_only() {
    let (upstream, _requests) = closing(End::Silence);
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.circuit_breakers = CircuitBreakers {
            max_connections: 1,
            ..CircuitBreakers::default()
        };
    });
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(status(&exchange(&mut client, &request("GET", ""))), "200");
    }
    proxy.wait_value(REPLAYED, &OF_CLUSTER, 19);
}

/// What an upstream of HTTP/2 does when another request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndOfHttp2 {
    /// Closes the connection with the first byte of that, unread.
    Reset,
    /// Ends it when all of that is there.
    Silence,
    /// Says that it has not looked at it, and ends the connection.
    GoAway,
    /// The same, but before it comes.
    GoneAway,
}

/// Answers one request on each connection, and ends it with the next.
fn closing_http2(end: EndOfHttp2) -> (Upstream, mpsc::Receiver<u32>) {
    let (seen, requests) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let mut raw = Raw { stream };
        let stream = next_request(&mut raw).unwrap();
        seen.send(stream).unwrap();
        // `:status: 200` of the static table.
        let answer = [
            frame(HEADERS, END_HEADERS, stream, &[0x88]),
            frame(DATA, END_STREAM, stream, b"hi"),
        ];
        let goes = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        raw.send(&answer.concat());
        match end {
            EndOfHttp2::GoneAway => {
                raw.send(&goes);
            }
            EndOfHttp2::Reset => {
                acknowledged(&mut raw);
                let _came = raw.stream.peek(&mut [0]);
            }
            EndOfHttp2::Silence | EndOfHttp2::GoAway => {
                let Some(stream) = next_request(&mut raw) else {
                    return;
                };
                seen.send(stream).unwrap();
                if end == EndOfHttp2::GoAway {
                    raw.send(&goes);
                }
                raw.stream.shutdown(Shutdown::Write).unwrap();
                while raw.read().is_some() {}
            }
        }
    });
    (upstream, requests)
}

/// Reads what of the proxy is no request: that it has seen our settings.
fn acknowledged(raw: &mut Raw) {
    let is_it = |frame: Frame| frame.kind == SETTINGS && frame.flags == 1;
    while !raw.read().is_none_or(is_it) {}
}

/// The stream of the next request, when all of it is there.
fn next_request(raw: &mut Raw) -> Option<u32> {
    loop {
        let frame = raw.read()?;
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            return Some(frame.stream);
        }
    }
}

fn asked(proxy: &Proxy, method: &Method, times: usize) -> Vec<u16> {
    block_on(async {
        let client = client(proxy.address).await;
        let mut statuses = Vec::new();
        for _ in 0..times {
            let request = http::Request::builder().method(method).uri("http://shop/");
            let answer = ask(&client, request.body(()).unwrap()).await.unwrap();
            statuses.push(answer.status.as_u16());
        }
        statuses
    })
}

#[test]
fn a_connection_of_http2_that_is_closed_as_a_request_comes_costs_no_error_where_it_may_be_sent_twice()
 {
    for (end, method) in [
        (EndOfHttp2::Reset, Method::GET),
        (EndOfHttp2::Silence, Method::GET),
        (EndOfHttp2::Silence, Method::DELETE),
        (EndOfHttp2::GoAway, Method::POST),
    ] {
        let (upstream, _requests) = closing_http2(end);
        let proxy = by_http2(&[upstream.address]);
        assert_eq!(asked(&proxy, &method, 20), [200; 20], "{end:?} {method}");
        for record in proxy.records(20) {
            assert!(record.contains(" 200 - via_upstream"), "{record}");
        }
        proxy.wait_value(REPLAYED, &OF_CLUSTER, 19);
        proxy.wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 20);
    }
}

#[test]
fn a_connection_of_http2_that_has_gone_away_is_not_asked() {
    let (upstream, requests) = closing_http2(EndOfHttp2::GoneAway);
    let proxy = by_http2(&[upstream.address]);
    for served in 1..=20 {
        assert_eq!(asked(&proxy, &Method::POST, 1), [200]);
        proxy.wait_value("envoy_cluster_upstream_cx_destroy", &OF_CLUSTER, served);
    }
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), [1; 20]);
}

#[test]
fn what_may_not_be_sent_twice_by_http2_is_not() {
    let (upstream, requests) = closing_http2(EndOfHttp2::Silence);
    let proxy = by_http2(&[upstream.address]);
    assert_eq!(asked(&proxy, &Method::POST, 2), [200, 503]);
    assert_eq!(requests.recv_timeout(DEADLINE).unwrap(), 1);
    assert_eq!(requests.recv_timeout(DEADLINE).unwrap(), 3);
    assert!(requests.try_recv().is_err(), "sent once");
    let record = proxy.records(2).remove(1);
    assert!(record.contains(TERMINATED), "{record}");
    proxy.wait_value(CONNECTIONS, &OF_CLUSTER, 1);
}
