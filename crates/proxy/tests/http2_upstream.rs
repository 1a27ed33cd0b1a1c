//! HTTP/2 to upstreams, and gRPC, through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, Request, Response, StatusCode};
use shunt_proxy::model::{DirectResponse, GrpcTimeouts, RouteAction, Timeouts, UpstreamProtocol};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::http2::{
    Answer, OF_CLUSTER, answer, ask, begin, block_on, by_http2, by_http2_with, client, client_with,
    get, pattern, post, reached, read, receive, send, upstream, upstream_with,
};
use support::{Proxy, Upstream, exchange};

fn connections(proxy: &Proxy) -> u64 {
    let family = "envoy_cluster_upstream_cx_total";
    proxy.registry.value(family, &OF_CLUSTER).unwrap_or(0)
}

/// So many requests at the same time.
async fn ask_at_once(client: &SendRequest<Bytes>, count: usize) -> Vec<Answer> {
    let one = || {
        let client = client.clone();
        tokio::task::spawn_local(async move { ask(&client, get("/")).await.unwrap() })
    };
    let all: Vec<_> = (0..count).map(|_| one()).collect();
    let mut answers = Vec::with_capacity(count);
    for one in all {
        answers.push(one.await.unwrap());
    }
    answers
}

/// Sends back what it is sent, as it comes, with the trailers.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut received = request.into_body();
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else {
        return;
    };
    while let Some(Ok(data)) = received.data().await {
        received
            .flow_control()
            .release_capacity(data.len())
            .unwrap();
        send(&mut stream, data, false).await;
    }
    let trailers = received.trailers().await.unwrap_or_default();
    let _gone = match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    };
}

#[test]
fn a_request_by_http1_goes_on_by_http2() {
    let (seen, requests) = mpsc::channel();
    let upstream = upstream(move |request: Request<RecvStream>, mut respond| {
        let seen = seen.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let (body, _) = receive(&mut body).await.unwrap();
            seen.send((head, body)).unwrap();
            answer(&mut respond, 201, "made");
        }
    });
    let proxy = by_http2(&[upstream.address]);
    let mut stream = proxy.connect();
    for framing in [
        "content-length: 4\r\n\r\nbody",
        "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let request = format!(
            "POST /a?b HTTP/1.1\r\nhost: shop:8080\r\nconnection: keep-alive\r\nx-own: 1\r\n{framing}"
        );
        let response = exchange(&mut stream, &request);
        assert!(
            response.starts_with("HTTP/1.1 201 Created\r\n"),
            "{response}"
        );
        assert!(response.contains("made"), "{response}");
        let (head, body) = requests.recv().unwrap();
        assert_eq!((head.method.as_str(), &body[..]), ("POST", &b"body"[..]));
        assert_eq!(head.uri, "http://shop:8080/a?b");
        assert_eq!(head.headers["x-own"], "1");
        for gone in ["host", "connection", "transfer-encoding"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
    }
    let response = exchange(&mut stream, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
    assert_eq!(requests.recv().unwrap().1, "");
    assert_eq!(connections(&proxy), 1);
}

#[test]
fn both_directions_flow_at_the_same_time_and_trailers_pass() {
    let upstream = upstream(echo);
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/")).await;
        let mut down = None;
        let mut response = Some(response);
        for n in 0..20 {
            let part = format!("part {n}");
            send(&mut up, part.clone(), false).await;
            if let Some(response) = response.take() {
                down = Some(response.await.unwrap().into_body());
            }
            let down = down.as_mut().unwrap();
            let back = down.data().await.unwrap().unwrap();
            down.flow_control().release_capacity(back.len()).unwrap();
            assert_eq!(back, part);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "20".parse().unwrap());
        up.send_trailers(trailers.clone()).unwrap();
        let (rest, back) = receive(&mut down.unwrap()).await.unwrap();
        assert_eq!((rest.len(), back), (0, Some(trailers)));
    });
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("\"POST / HTTP/2\" 200 - via_upstream"),
        "{record}"
    );
}

