//! HTTP/2 from downstream through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use h2::{Reason, client};
use http::{Request, StatusCode};
use shunt_proxy::model::{Codec, Keepalive};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;
use support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, OF_CLUSTER, OF_MANAGER, PING,
    RST_STREAM, Raw, SETTINGS, SHOP, WINDOW_UPDATE, ask, begin, block, block_on, client,
    client_with, frame, get, post, reached, read, request, send,
};
use support::{CLUSTER, Proxy, Upstream, exchange, read_message};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi";

#[test]
fn a_request_by_http2_passes_in_the_form_that_http1_wants() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let answer = block_on(async {
        let client = client(proxy.address).await;
        let mut request = get("/a?b=c");
        let headers = request.headers_mut();
        for crumb in ["a=1", "b=2"] {
            headers.append("cookie", crumb.parse().unwrap());
        }
        headers.insert("host", "another".parse().unwrap());
        headers.insert("te", "trailers".parse().unwrap());
        ask(&client, request).await.unwrap()
    });
    assert_eq!(
        (answer.status, &answer.body[..]),
        (StatusCode::OK, &b"hi"[..])
    );
    let mut names: Vec<&str> = answer
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let expected = [
        "content-length",
        "date",
        "server",
        "x-envoy-upstream-service-time",
    ];
    assert_eq!(names, expected);
    let seen = requests.recv().unwrap();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    for line in [
        "host: shop",
        "cookie: a=1; b=2",
        "te: trailers",
        "x-forwarded-proto: http",
    ] {
        assert_eq!(
            seen.matches(&format!("\r\n{line}\r\n")).count(),
            1,
            "{line} in {seen}"
        );
    }
    assert!(
        !seen.contains("another") && !seen.contains(":authority"),
        "{seen}"
    );
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("\"GET /a?b=c HTTP/2\" 200 - via_upstream"),
        "{record}"
    );
    proxy.wait_value("envoy_http_downstream_cx_http2_total", &OF_MANAGER, 1);
}

#[test]
fn one_port_serves_both_versions_unless_one_is_configured() {
    let (upstream, _requests) = Upstream::http(OK);
    let get_1 = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
    for (codec, by_1, by_2) in [
        (Codec::Auto, true, true),
        (Codec::Http1, true, false),
        (Codec::Http2, false, true),
    ] {
        let proxy = Proxy::http_with(&[upstream.address], |hcm, _| hcm.codec = codec);
        let mut stream = proxy.connect();
        stream.write_all(get_1.as_bytes()).unwrap();
        let answered = read_message(&mut stream).is_some_and(|a| a.starts_with("HTTP/1.1 200"));
        assert_eq!(answered, by_1, "{codec:?}");
        let mut raw = Raw::connect(proxy.address, &[]);
        raw.send(&request(1));
        let answered = std::iter::from_fn(|| raw.read()).any(|f| f.kind == HEADERS);
        assert_eq!(answered, by_2, "{codec:?}");
    }
}

#[test]
fn many_streams_are_served_at_once_in_any_order() {
    let (turn, turns) = mpsc::channel::<()>();
    let turns = std::sync::Arc::new(std::sync::Mutex::new(turns));
    let upstream = Upstream::start(move |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            if request.starts_with("GET /slow ") {
                turns.lock().unwrap().recv().unwrap();
            }
            let path = request.split(' ').nth(1).unwrap();
            let length = path.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let slow = tokio::task::spawn_local({
            let client = client.clone();
            async move { ask(&client, get("/slow")).await.unwrap() }
        });
        for n in 0..50 {
            let path = format!("/{n}");
            let answer = ask(&client, get(&path)).await.unwrap();
            assert_eq!(answer.body, path);
        }
        turn.send(()).unwrap();
        assert_eq!(slow.await.unwrap().body, "/slow");
    });
    proxy.wait_value("envoy_http_downstream_cx_total", &OF_MANAGER, 1);
}

#[test]
fn a_body_without_a_length_becomes_chunks_and_one_with_a_length_keeps_it() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut body) = begin(&client, post("/a")).await;
        send(&mut body, "hello ", false).await;
        send(&mut body, "world", true).await;
        assert_eq!(read(response).await.unwrap().status, StatusCode::OK);
        let mut request = post("/b");
        request.headers_mut().insert("content-length", 3.into());
        let (response, mut body) = begin(&client, request).await;
        send(&mut body, "abc", true).await;
        assert_eq!(read(response).await.unwrap().status, StatusCode::OK);
    });
    let seen = requests.recv().unwrap();
    assert!(
        seen.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{seen}"
    );
    let data: String = seen.split("\r\n\r\n").nth(1).unwrap().lines().collect();
    assert!(data.contains("hello ") && data.contains("world"), "{seen}");
    let seen = requests.recv().unwrap();
    assert!(
        seen.ends_with("\r\n\r\nabc") && !seen.contains("chunked"),
        "{seen}"
    );
}

