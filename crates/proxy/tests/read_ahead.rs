//! Request bodies that nobody takes yet: the time of their response passes all the same, and none
//! of their bytes is lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{CircuitBreakers, Cluster, HttpConnectionManager, RouteAction, Timeouts};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use support::http2::{OF_CLUSTER, OF_MANAGER, Raw, SETTINGS, by_http2_with, frame, pattern};
use support::{DEADLINE, Proxy, Upstream, exchange, inline, read_head, read_message};

/// Longer than an upstream may take to answer on a slow machine.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(300);

fn respond_within(hcm: &mut HttpConnectionManager, limit: Duration) {
    for route in &mut inline(hcm).virtual_hosts[0].routes {
        if let RouteAction::Forward(forward) = &mut route.action {
            forward.timeouts = Timeouts::Response {
                timeout: Some(limit),
                grpc: None,
            };
        }
    }
}

fn one_connection(cluster: &mut Cluster) {
    cluster.circuit_breakers = CircuitBreakers {
        max_connections: 1,
        ..cluster.circuit_breakers
    };
}

/// An upstream that answers a request and passes its body on as it came, each when it may.
fn waiting() -> (Upstream, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
    let (go, may_go) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let may_go = Arc::new(Mutex::new(may_go));
    let upstream = Upstream::start(move |mut stream| {
        loop {
            let head = read_head(&mut stream);
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if may_go.lock().unwrap().recv().is_err() {
                return;
            }
            let mut body = Vec::new();
            if let Some(length) = length {
                body.resize(length.parse().unwrap(), 0);
                stream.read_exact(&mut body).unwrap();
            } else {
                while !body.ends_with(b"0\r\n\r\n") {
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).unwrap();
                    body.extend_from_slice(&bytes[..read]);
                }
            }
            tell.send(body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
        }
    });
    (upstream, go, told)
}

fn send(stream: &mut TcpStream, body: &[u8]) {
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

fn status(stream: &mut TcpStream) -> String {
    let head = read_head(stream);
    head.lines().next().unwrap_or_default().to_owned()
}

/// A proxy whose only connection to this upstream serves a request, within this time.
fn occupied(upstream: &Upstream, limit: Option<Duration>) -> (Proxy, TcpStream) {
    let proxy = Proxy::http_with(&[upstream.address], |hcm, cluster| {
        if let Some(limit) = limit {
            respond_within(hcm, limit);
        }
        one_connection(cluster);
    });
    let mut first = proxy.connect();
    send(&mut first, b"first");
    let active = "envoy_cluster_upstream_cx_active";
    proxy.wait_value(active, &OF_CLUSTER, 1);
    (proxy, first)
}

#[test]
fn a_request_that_waits_for_a_connection_is_timed_whatever_its_body() {
    // Less than is read ahead, and more.
    for length in [10, 1_000_000] {
        let (upstream, go, told) = waiting();
        let (proxy, _first) = occupied(&upstream, Some(SHORT));
        let mut second = proxy.connect();
        let began = Instant::now();
        let sending = {
            let mut stream = second.try_clone().unwrap();
            thread::spawn(move || {
                let body = pattern(length);
                let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}");
                stream.write_all(head.as_bytes()).unwrap();
                // Not all of a long one is taken.
                let _cut = stream.write_all(&[b"\r\n\r\n", &body[..]].concat());
            })
        };
        assert_eq!(status(&mut second), "HTTP/1.1 504 Gateway Timeout");
        assert!(began.elapsed() >= SHORT && began.elapsed() < LONG);
        drop(second);
        sending.join().unwrap();
        drop(go);
        assert_eq!(told.try_iter().count(), 0);
        let records = proxy.records(2);
        let timed_out = |r: &String| r.contains(" 504 UT response_timeout ");
        assert!(records.iter().all(timed_out), "{records:#?}");
    }
}