#[test]
fn a_large_body_passes_both_ways_through_small_windows() {
    let upstream = upstream(echo);
    let proxy = by_http2_with(&[upstream.address], |hcm, cluster| {
        for options in [&mut hcm.http2, &mut cluster.http2] {
            options.stream_window = 65_535;
            options.connection_window = 65_535;
        }
    });
    let body = pattern(4_000_000);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/")).await;
        let sent = body.clone();
        let sending = tokio::task::spawn_local(async move { send(&mut up, sent, true).await });
        let answer = read(response).await.unwrap();
        sending.await.unwrap();
        assert!(answer.body == body, "{} bytes", answer.body.len());
    });
}

#[test]
fn many_requests_share_one_connection() {
    let upstream = upstream(|_, mut respond| async move { answer(&mut respond, 200, "hi") });
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        for one in ask_at_once(&client, 90).await {
            assert_eq!(one.body, "hi");
        }
    });
    assert_eq!(connections(&proxy), 1);
    proxy.wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 90);
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
}

/// An upstream that takes so many streams at once on a connection, and never more.
fn narrow(most: u32) -> (Upstream, Arc<AtomicUsize>) {
    let peak = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&peak);
    let open = Arc::new(AtomicUsize::new(0));
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(most);
    let upstream = upstream_with(builder, move |_, mut respond| {
        let (open, seen) = (Arc::clone(&open), Arc::clone(&seen));
        async move {
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            open.fetch_sub(1, Ordering::SeqCst);
            answer(&mut respond, 200, "hi");
        }
    });
    (upstream, peak)
}

#[test]
fn another_connection_is_made_where_one_takes_no_more_streams() {
    for (breaker, expected) in [(10, 2..=10), (1, 1..=1)] {
        let (upstream, peak) = narrow(2);
        let proxy = by_http2_with(&[upstream.address], |_, cluster| {
            cluster.circuit_breakers.max_connections = breaker;
        });
        block_on(async {
            let client = client(proxy.address).await;
            // The upstream's limit is known after the first.
            ask(&client, get("/")).await.unwrap();
            for one in ask_at_once(&client, 30).await {
                assert_eq!(one.body, "hi");
            }
        });
        let made = connections(&proxy);
        assert!(expected.contains(&made), "{made} connections of {breaker}");
        let peak = peak.load(Ordering::SeqCst) as u64;
        assert!(peak <= 2 * made, "{peak} streams on {made} connections");
    }
}

#[test]
fn a_connection_serves_as_many_requests_as_are_configured() {
    let upstream = upstream(|_, mut respond| async move { answer(&mut respond, 200, "hi") });
    let proxy = by_http2_with(&[upstream.address], |_, cluster| {
        cluster.max_requests_per_connection = Some(2);
    });
    block_on(async {
        let client = client(proxy.address).await;
        for _ in 0..6 {
            ask(&client, get("/")).await.unwrap();
        }
    });
    assert_eq!(connections(&proxy), 3);
    proxy.wait_value("envoy_cluster_upstream_cx_destroy", &OF_CLUSTER, 3);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let upstream = upstream(|_, mut respond| async move { answer(&mut respond, 200, "hi") });
    let proxy = by_http2_with(&[upstream.address], |_, cluster| {
        cluster.idle_timeout = Some(Duration::from_millis(100));
    });
    block_on(async { ask(&client(proxy.address).await, get("/")).await.unwrap() });
    proxy.wait_value("envoy_cluster_upstream_cx_destroy", &OF_CLUSTER, 1);
    proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
}

#[test]
fn an_upstream_that_goes_away_in_order_costs_no_error() {
    let upstream = Upstream::start(|stream| {
        // One request, then GOAWAY.
        stream.set_nonblocking(true).unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut connection = server::handshake(stream).await.unwrap();
            if let Some(Ok((_, mut respond))) = connection.accept().await {
                answer(&mut respond, 200, "hi");
                connection.graceful_shutdown();
            }
            while connection.accept().await.is_some() {}
        });
    });
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        for served in 1..=10 {
            assert_eq!(ask(&client, get("/")).await.unwrap().body, "hi");
            reached(
                &proxy,
                "envoy_cluster_upstream_cx_destroy",
                &OF_CLUSTER,
                served,
            )
            .await;
        }
    });
}