#[test]
fn who_expects_to_be_told_to_go_on_is_told() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    let mut fields = SHOP.to_vec();
    fields[0].1 = "POST";
    fields.push(("expect", "100-continue"));
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    let go_on = raw.await_frame(HEADERS, 1);
    assert_eq!(go_on.flags & END_STREAM, 0);
    raw.send(&frame(DATA, END_STREAM, 1, b"body"));
    raw.await_frame(HEADERS, 1);
    assert_eq!(raw.await_frame(DATA, 1).payload, b"hi");
    assert!(!requests.recv().unwrap().contains("expect"));
}

#[test]
fn a_head_has_no_body_and_the_connection_goes_on() {
    let (upstream, _requests) = Upstream::http("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
    let proxy = Proxy::http(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        for _ in 0..2 {
            let request = Request::head("http://shop/").body(()).unwrap();
            let answer = ask(&client, request).await.unwrap();
            assert_eq!(answer.headers["content-length"], "7");
            assert!(answer.body.is_empty());
        }
    });
}

#[test]
fn a_stream_that_the_client_resets_ends_upstream_too_and_no_other() {
    let (ended, ends) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            if request.starts_with("GET /stuck ") {
                let end = stream.read(&mut [0; 16]).map_or(0, |n| n);
                return ended.send(end).unwrap();
            }
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (stuck, mut reset) = ready.send_request(get("/stuck"), true).unwrap();
        reached(&proxy, "envoy_cluster_upstream_rq_total", &OF_CLUSTER, 1).await;
        reset.send_reset(Reason::CANCEL);
        drop(stuck);
        assert_eq!(ask(&client, get("/")).await.unwrap().body, "hi");
    });
    assert_eq!(ends.recv().unwrap(), 0, "the upstream sees the end");
    proxy.wait_value("envoy_http_downstream_rq_rx_reset", &OF_MANAGER, 1);
    let records = proxy.records(2).join("");
    assert!(
        records.contains("\"GET /stuck HTTP/2\" 0 DC downstream_remote_disconnect"),
        "{records}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_and_never_an_end() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
    });
    let proxy = Proxy::http(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let error = ask(&client, get("/")).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert!(error.is_reset() && error.is_remote(), "{error}");
    });
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" 200 UC upstream_reset_after_response_started"),
        "{record}"
    );
}

#[test]
fn what_names_no_host_or_no_path_or_asks_for_a_tunnel_is_refused() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let base = [(":method", "GET"), (":scheme", "http")];
    for fields in [
        &[(":path", "/")][..],
        &[(":path", "/"), ("host", "shop")],
        &[(":path", "/"), ("host", "shop"), ("host", "shop")],
        &[(":path", "/"), (":authority", "a@shop")],
        &[(":path", "*"), (":authority", "shop")],
    ] {
        let mut raw = Raw::connect(proxy.address, &[]);
        let fields: Vec<_> = base.into_iter().chain(fields.iter().copied()).collect();
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&fields),
        ));
        raw.await_frame(HEADERS, 1);
    }
    let records = proxy.records(5).join("\n");
    let statuses: Vec<&str> = records
        .lines()
        .map(|line| {
            line.split("HTTP/2\" ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(statuses, ["400", "200", "400", "400", "404"], "{records}");

    let mut raw = Raw::connect(proxy.address, &[]);
    let connect = [(":method", "CONNECT"), (":authority", "shop:80")];
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&connect)));
    raw.await_frame(HEADERS, 1);
    assert!(proxy.records(6)[5].contains("\"CONNECT"), "a record");
}

#[test]
fn a_length_that_is_said_twice_never_reaches_an_upstream() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let length = ("content-length", "3");
    let mut raw = Raw::connect(proxy.address, &[]);
    for (stream, lengths) in [(1, vec![length, length]), (3, vec![length])] {
        let fields = [&SHOP[..], &lengths].concat();
        raw.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields)));
        raw.send(&frame(DATA, END_STREAM, stream, b"abc"));
        raw.await_frame(HEADERS, stream);
    }
    let records = proxy.records(2);
    assert!(
        records[0].contains(" 400 DPE http2.invalid_content_length"),
        "{records:?}"
    );
    assert!(records[1].contains(" 200 "), "{records:?}");
    let seen = requests.recv().unwrap();
    assert_eq!(seen.matches("content-length: 3\r\n").count(), 1, "{seen}");
    assert!(requests.try_recv().is_err(), "only the second was sent on");
}