#[test]
fn a_request_that_breaks_off_while_it_waits_is_given_up_at_once() {
    let head = "POST / HTTP/1.1\r\nhost: shop\r\n";
    let half = format!("{head}content-length: 10\r\n\r\nhello");
    let broken = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n");
    for (limit, request, recorded) in [
        (
            None,
            &half,
            " 0 DC downstream_remote_disconnect - \"-\" 5 0 ",
        ),
        (
            Some(LONG),
            &half,
            " 0 DC downstream_remote_disconnect - \"-\" 5 0 ",
        ),
        (None, &broken, " 400 DPE http1.codec_error - \"-\" 5 11 "),
        (
            Some(LONG),
            &broken,
            " 400 DPE http1.codec_error - \"-\" 5 11 ",
        ),
    ] {
        let (upstream, go, told) = waiting();
        let (proxy, mut first) = occupied(&upstream, limit);
        let mut second = proxy.connect();
        second.write_all(request.as_bytes()).unwrap();
        second.shutdown(Shutdown::Write).unwrap();
        // The first is served all the while.
        let record = proxy.records(1).remove(0);
        assert!(record.contains(recorded), "{record}");
        proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 1);
        let mut third = proxy.connect();
        send(&mut third, b"third");
        for (client, body) in [(&mut first, b"first"), (&mut third, b"third")] {
            go.send(()).unwrap();
            assert_eq!(told.recv().unwrap(), body, "the upstream heard of another");
            assert_eq!(status(client), "HTTP/1.1 200 OK");
        }
    }
}

#[test]
fn what_had_come_of_a_request_is_recorded_though_nobody_waits_for_its_answer() {
    let (upstream, _go, _told) = waiting();
    let (proxy, _first) = occupied(&upstream, None);
    let mut second = proxy.connect();
    send(&mut second, b"second");
    // What was sent before this is answered has come.
    exchange(&mut proxy.connect(), "GET / HTTP/1.1\r\n\r\n");
    drop(second);
    let record = proxy.records(2).remove(1);
    let recorded = " 0 DC downstream_remote_disconnect - \"-\" 6 0 ";
    assert!(record.contains(recorded), "{record}");
}

#[test]
fn what_was_read_ahead_comes_before_the_rest() {
    for length in [10, 60_000, 70_000, 3_000_000] {
        let (upstream, go, told) = waiting();
        let (proxy, mut first) = occupied(&upstream, Some(LONG));
        let body = pattern(length);
        let mut second = proxy.connect();
        let sending = {
            let (mut stream, body) = (second.try_clone().unwrap(), body.clone());
            thread::spawn(move || send(&mut stream, &body))
        };
        let pending = "envoy_http_downstream_rq_active";
        proxy.wait_value(pending, &OF_MANAGER, 2);
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), b"first");
        assert_eq!(status(&mut first), "HTTP/1.1 200 OK");
        go.send(()).unwrap();
        assert!(told.recv().unwrap() == body, "{length} bytes");
        assert_eq!(status(&mut second), "HTTP/1.1 200 OK");
        sending.join().unwrap();
    }
}

#[test]
fn what_was_read_ahead_costs_what_it_holds_however_small_its_pieces_are() {
    let (upstream, go, told) = waiting();
    let (proxy, mut first) = occupied(&upstream, None);
    let mut second = proxy.connect();
    let head = "POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
    let pieces = "1\r\na\r\n".repeat(300);
    let message = format!("{head}{pieces}0\r\n\r\n");
    second.write_all(message.as_bytes()).unwrap();
    // Each takes a turn of the worker, which takes several pieces.
    for _ in 0..50 {
        exchange(&mut proxy.connect(), "GET / HTTP/1.1\r\n\r\n");
    }
    go.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), b"first");
    assert_eq!(status(&mut first), "HTTP/1.1 200 OK");
    go.send(()).unwrap();
    let body = told.recv().unwrap();
    let text = String::from_utf8(body).unwrap();
    let whole = "a".repeat(300);
    assert_eq!(text, format!("12C\r\n{whole}\r\n0\r\n\r\n"));
    assert_eq!(status(&mut second), "HTTP/1.1 200 OK");
}