#[test]
fn what_goes_wrong_upstream_is_told_in_envoys_words() {
    let read = Arc::new(tokio::sync::Notify::new());
    let upstream = upstream(move |request: Request<RecvStream>, mut respond| {
        let read = Arc::clone(&read);
        async move {
            match request.uri().path() {
                "/read" => {
                    answer(&mut respond, 200, "");
                    read.notify_one();
                }
                "/refuse" => respond.send_reset(Reason::REFUSED_STREAM),
                "/reset" => respond.send_reset(Reason::CANCEL),
                _ => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    send(&mut stream, "part", false).await;
                    read.notified().await;
                    stream.send_reset(Reason::INTERNAL_ERROR);
                }
            }
        }
    });
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        for (path, reason) in [
            ("/refuse", "remote refused stream reset"),
            ("/reset", "remote reset"),
        ] {
            let answer = ask(&client, get(path)).await.unwrap();
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            let body = std::str::from_utf8(&answer.body).unwrap();
            assert!(body.ends_with(&format!("reset reason: {reason}")), "{body}");
        }
        let mut ready = client.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(get("/part"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "part");
        ask(&client, get("/read")).await.unwrap();
        let error = receive(&mut body).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
    });
    let records = proxy.records(4).join("");
    for said in [
        "503 UR upstream_reset_before_response_started{remote_refused_stream_reset}",
        "503 UR upstream_reset_before_response_started{remote_reset}",
        "200 UR upstream_reset_after_response_started{remote_reset}",
    ] {
        assert!(records.contains(said), "{said} in {records}");
    }
    assert_eq!(connections(&proxy), 1);
}

#[test]
fn an_answer_that_cannot_be_passed_on_is_a_bad_gateway_and_costs_its_stream_alone() {
    let upstream = upstream(|request: Request<RecvStream>, mut respond| async move {
        let mut head = Response::new(());
        let lengths = match request.uri().path() {
            "/switch" => {
                let mut switch = Response::new(());
                *switch.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                respond.send_informational(switch).unwrap();
                &["2"][..]
            }
            "/twice" => &["2", "2"],
            "/sign" => &["+2"],
            _ => &["2"],
        };
        for length in lengths {
            head.headers_mut()
                .append("content-length", length.parse().unwrap());
        }
        let is_head = request.method() == http::Method::HEAD;
        if let Ok(mut stream) = respond.send_response(head, is_head)
            && !is_head
        {
            let _reset = stream.send_data("hi".into(), true);
        }
    });
    let proxy = by_http2(&[upstream.address]);
    let wrong = ["/switch", "/twice", "/sign"];
    block_on(async {
        let client = client(proxy.address).await;
        for method in [http::Method::GET, http::Method::HEAD] {
            for path in wrong.iter().chain(&["/sound"]) {
                let mut request = get(path);
                *request.method_mut() = method.clone();
                let answer = ask(&client, request).await.unwrap();
                let expected = match *path {
                    "/sound" => StatusCode::OK,
                    _ => StatusCode::BAD_GATEWAY,
                };
                assert_eq!(answer.status, expected, "{method} {path}");
            }
        }
    });
    let records = proxy.records(8).join("");
    let said = "502 UPE upstream_reset_before_response_started{protocol_error}";
    assert_eq!(records.matches(said).count(), 6, "{records}");
    assert_eq!(connections(&proxy), 1);
}