#[test]
fn what_has_no_place_in_a_path_or_in_trailers_goes_nowhere() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "shop"),
        (":path", "/a?b#c"),
    ];
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    raw.send(&frame(DATA, 0, 1, b"abc"));
    let trailers = block(&[(":path", "/other"), ("x-sum", "1")]);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &trailers));
    raw.await_frame(HEADERS, 1);
    let seen = requests.recv().unwrap();
    assert!(seen.starts_with("POST /a?b HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.contains("other") && !seen.contains('#'), "{seen}");
    let record = proxy.records(1).remove(0);
    assert!(record.contains("\"POST /a?b HTTP/2\" 200 "), "{record}");
}

#[test]
fn headers_of_a_connection_and_malformed_messages_end_their_stream_alone() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    let wrong = [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
    ];
    for (stream, wrong) in (1_u32..).step_by(2).zip(&wrong) {
        let fields: Vec<_> = SHOP.into_iter().chain([*wrong]).collect();
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields));
        raw.send(&head);
        let reset = raw.await_frame(RST_STREAM, stream);
        assert_eq!(reset.payload, [0, 0, 0, 1], "{wrong:?}: PROTOCOL_ERROR");
    }
    // Where the headers cannot even be read, nothing behind them can.
    for wrong in [("X-Upper", "1"), (":late", "1"), ("x-nul", "a\0b")] {
        let fields: Vec<_> = SHOP.into_iter().chain([wrong]).collect();
        let mut raw = Raw::connect(proxy.address, &[]);
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&fields),
        ));
        assert_eq!(raw.goodbye(), Some(1), "{wrong:?}: PROTOCOL_ERROR");
    }
    // A length that the data belies.
    let fields = [&SHOP[..], &[("content-length", "3")]].concat();
    raw.send(&frame(HEADERS, END_HEADERS, 21, &block(&fields)));
    raw.send(&frame(DATA, END_STREAM, 21, b"four"));
    raw.await_frame(RST_STREAM, 21);
    raw.send(&request(23));
    raw.await_frame(HEADERS, 23);
    drop(raw);
    let whole: Vec<String> = requests.try_iter().collect();
    assert_eq!(whole.len(), 1, "{whole:?}");
}

#[test]
fn limits_on_heads_and_streams_are_those_of_the_configuration() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.max_request_headers = 2048;
        hcm.max_headers_count = 20;
        hcm.http2.max_concurrent_streams = 1;
        hcm.http2.stream_window = 100_000;
        hcm.http2.connection_window = 200_000;
    });
    let mut raw = Raw::connect(proxy.address, &[]);
    let settings = raw.await_frame(SETTINGS, 0).payload;
    let value = |id: u8| {
        let found = settings.chunks(6).find(|s| s[1] == id).unwrap();
        u32::from_be_bytes(found[2..].try_into().unwrap())
    };
    assert_eq!((value(3), value(4)), (1, 100_000));
    let more = raw.await_frame(WINDOW_UPDATE, 0).payload;
    assert_eq!(
        u32::from_be_bytes(more.try_into().unwrap()),
        200_000 - 65_535
    );

    let long = "x".repeat(2100);
    let fields = [&SHOP[..], &[("x-long", &long)]].concat();
    raw.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &block(&fields),
    ));
    raw.await_frame(HEADERS, 1);
    let many: Vec<_> = SHOP.into_iter().chain([("x-many", "1"); 21]).collect();
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &block(&many)));
    raw.await_frame(HEADERS, 3);
    let records = proxy.records(1).join("");
    assert!(
        records.contains(" 431 DPE http2.too_many_headers"),
        "{records}"
    );

    let mut fields = SHOP.to_vec();
    fields[0].1 = "POST";
    raw.send(&frame(HEADERS, END_HEADERS, 5, &block(&fields)));
    raw.send(&request(7));
    assert_eq!(
        raw.await_frame(RST_STREAM, 7).payload,
        [0, 0, 0, 7],
        "REFUSED_STREAM"
    );
}