#[test]
fn an_upstream_by_http2_that_has_no_room_for_a_body_is_timed() {
    let upstream = Upstream::start(|mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        let mut raw = Raw { stream };
        // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2): nothing.
        raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        raw.send(&frame(SETTINGS, 1, 0, &[]));
        raw.goodbye();
    });
    for length in [10, 30_000, 300_000] {
        let proxy = by_http2_with(&[upstream.address], |hcm, _| respond_within(hcm, SHORT));
        let mut client = proxy.connect();
        let sending = {
            let mut stream = client.try_clone().unwrap();
            thread::spawn(move || {
                let body = pattern(length);
                let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}");
                stream.write_all(head.as_bytes()).unwrap();
                let _cut = stream.write_all(&[b"\r\n\r\n", &body[..]].concat());
            })
        };
        assert_eq!(status(&mut client), "HTTP/1.1 504 Gateway Timeout");
        drop(client);
        sending.join().unwrap();
    }
}

#[test]
fn a_client_that_is_slow_to_send_is_not_timed_by_the_response() {
    let (upstream, go, told) = waiting();
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| respond_within(hcm, SHORT));
    let mut client = proxy.connect();
    let head = "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    go.send(()).unwrap();
    for byte in b"slow!" {
        // The pace of the client, well below what a response may take in all.
        thread::sleep(SHORT / 4);
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(told.recv().unwrap(), b"slow!");
    assert_eq!(status(&mut client), "HTTP/1.1 200 OK");
}

/// An upstream that answers the first request when it may, and passes on all that came on each of
/// its connections once that has ended.
fn recording() -> (Upstream, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
    let (go, may_go) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let may_go = Arc::new(Mutex::new(may_go));
    let upstream = Upstream::start(move |mut stream| {
        let mut came = read_message(&mut stream).unwrap_or_default().into_bytes();
        let _test_over = may_go.lock().unwrap().recv();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).unwrap();
        let _reset = stream.read_to_end(&mut came);
        let _test_over = tell.send(came);
    });
    (upstream, go, told)
}

#[test]
fn a_body_that_breaks_off_after_it_was_read_ahead_ends_the_connection_that_gets_it() {
    let (upstream, go, told) = recording();
    let (proxy, mut first) = occupied(&upstream, Some(LONG));
    let mut second = proxy.connect();
    let head = "PUT /broken HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\n";
    second.write_all(head.as_bytes()).unwrap();
    second.write_all(b"parts").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    let active = "envoy_http_downstream_rq_active";
    proxy.wait_value(active, &OF_MANAGER, 2);
    go.send(()).unwrap();
    assert_eq!(status(&mut first), "HTTP/1.1 200 OK");

    // The connection served it next, and nothing after it.
    let came = String::from_utf8(told.recv_timeout(DEADLINE).unwrap()).unwrap();
    let broken = came.split_once("\r\n\r\nfirst").unwrap().1;
    let (head, parts) = broken.split_once("\r\n\r\n").unwrap_or((broken, ""));
    assert!(
        head.is_empty() || head.starts_with("PUT /broken "),
        "{came}"
    );
    assert!("parts".starts_with(parts), "{came}");
    assert_eq!(status(&mut second), "HTTP/1.1 400 Bad Request");
    go.send(()).unwrap();
    send(&mut first, b"third");
    assert_eq!(status(&mut first), "HTTP/1.1 200 OK");
    let record = proxy.records(3).swap_remove(1);
    assert!(
        record.contains(" 400 DC downstream_remote_disconnect "),
        "{record}"
    );
    drop((first, proxy));
    let came = String::from_utf8(told.recv_timeout(DEADLINE).unwrap()).unwrap();
    assert!(
        came.starts_with("POST / ") && came.ends_with("\r\n\r\nthird"),
        "{came}"
    );
}