#[test]
fn all_that_wait_for_a_connection_learn_that_there_is_none() {
    let nobody = support::nobody();
    let proxy = by_http2(&[nobody]);
    block_on(async {
        let client = client(proxy.address).await;
        for one in ask_at_once(&client, 20).await {
            assert_eq!(one.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    });
    let records = proxy.records(20);
    assert!(
        records.iter().all(|r| r.contains(" 503 UF ")),
        "{records:#?}"
    );
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
}

#[test]
fn a_reset_of_the_client_reaches_the_upstream_and_frees_its_place() {
    let (reset, resets) = mpsc::channel();
    let upstream = upstream(
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let reset = reset.clone();
            async move {
                if request.uri().path() == "/" {
                    return answer(&mut respond, 200, "hi");
                }
                let why = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                reset.send(why.unwrap()).unwrap();
            }
        },
    );
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/stuck")).await;
        send(&mut up, "part", false).await;
        reached(&proxy, "envoy_cluster_upstream_rq_total", &OF_CLUSTER, 1).await;
        up.send_reset(Reason::CANCEL);
        drop(response);
        assert_eq!(ask(&client, get("/")).await.unwrap().body, "hi");
    });
    assert_eq!(resets.recv().unwrap(), Reason::CANCEL);
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
    assert_eq!(connections(&proxy), 1);
}

#[test]
fn an_answer_that_comes_early_ends_the_upload() {
    let upstream = upstream(|request: Request<RecvStream>, mut respond| async move {
        drop(request);
        answer(&mut respond, 413, "too much");
    });
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/")).await;
        send(&mut up, vec![7; 1000], false).await;
        let answer = read(response).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (413, &b"too much"[..])
        );
        // The client is told that no more is needed.
        let why = std::future::poll_fn(|cx| up.poll_reset(cx)).await.unwrap();
        assert_eq!(why, Reason::NO_ERROR);
        assert!(ask(&client, get("/")).await.is_ok());
    });
}

#[test]
fn an_upstream_that_sends_more_than_is_read_is_held_back() {
    const WINDOW: usize = 65_535;
    const FRAME: usize = 16_384;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = upstream(move |request: Request<RecvStream>, mut respond| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() != "/much" {
                return answer(&mut respond, 200, "hi");
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            loop {
                stream.reserve_capacity(FRAME);
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { return };
                if stream.send_data(vec![7; room].into(), false).is_err() {
                    return;
                }
                count.fetch_add(room, Ordering::SeqCst);
            }
        }
    });
    let proxy = by_http2_with(&[upstream.address], |_, cluster| {
        cluster.http2.stream_window = 65_535;
    });
    block_on(async {
        // One stream cannot close the others' window.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(16 * 65_535);
        let client = client_with(proxy.address, &mut builder).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(get("/much"), true).unwrap();
        let body = response.await.unwrap().into_body();
        // The client's window is full, and the proxy's but for what it has not asked for again: h2
        // does so by halves.
        while sent.load(Ordering::SeqCst) < WINDOW + WINDOW / 2 {
            tokio::task::yield_now().await;
        }
        // On the same connections others come and go meanwhile.
        for _ in 0..20 {
            assert_eq!(ask(&client, get("/")).await.unwrap().body, "hi");
        }
        let most = sent.load(Ordering::SeqCst);
        assert!(most <= 2 * WINDOW + FRAME, "{most} bytes");
        drop(body);
    });
}

#[test]
fn the_version_of_the_request_is_that_of_the_upstream_where_it_shall_be() {
    let (seen, versions) = mpsc::channel();
    let upstream = Upstream::start(move |stream| {
        let mut first = [0; 3];
        while stream.peek(&mut first).is_ok_and(|n| n < 3) {}
        seen.send(first).unwrap();
    });
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.protocol = UpstreamProtocol::Downstream;
    });
    exchange(&mut proxy.connect(), "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    block_on(async { ask(&client(proxy.address).await, get("/")).await.unwrap() });
    assert_eq!(
        [versions.recv().unwrap(), versions.recv().unwrap()],
        [*b"GET", *b"PRI"]
    );
}

fn grpc(path: &str) -> Request<()> {
    let mut request = post(path);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc+proto".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    request
}

#[test]
fn a_call_of_grpc_passes_with_its_status() {
    let upstream = upstream(|request: Request<RecvStream>, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let (body, _) = receive(&mut request.into_body()).await.unwrap();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        send(&mut stream, body, false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("grpc-message", "not here".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    });
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, grpc("/a.B/C")).await;
        send(&mut up, "\0\0\0\0\x02hi", true).await;
        let answer = read(response).await.unwrap();
        assert_eq!(answer.body, "\0\0\0\0\x02hi");
        let trailers = answer.trailers.unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"5".parse().unwrap(), &"not here".parse().unwrap())
        );
    });
}