#[test]
fn a_drain_tells_the_client_and_lets_it_finish() {
    let (turn, turns) = mpsc::channel::<()>();
    let turns = std::sync::Arc::new(std::sync::Mutex::new(turns));
    let upstream = Upstream::start(move |mut stream| {
        read_message(&mut stream);
        turns.lock().unwrap().recv().unwrap();
        let _gone = stream.write_all(OK.as_bytes());
    });
    let mut proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&request(1));
    proxy.wait_value(
        "envoy_cluster_upstream_rq_total",
        &[("envoy_cluster_name", CLUSTER)],
        1,
    );
    let ended = proxy.shut_down();
    let told = raw.await_frame(GOAWAY, 0);
    assert_eq!(told.payload[4..], [0; 4], "NO_ERROR");
    turn.send(()).unwrap();
    assert_eq!(raw.await_frame(DATA, 1).payload, b"hi");
    assert!(raw.goodbye().is_none_or(|code| code == 0));
    assert_eq!(ended.join().unwrap().cut, 0);
}

#[test]
fn an_idle_connection_is_told_and_ends_and_one_with_a_stream_goes_on() {
    let (turn, turns) = mpsc::channel::<()>();
    let turns = std::sync::Arc::new(std::sync::Mutex::new(turns));
    let upstream = Upstream::start(move |mut stream| {
        read_message(&mut stream);
        turns.lock().unwrap().recv().unwrap();
        let _gone = stream.write_all(OK.as_bytes());
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.idle_timeout = Some(Duration::from_secs(1));
    });
    let mut busy = Raw::connect(proxy.address, &[]);
    busy.send(&request(1));
    let mut idle = Raw::connect(proxy.address, &[]);
    assert_eq!(idle.goodbye(), Some(0));
    turn.send(()).unwrap();
    assert_eq!(busy.await_frame(DATA, 1).payload, b"hi");
}

#[test]
fn a_stream_that_idles_is_answered_and_the_connection_goes_on() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(request) = read_message(&mut stream) {
            if !request.starts_with("GET /stuck ") {
                stream.write_all(OK.as_bytes()).unwrap();
            }
        }
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.stream_idle_timeout = Some(Duration::from_secs(1));
    });
    block_on(async {
        let client = client(proxy.address).await;
        let answer = ask(&client, get("/stuck")).await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::GATEWAY_TIMEOUT, &b"stream timeout"[..])
        );
        assert_eq!(ask(&client, get("/")).await.unwrap().body, "hi");
    });
    let records = proxy.records(2).join("");
    assert!(
        records.contains("\"GET /stuck HTTP/2\" 504 SI stream_idle_timeout"),
        "{records}"
    );
}

#[test]
fn a_peer_that_does_not_answer_a_ping_is_given_up() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.http2.keepalive = Some(Keepalive {
            interval: Duration::from_millis(50),
            jitter_percent: 0,
            timeout: Duration::from_secs(2),
        });
    });
    let mut raw = Raw::connect(proxy.address, &[]);
    for _ in 0..3 {
        let ping = raw.await_frame(PING, 0);
        raw.send(&frame(PING, 1, 0, &ping.payload));
    }
    raw.await_frame(PING, 0);
    while raw.read().is_some() {}
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
}

#[test]
fn streams_that_are_reset_too_often_end_the_connection() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.http2.reset_burst = 10;
        hcm.http2.reset_rate = 0;
        hcm.stream_idle_timeout = None;
    });
    let mut raw = Raw::connect(proxy.address, &[]);
    let mut fields = SHOP.to_vec();
    fields[0].1 = "POST";
    for stream in (1..2000).step_by(2) {
        raw.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields)));
        raw.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let code = raw.goodbye();
    assert!(
        [None, Some(11)].contains(&code),
        "ENHANCE_YOUR_CALM: {code:?}"
    );
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
    proxy.wait_value("envoy_http_downstream_rq_active", &OF_MANAGER, 0);
    let resets = proxy
        .registry
        .value("envoy_http_downstream_rq_rx_reset", &OF_MANAGER);
    assert!(resets.is_none_or(|n| n < 100), "{resets:?}");
    let mut again = Raw::connect(proxy.address, &[]);
    again.send(&request(1));
    again.await_frame(HEADERS, 1);
}

#[test]
fn continuations_without_end_are_refused() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(&SHOP)));
    let part = frame(CONTINUATION, 0, 1, &block(&[("x-more", "1")]));
    let mut sent = 0;
    while raw.send(&part) {
        sent += 1;
        assert!(sent < 1_000_000, "it takes for ever");
    }
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
    proxy.wait_value("envoy_http_downstream_cx_protocol_error", &OF_MANAGER, 1);
}

