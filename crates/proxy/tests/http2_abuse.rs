//! What a hostile or broken peer of HTTP/2 may do, on raw sockets: it gets no more than its share,
//! and others are served meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;
use support::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, OF_CLUSTER, OF_MANAGER, PING, RST_STREAM, Raw,
    SETTINGS, SHOP, WINDOW_UPDATE, ask, block, block_on, by_http2, client, frame, get, request,
    upstream,
};
use support::{DEADLINE, Proxy, Upstream, read_head, read_message};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn proxy() -> Proxy {
    let (upstream, requests) = Upstream::http(OK);
    // What comes to it is of no interest.
    std::mem::forget(requests);
    Proxy::http(&[upstream.address])
}

/// Somebody else's request.
fn is_served(proxy: &Proxy) {
    let mut other = Raw::connect(proxy.address, &[]);
    other.send(&request(1));
    assert_eq!(other.await_frame(DATA, 1).payload, b"hi");
}

fn posted(stream: u32) -> Vec<u8> {
    let mut fields = SHOP.to_vec();
    fields[0].1 = "POST";
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

#[test]
fn a_few_bytes_that_stand_for_many_headers_are_refused() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    // One entry of the dynamic table (RFC 7541 §6.2.1), and 12,000 references to it: 46 MB.
    let mut bomb = block(&SHOP);
    let value = "x".repeat(3900);
    let mut entry = block(&[("x-bomb", &value)]);
    entry[0] = 0x40;
    bomb.extend(entry);
    bomb.extend([0xbe; 12_000]);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
    // It is not even taken apart to its end, and so nothing behind it could be.
    let code = raw.goodbye();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    proxy.wait_value("envoy_http_downstream_cx_protocol_error", &OF_MANAGER, 1);
    assert!(requests.try_recv().is_err(), "nobody has asked anything");
    is_served(&proxy);
}

#[test]
fn a_table_larger_than_what_was_granted_ends_the_connection() {
    let proxy = proxy();
    let mut raw = Raw::connect(proxy.address, &[]);
    // Dynamic table size update to 1 MiB (RFC 7541 §6.3).
    let mut head = vec![0x3f, 0xe1, 0xff, 0x3f];
    head.extend(block(&SHOP));
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
    let code = raw.goodbye();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    is_served(&proxy);
}

#[test]
fn who_asks_for_much_and_reads_it_is_answered_and_holds_up_nobody() {
    let proxy = proxy();
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.await_frame(SETTINGS, 0);
    for _ in 0..20 {
        raw.send(&frame(PING, 0, 0, &[7; 8]).repeat(100));
        raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(100));
        let (mut pings, mut settings) = (0, 0);
        while pings < 100 || settings < 100 {
            let came = raw.read().expect("an answer to each");
            pings += u32::from(came.kind == PING && came.flags == 1);
            settings += u32::from(came.kind == SETTINGS && came.flags == 1);
        }
        is_served(&proxy);
    }
    raw.send(&request(1));
    assert_eq!(raw.await_frame(DATA, 1).payload, b"hi");
}

#[test]
fn frames_that_say_nothing_end_their_connection() {
    let proxy = proxy();
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&posted(1));
    let empty = frame(DATA, 0, 1, &[]).repeat(10_000);
    // Their sender may be told before all is sent.
    let _told = (0..20).all(|_| raw.send(&empty));
    is_served(&proxy);
    assert_eq!(raw.goodbye(), Some(11), "ENHANCE_YOUR_CALM");
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
    proxy.wait_value("envoy_http_downstream_rq_active", &OF_MANAGER, 0);
}

#[test]
fn windows_that_grow_without_end_are_no_more_than_numbers() {
    let proxy = proxy();
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(10_000));
    // A priority is read and forgotten.
    raw.send(&frame(2, 0, 5, &[0, 0, 0, 3, 7]).repeat(10_000));
    raw.send(&request(1));
    assert_eq!(raw.await_frame(DATA, 1).payload, b"hi");
}