/// What our own answers to gRPC look like: `(grpc-status, grpc-message)`.
async fn told(proxy: &Proxy, request: Request<()>) -> (String, String) {
    let answer = ask(&client(proxy.address).await, request).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert!(answer.body.is_empty() && !answer.headers.contains_key("content-length"));
    let text = |name| {
        let value = answer.headers.get(name);
        value.map_or(String::new(), |v| v.to_str().unwrap().to_owned())
    };
    (text("grpc-status"), text("grpc-message"))
}

#[test]
fn what_we_answer_to_grpc_is_in_the_form_of_grpc() {
    let nobody = support::nobody();
    let proxy = by_http2_with(&[nobody], |hcm, _| {
        let routes = &mut support::inline(hcm).virtual_hosts[0].routes;
        let mut direct = routes[0].clone();
        routes[0].matcher.path = shunt_proxy::model::PathMatch::Prefix("/dead".to_owned());
        direct.matcher.path = shunt_proxy::model::PathMatch::Prefix("/direct".to_owned());
        direct.action = RouteAction::DirectResponse(DirectResponse {
            status: StatusCode::FORBIDDEN,
            body: "100% no".into(),
        });
        routes.push(direct);
    });
    block_on(async {
        let (status, message) = told(&proxy, grpc("/dead")).await;
        assert!(
            status == "14" && message.contains("remote connection failure"),
            "{message}"
        );
        assert_eq!(
            told(&proxy, grpc("/none")).await,
            ("12".into(), String::new())
        );
        assert_eq!(
            told(&proxy, grpc("/direct")).await,
            ("7".into(), "100%25 no".into())
        );
        let plain = ask(&client(proxy.address).await, post("/direct"))
            .await
            .unwrap();
        assert_eq!(
            (plain.status, &plain.body[..]),
            (StatusCode::FORBIDDEN, &b"100% no"[..])
        );
    });
}

#[test]
fn a_call_of_grpc_is_over_when_its_client_says_so() {
    let upstream = upstream(|_, mut respond: SendResponse<Bytes>| async move {
        let _reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
    });
    let max = Some(Duration::from_millis(300));
    let timeout = Some(Duration::from_secs(60));
    for (timeouts, asked, expected) in [
        (
            Timeouts::Response {
                timeout,
                grpc: Some(GrpcTimeouts { max: None }),
            },
            "100m",
            ("14", "upstream request timeout"),
        ),
        (
            Timeouts::Response {
                timeout,
                grpc: Some(GrpcTimeouts { max }),
            },
            "60S",
            ("14", "upstream request timeout"),
        ),
        (
            Timeouts::Stream {
                duration: None,
                grpc: Some(GrpcTimeouts { max: None }),
            },
            "100m",
            ("4", "downstream duration timeout"),
        ),
        (
            Timeouts::Stream {
                duration: max,
                grpc: None,
            },
            "60S",
            ("4", "downstream duration timeout"),
        ),
    ] {
        let proxy = by_http2_with(&[upstream.address], |hcm, _| {
            let route = &mut support::inline(hcm).virtual_hosts[0].routes[0];
            if let RouteAction::Forward(forward) = &mut route.action {
                forward.timeouts = timeouts;
            }
        });
        let mut request = grpc("/");
        request
            .headers_mut()
            .insert("grpc-timeout", asked.parse().unwrap());
        let (status, message) = block_on(told(&proxy, request));
        assert_eq!((&*status, &*message), expected, "{timeouts:?}");
        let record = proxy.records(1).remove(0);
        let said = match timeouts {
            Timeouts::Response { .. } => " 200 UT response_timeout",
            Timeouts::Stream { .. } => " 200 - max_duration_timeout",
        };
        assert!(record.contains(said), "{record}");
    }
}