/// Frames that no peer may send, with the code of the end.
#[test]
fn frames_that_break_the_rules_end_the_connection_with_their_code() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let window_of_nothing = frame(WINDOW_UPDATE, 0, 0, &[0; 4]);
    let window_too_large = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]).repeat(2);
    for (bytes, code) in [
        (frame(DATA, 0, 0, b"x"), 1),
        (frame(DATA, 0, 1, b"on an idle stream"), 1),
        (
            frame(HEADERS, END_STREAM | END_HEADERS, 2, &block(&SHOP)),
            1,
        ),
        (
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ),
            1,
        ),
        (frame(DATA, 0, 1, &[0; 16_385]), 6),
        (frame(SETTINGS, 0, 0, &[0; 5]), 1),
        (frame(PING, 0, 0, &[0; 7]), 1),
        (window_of_nothing, 1),
        (window_too_large, 3),
        (frame(CONTINUATION, END_HEADERS, 1, &block(&SHOP)), 1),
        (
            [
                frame(HEADERS, END_STREAM, 1, &block(&SHOP)),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            1,
        ),
    ] {
        let mut raw = Raw::connect(proxy.address, &[]);
        raw.send(&bytes);
        assert_eq!(raw.goodbye(), Some(code), "{bytes:?}");
    }
    proxy.wait_value("envoy_http_downstream_cx_active", &OF_MANAGER, 0);
}

#[test]
fn a_frame_on_a_closed_stream_harms_no_other() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut raw = Raw::connect(proxy.address, &[]);
    raw.send(&request(1));
    raw.await_frame(DATA, 1);
    raw.send(&frame(DATA, END_STREAM, 1, b"late"));
    raw.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    raw.send(&request(3));
    raw.await_frame(DATA, 3);
}

/// Who asks and does not read is not read any more: what is held for it is bounded.
#[test]
fn a_client_that_floods_and_does_not_read_is_stopped() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    for flood in [
        frame(PING, 0, 0, &[7; 8]).repeat(1000),
        frame(SETTINGS, 0, 0, &[]).repeat(1000),
    ] {
        let mut raw = Raw::connect(proxy.address, &[]);
        raw.stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut sent = 0;
        while raw.send(&flood) {
            sent += flood.len();
            assert!(sent < 64 << 20, "{sent} bytes and no end");
        }
    }
}

#[test]
fn a_client_that_opens_no_window_is_given_up_after_the_idle_timeout() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        let _gone = stream.write_all(head);
        let mut sent = 0_usize;
        while let Ok(n) = stream.write(&[7; 65_536]) {
            sent += n;
            assert!(sent < 64 << 20, "the proxy holds what nobody reads");
        }
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.stream_idle_timeout = Some(Duration::from_millis(300));
    });
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let mut raw = Raw::connect(proxy.address, &[0, 4, 0, 0, 0, 0]);
    raw.send(&request(1));
    raw.await_frame(HEADERS, 1);
    raw.await_frame(RST_STREAM, 1);
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 SI stream_idle_timeout"), "{record}");
}

#[test]
fn a_large_body_passes_both_ways_through_small_windows() {
    let upstream = Upstream::start(|mut stream| {
        let request = read_message(&mut stream).unwrap();
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let _end = stream.read(&mut [0]);
    });
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.http2.stream_window = 65_535;
        hcm.http2.connection_window = 65_535;
    });
    let body: Vec<u8> = (0..3_000_000_u32)
        .map(|i| b'a' + u8::try_from(i % 23).unwrap())
        .collect();
    let answer = block_on(async {
        let client = client_with(proxy.address, &mut client::Builder::new()).await;
        let mut request = post("/");
        request
            .headers_mut()
            .insert("content-length", body.len().into());
        let (response, mut stream) = begin(&client, request).await;
        send(&mut stream, body.clone(), true).await;
        read(response).await.unwrap()
    });
    assert!(answer.body == body, "{} bytes", answer.body.len());
}

#[test]
fn both_versions_are_told_the_same_of_a_failure() {
    let nobody = support::nobody();
    let proxy = Proxy::http(&[nobody]);
    let by_1 = exchange(&mut proxy.connect(), "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let by_2 = block_on(async {
        let client = client(proxy.address).await;
        ask(&client, get("/")).await.unwrap()
    });
    assert_eq!(by_2.status, StatusCode::SERVICE_UNAVAILABLE);
    let body = std::str::from_utf8(&by_2.body).unwrap();
    assert!(
        by_1.ends_with(body) && body.contains("remote connection failure"),
        "{by_1}"
    );
    assert_eq!(by_2.headers["content-length"], body.len().to_string());
}