#[test]
fn who_begins_and_says_no_more_is_given_up() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.idle_timeout = Some(Duration::from_secs(1));
        hcm.stream_idle_timeout = Some(Duration::from_secs(1));
    });
    let mut without_settings = support::connect(proxy.address);
    without_settings
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let mut half_a_preface = support::connect(proxy.address);
    half_a_preface
        .write_all(b"PRI * HTTP/2.0\r\n\r\nS")
        .unwrap();
    let mut half_a_head = Raw::connect(proxy.address, &[]);
    half_a_head.send(&frame(HEADERS, END_STREAM, 1, &block(&SHOP)));
    for stream in [&mut without_settings, &mut half_a_preface] {
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
    half_a_head.goodbye();
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
    is_served(&proxy);
}

#[test]
fn a_client_that_ends_its_connection_with_a_request_in_hand_ends_that() {
    let (seen, ends) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        read_message(&mut stream);
        seen.send(stream.read(&mut [0]).unwrap_or(0)).unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&request(1));
    proxy.wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 1);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    raw.goodbye();
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), 0);
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("\"GET / HTTP/2\" 0 DC downstream_remote_disconnect"),
        "{record}"
    );
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
}

#[test]
fn an_answer_before_the_end_of_the_upload_arrives_at_once_and_the_rest_goes_on() {
    let (seen, uploads) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        read_head(&mut stream);
        let early = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmuch";
        stream.write_all(early).unwrap();
        let mut rest = Vec::new();
        let mut byte = [0];
        while !rest.ends_with(b"\r\n0\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            rest.push(byte[0]);
        }
        seen.send(rest).unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&posted(1));
    raw.send(&frame(DATA, 0, 1, b"part"));
    let answer = raw.await_frame(DATA, 1);
    assert_eq!((&answer.payload[..], answer.flags & 1), (&b"much"[..], 1));
    raw.send(&frame(DATA, END_STREAM, 1, b"last"));
    let rest = String::from_utf8(uploads.recv_timeout(DEADLINE).unwrap()).unwrap();
    assert!(rest.contains("part") && rest.contains("last"), "{rest}");
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 413 - via_upstream"), "{record}");
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
}

#[test]
fn an_upload_that_is_aborted_never_looks_whole_to_its_upstream() {
    let (seen, uploads) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        let mut all = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|length| length == 1) {
            all.push(byte[0]);
            if all.ends_with(b"part") {
                seen.send(all.clone()).unwrap();
            }
        }
        seen.send(all).unwrap();
    });
    let next = || String::from_utf8(uploads.recv_timeout(DEADLINE).unwrap()).unwrap();
    let proxy = Proxy::http(&[upstream.address]);
    for connection_too in [false, true] {
        let mut raw = Raw::connect(proxy.address, &[]);
        raw.send(&posted(1));
        raw.send(&frame(DATA, 0, 1, b"part"));
        let begun = next();
        assert!(begun.starts_with("POST / HTTP/1.1\r\n"), "{begun}");
        if connection_too {
            socket2::SockRef::from(&raw.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(raw);
        } else {
            raw.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
        }
        let came = next();
        assert!(!came.ends_with("0\r\n\r\n"), "it has no end: {came}");
        proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
    }
    let records = proxy.records(2);
    let aborted = records.iter().filter(|r| r.contains(" 0 DC "));
    assert_eq!(aborted.count(), 2, "{records:?}");
}

#[test]
fn an_answer_that_is_longer_or_shorter_than_announced_is_a_reset_in_both_versions() {
    let serve = |request: http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| async move {
        let length = match request.uri().path() {
            "/longer" => 2,
            _ => 10,
        };
        let head = Response::builder().header("content-length", length);
        let head = head.body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let _wrong = stream.send_data("hello".into(), true);
    };
    let proxy = by_http2(&[upstream(serve).address]);
    for path in ["/longer", "/shorter"] {
        block_on(async {
            let client = client(proxy.address).await;
            let error = ask(&client, get(path)).await.unwrap_err();
            assert!(error.is_reset() && error.is_remote(), "{path}: {error}");
            assert_ne!(error.reason(), Some(Reason::NO_ERROR), "{path}");
        });
        let mut by_1 = proxy.connect();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n");
        by_1.write_all(ask.as_bytes()).unwrap();
        let end = by_1.read_to_end(&mut Vec::new());
        assert_eq!(
            end.unwrap_err().kind(),
            ErrorKind::ConnectionReset,
            "{path}"
        );
    }
    let records = proxy.records(4);
    assert!(records.iter().all(|r| r.contains(" 200 U")), "{records:?}");
}
