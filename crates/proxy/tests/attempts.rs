//! How long one attempt at an upstream may take: what is counted and recorded of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{HttpConnectionManager, PerTry, RouteAction, Timeouts};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use support::http2::{OF_CLUSTER, answer, ask, block_on, by_http2_with, client, get, upstream};
use support::{DEADLINE, Proxy, Upstream, exchange, inline, read_head, read_message};

/// Longer than an upstream may take to answer on a slow machine.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(300);
const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const PER_TRY: &str = "envoy_cluster_upstream_rq_per_try_timeout";
const IDLE: &str = "envoy_cluster_upstream_rq_per_try_idle_timeout";
const TIMEOUT: &str = "envoy_cluster_upstream_rq_timeout";

fn limit(hcm: &mut HttpConnectionManager, whole: Option<Duration>, limits: PerTry) {
    for route in &mut inline(hcm).virtual_hosts[0].routes {
        if let RouteAction::Forward(forward) = &mut route.action {
            forward.per_try = limits;
            forward.timeouts = Timeouts::Response {
                timeout: whole,
                grpc: None,
            };
        }
    }
}

fn timeout(timeout: Duration) -> PerTry {
    PerTry {
        timeout: Some(timeout),
        idle: None,
    }
}

fn idle(idle: Duration) -> PerTry {
    PerTry {
        timeout: None,
        idle: Some(idle),
    }
}

/// A proxy to an upstream that says this to each request, and no more.
fn proxy(says: &'static str, whole: Option<Duration>, limits: PerTry) -> Proxy {
    let upstream = Upstream::start(move |mut stream| {
        if read_message(&mut stream).is_some() {
            stream.write_all(says.as_bytes()).unwrap();
        }
        let _until_the_proxy_closes = stream.read(&mut [0]);
    });
    Proxy::http_with(&[upstream.address], |hcm, _| limit(hcm, whole, limits))
}

/// What was counted of attempts: too long, idle, too long for the route.
fn counted(proxy: &Proxy) -> [u64; 3] {
    [PER_TRY, IDLE, TIMEOUT].map(|name| proxy.registry.value(name, &OF_CLUSTER).unwrap_or(0))
}

#[test]
fn an_attempt_that_takes_too_long_is_told_apart_from_its_route() {
    let both = PerTry {
        timeout: Some(SHORT),
        idle: Some(LONG),
    };
    for (whole, limits, counts, details) in [
        (None, timeout(SHORT), [1, 0, 0], "upstream_per_try_timeout"),
        (Some(LONG), both, [1, 0, 0], "upstream_per_try_timeout"),
        (
            Some(LONG),
            idle(SHORT),
            [0, 1, 0],
            "upstream_per_try_idle_timeout",
        ),
        (Some(SHORT), timeout(SHORT), [0, 0, 1], "response_timeout"),
        (Some(SHORT), timeout(LONG), [0, 0, 1], "response_timeout"),
        (Some(SHORT), idle(LONG), [0, 0, 1], "response_timeout"),
    ] {
        let proxy = proxy("", whole, limits);
        let mut client = proxy.connect();
        let began = Instant::now();
        let answer = exchange(&mut client, GET);
        assert!(began.elapsed() >= SHORT && began.elapsed() < LONG);
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nupstream request timeout"));
        let record = proxy.records(1).remove(0);
        let expected = format!(" 504 UT {details} ");
        assert!(record.contains(&expected), "{record}");
        assert_eq!(counted(&proxy), counts, "{details}");
        // What was asked on its connection is not answered to the next request.
        proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
        proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
    }
}

#[test]
fn an_answer_that_rests_too_long_is_cut() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    for (whole, limits, counts, details) in [
        (
            None,
            idle(SHORT),
            [0, 1, 0],
            "upstream_per_try_idle_timeout",
        ),
        (Some(SHORT), idle(LONG), [0, 0, 1], "response_timeout"),
        // That of an attempt ends with the head.
        (
            Some(4 * SHORT),
            timeout(SHORT),
            [0, 0, 1],
            "response_timeout",
        ),
    ] {
        let proxy = proxy(half, whole, limits);
        let mut client = proxy.connect();
        let began = Instant::now();
        client.write_all(GET.as_bytes()).unwrap();
        read_head(&mut client);
        let mut rest = Vec::new();
        assert!(client.read_to_end(&mut rest).is_err(), "a reset");
        assert!(began.elapsed() >= whole.unwrap_or(SHORT).min(LONG) - SHORT / 10);
        let record = proxy.records(1).remove(0);
        let expected = format!(" 200 UT {details} ");
        assert!(record.contains(&expected), "{record}");
        assert_eq!(counted(&proxy), counts, "{details}");
        proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
    }
}

#[test]
fn an_upstream_is_told_what_the_attempt_may_take() {
    for (whole, limits, told) in [
        (Some(LONG), timeout(SHORT), Some("500")),
        (Some(SHORT), timeout(LONG), Some("500")),
        (None, timeout(SHORT), Some("500")),
        (Some(LONG), idle(SHORT), Some("300000")),
        (None, idle(LONG), None),
    ] {
        let (upstream, requests) = Upstream::http("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let proxy = Proxy::http_with(&[upstream.address], |hcm, _| limit(hcm, whole, limits));
        exchange(&mut proxy.connect(), GET);
        let seen = requests.recv_timeout(DEADLINE).unwrap();
        let header = "\r\nx-envoy-expected-rq-timeout-ms: ";
        let value = seen.split_once(header).map(|(_, rest)| rest);
        let value = value.and_then(|rest| rest.split("\r\n").next());
        assert_eq!(value, told, "{whole:?} {limits:?}");
    }
}

#[test]
fn an_attempt_by_http2_that_takes_too_long_ends_its_stream_alone() {
    let serve = |request: http::Request<h2::RecvStream>,
                 mut respond: h2::server::SendResponse<bytes::Bytes>| async move {
        if request.uri().path() == "/never" {
            let _reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        } else {
            answer(&mut respond, 200, "hi");
        }
    };
    let upstream = upstream(serve);
    let proxy = by_http2_with(&[upstream.address], |hcm, _| {
        limit(hcm, None, timeout(SHORT));
    });
    block_on(async {
        let client = client(proxy.address).await;
        let late = ask(&client, get("/never")).await.unwrap();
        assert_eq!(late.status, 504);
        let next = ask(&client, get("/")).await.unwrap();
        assert_eq!(next.status, 200);
    });
    assert_eq!(counted(&proxy), [1, 0, 0]);
    proxy.wait_value("envoy_cluster_upstream_cx_total", &OF_CLUSTER, 1);
    let record = proxy.records(2).remove(0);
    assert!(
        record.contains(" 504 UT upstream_per_try_timeout "),
        "{record}"
    );
}

#[test]
fn an_answer_that_began_before_the_end_of_its_request_is_timed_from_there() {
    let upstream = Upstream::start(|mut stream| {
        read_head(&mut stream);
        let begun = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
        stream.write_all(begun.as_bytes()).unwrap();
        let _until_the_proxy_closes = stream.read_to_end(&mut Vec::new());
    });
    for (whole, limits) in [
        (SHORT, PerTry::default()),
        (SHORT, timeout(SHORT / 2)),
        (SHORT, idle(LONG)),
    ] {
        let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
            limit(hcm, Some(whole), limits);
        });
        let mut client = proxy.connect();
        let head = "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 4\r\n\r\nabc";
        client.write_all(head.as_bytes()).unwrap();
        read_head(&mut client);
        client.read_exact(&mut [0; 5]).unwrap();
        client.set_read_timeout(Some(2 * SHORT)).unwrap();
        let early = client.read(&mut [0]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock, "nothing is timed yet");
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let ended = Instant::now();
        client.write_all(b"d").unwrap();
        let cut = client.read(&mut [0]).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
        assert!(
            ended.elapsed() >= SHORT - SHORT / 10,
            "{:?}",
            ended.elapsed()
        );
        let record = proxy.records(1).remove(0);
        assert!(record.contains(" 200 UT response_timeout "), "{record}");
        assert_eq!(counted(&proxy), [0, 0, 1]);
    }
}

#[test]
fn an_answer_by_http2_is_timed_from_the_end_of_its_request_too() {
    let upstream = upstream(|_request, mut respond| async move {
        let head = http::Response::new(());
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data("hello".into(), false).unwrap();
        let _reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    });
    let proxy = by_http2_with(&[upstream.address], |hcm, _| {
        limit(hcm, Some(SHORT), PerTry::default());
    });
    block_on(async {
        let mut client = client(proxy.address).await.ready().await.unwrap();
        let request = http::Request::post("http://shop/").body(()).unwrap();
        let (response, mut sent) = client.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        let early = tokio::time::timeout(2 * SHORT, body.data()).await;
        assert!(early.is_err(), "nothing is timed yet: {early:?}");
        sent.send_data(bytes::Bytes::new(), true).unwrap();
        assert!(body.data().await.unwrap().is_err(), "a reset");
    });
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 UT response_timeout "), "{record}");
    assert_eq!(counted(&proxy), [0, 0, 1]);
}
