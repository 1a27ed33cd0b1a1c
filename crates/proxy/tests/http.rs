//! HTTP through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{CircuitBreakers, Timeouts};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{CLUSTER, DEADLINE, Proxy, Upstream, exchange, nobody, read_message};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-Own: kept\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or(response)
}

#[test]
fn no_client_takes_the_id_of_its_request_away() {
    let (upstream, requests) = Upstream::http("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    let proxy = Proxy::http(&[upstream.address]);
    for (own, is_kept) in [
        ("x-request-id: own\r\nconnection: keep-alive", true),
        ("x-request-id: own\r\nconnection: X-Request-Id", false),
        ("connection: x-request-id", false),
        ("x-request-id:", false),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: shop\r\n{own}\r\n\r\n");
        exchange(&mut proxy.connect(), &request);
        let seen = requests.recv().unwrap();
        let ids: Vec<&str> = seen
            .lines()
            .filter_map(|line| line.strip_prefix("x-request-id: "))
            .collect();
        match ids[..] {
            [id] if is_kept => assert_eq!(id, "own", "{own}"),
            [id] => assert_eq!(id.len(), 36, "{own}: {seen}"),
            _ => panic!("{own}: {seen}"),
        }
    }
}

#[test]
fn a_request_and_its_answer_pass_with_headers_intact() {
    let (upstream, requests) = Upstream::http(
        "HTTP/1.1 201 Created\r\nx-app: yes\r\nset-cookie: a\r\nset-cookie: b\r\n\
         content-length: 2\r\n\r\nhi",
    );
    let proxy = Proxy::http(&[upstream.address]);
    let response = exchange(&mut proxy.connect(), GET);
    assert!(
        response.starts_with("HTTP/1.1 201 Created\r\n"),
        "{response}"
    );
    for kept in [
        "x-app: yes",
        "set-cookie: a",
        "set-cookie: b",
        "server: envoy",
    ] {
        assert!(
            response.contains(&format!("\r\n{kept}\r\n")),
            "{kept} in {response}"
        );
    }
    assert!(
        response.contains("\r\nx-envoy-upstream-service-time: "),
        "{response}"
    );
    assert!(response.ends_with("\r\n\r\nhi"), "{response}");

    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    for kept in ["host: shop", "x-own: kept", "x-forwarded-proto: http"] {
        assert!(
            request.contains(&format!("\r\n{kept}\r\n")),
            "{kept} in {request}"
        );
    }
    assert!(request.contains("\r\nx-request-id: "), "{request}");

    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("\"GET /a?b=c HTTP/1.1\" 201 - via_upstream - "),
        "{record}"
    );
    assert!(
        record.contains(&format!("\"{}\" {CLUSTER} ", upstream.address)),
        "{record}"
    );
    assert!(record.trim_end().ends_with(" - default"), "{record}");
}

#[test]
fn many_requests_use_one_upstream_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let upstream = Upstream::start(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        while read_message(&mut stream).is_some() {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(status(&exchange(&mut client, GET)), "200");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    proxy.wait_value(
        "envoy_cluster_upstream_rq_total",
        &[("envoy_cluster_name", CLUSTER)],
        50,
    );
    proxy.wait_value(
        "envoy_cluster_upstream_cx_total",
        &[("envoy_cluster_name", CLUSTER)],
        1,
    );
    assert_eq!(proxy.records(50).len(), 50);
}

#[test]
fn a_pooled_connection_that_the_upstream_closed_costs_no_error() {
    let upstream = Upstream::start(|mut stream| {
        if read_message(&mut stream).is_some() {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    for served in 1..=20 {
        assert_eq!(status(&exchange(&mut client, GET)), "200");
        // The proxy sees the end of the stream before the next request.
        let closed = [("envoy_cluster_name", CLUSTER)];
        proxy.wait_value("envoy_cluster_upstream_cx_destroy", &closed, served);
    }
}

/// hyper would speak HTTP/1.0 on it from then on, in which a body without a length cannot be told.
#[test]
fn a_connection_answered_in_http_1_0_serves_no_other_request() {
    let answer = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let (upstream, requests) = Upstream::http(answer);
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    assert_eq!(status(&exchange(&mut client, GET)), "200");
    requests.recv_timeout(DEADLINE).unwrap();
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    let answer = exchange(&mut client, chunked);
    assert_eq!(status(&answer), "200");
    assert!(!answer.contains("connection: close"), "{answer}");
    let seen = requests.recv_timeout(DEADLINE).unwrap();
    assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
}

#[test]
fn endpoints_take_turns() {
    let (one, one_saw) = Upstream::http(OK);
    let (two, two_saw) = Upstream::http(OK);
    let proxy = Proxy::http(&[one.address, two.address]);
    let mut client = proxy.connect();
    for _ in 0..10 {
        exchange(&mut client, GET);
    }
    assert_eq!(
        (one_saw.try_iter().count(), two_saw.try_iter().count()),
        (5, 5)
    );
}

#[test]
fn bodies_pass_both_ways_by_length_and_chunked() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    let by_length = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    assert!(exchange(&mut client, by_length).contains("\r\n5\r\nhello\r\n0\r\n\r\n"));
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let echoed = exchange(&mut client, chunked);
    assert!(echoed.contains("abc") && echoed.contains("de"), "{echoed}");
    let records = proxy.records(2);
    assert!(
        records[0].contains(" via_upstream - \"-\" 5 5 "),
        "{}",
        records[0]
    );
}

#[test]
fn a_head_answer_has_a_length_and_no_body_and_the_connection_goes_on() {
    let (upstream, _requests) = Upstream::http("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n");
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client
            .write_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
            .unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(
            String::from_utf8(head)
                .unwrap()
                .contains("\r\ncontent-length: 99\r\n")
        );
    }
    for record in proxy.records(3) {
        assert!(record.contains(" 200 - via_upstream "), "{record}");
    }
}

#[test]
fn nobody_listening_is_503_with_flag_uf() {
    let proxy = Proxy::http(&[nobody()]);
    let response = exchange(&mut proxy.connect(), GET);
    assert_eq!(status(&response), "503");
    assert!(
        response.contains("reset reason: remote connection failure"),
        "{response}"
    );
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("503 UF upstream_reset_before_response_started{remote_connection_failure}"),
        "{record}"
    );
    assert!(record.contains("Connection refused"), "{record}");
}

#[test]
fn a_cluster_without_endpoints_is_503_with_flag_uh() {
    let proxy = Proxy::http(&[]);
    let response = exchange(&mut proxy.connect(), GET);
    assert!(
        status(&response) == "503" && response.ends_with("no healthy upstream"),
        "{response}"
    );
    assert!(proxy.records(1)[0].contains(" 503 UH no_healthy_upstream "));
}

#[test]
fn a_route_to_no_cluster_is_503_with_flag_nc_and_no_route_404_with_nr() {
    let proxy = Proxy::http_with(&[], |hcm, cluster| {
        cluster.name = "another".into();
        support::inline(hcm).virtual_hosts[0].routes = vec![support::route("/a", CLUSTER)];
    });
    let mut client = proxy.connect();
    assert_eq!(status(&exchange(&mut client, GET)), "503");
    let other = GET.replace("/a?b=c", "/other");
    assert_eq!(status(&exchange(&mut client, &other)), "404");
    let records = proxy.records(2);
    assert!(
        records[0].contains(" 503 NC cluster_not_found "),
        "{}",
        records[0]
    );
    assert!(
        records[1].contains(" 404 NR route_not_found "),
        "{}",
        records[1]
    );
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_503_with_flag_uc() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
    });
    let proxy = Proxy::http(&[upstream.address]);
    assert_eq!(status(&exchange(&mut proxy.connect(), GET)), "503");
    assert!(
        proxy.records(1)[0].contains(" 503 UC "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn an_upstream_that_does_not_speak_http_is_502_with_flag_upe() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        stream.write_all(b"220 mail ready\r\n\r\n").unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    assert_eq!(status(&exchange(&mut proxy.connect(), GET)), "502");
    assert!(
        proxy.records(1)[0].contains(" 502 UPE "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn an_answer_that_breaks_off_is_cut_downstream_too() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    client.write_all(GET.as_bytes()).unwrap();
    let mut all = Vec::new();
    let _reset_or_end = client.read_to_end(&mut all);
    let text = String::from_utf8(all).unwrap();
    assert!(!text.is_empty() && !text.contains("half\r\n"), "{text}");
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" 200 UC upstream_reset_after_response_started{"),
        "{record}"
    );
}

#[test]
fn a_route_timeout_is_504_with_flag_ut() {
    let upstream = Upstream::start(|mut stream| while read_message(&mut stream).is_some() {});
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        let action = &mut support::inline(hcm).virtual_hosts[0].routes[0].action;
        let shunt_proxy::model::RouteAction::Forward(forward) = action else {
            unreachable!()
        };
        let timeout = Some(Duration::from_millis(50));
        forward.timeouts = Timeouts::Response {
            timeout,
            grpc: None,
        };
    });
    let response = exchange(&mut proxy.connect(), GET);
    assert!(status(&response) == "504" && response.ends_with("upstream request timeout"));
    assert!(
        proxy.records(1)[0].contains(" 504 UT response_timeout "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn a_client_that_goes_away_is_recorded_with_flag_dc() {
    let upstream = Upstream::start(|mut stream| while read_message(&mut stream).is_some() {});
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    client.write_all(GET.as_bytes()).unwrap();
    proxy.wait_value(
        "envoy_cluster_upstream_rq_active",
        &[("envoy_cluster_name", CLUSTER)],
        1,
    );
    drop(client);
    assert!(
        proxy.records(1)[0].contains(" 0 DC "),
        "{:?}",
        proxy.records(1)
    );
    proxy.wait_value(
        "envoy_cluster_upstream_rq_active",
        &[("envoy_cluster_name", CLUSTER)],
        0,
    );
}

#[test]
fn a_stream_that_idles_is_answered_with_flag_si() {
    let upstream = Upstream::start(|mut stream| while read_message(&mut stream).is_some() {});
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.stream_idle_timeout = Some(Duration::from_millis(100));
    });
    let mut client = proxy.connect();
    for records in 1..=2 {
        // All of the request has come, so the connection may serve another.
        let response = exchange(&mut client, GET);
        assert_eq!(status(&response), "504");
        assert!(
            !response.contains("\r\nconnection: close\r\n"),
            "{response}"
        );
        let record = proxy.records(records).pop().unwrap();
        assert!(record.contains(" 504 SI stream_idle_timeout "), "{record}");
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.idle_timeout = Some(Duration::from_secs(1));
    });
    let mut client = proxy.connect();
    exchange(&mut client, GET);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end of stream");
}

#[test]
fn what_must_not_be_forwarded_is_refused_and_never_reaches_the_upstream() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    for (request, answer) in [
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "426"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "404"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "403",
        ),
        ("not http at all\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "400"),
    ] {
        let mut client = proxy.connect();
        client.write_all(request.as_bytes()).unwrap();
        let response = read_message(&mut client).unwrap_or_default();
        assert_eq!(status(&response), answer, "{request:?}: {response:?}");
    }
    assert_eq!(requests.try_iter().count(), 0);
    assert_eq!(proxy.records(8).len(), 8);
}

#[test]
fn an_absolute_form_is_sent_in_origin_form_with_its_host() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let request = "GET http://real/path HTTP/1.1\r\nhost: wrong\r\n\r\n";
    exchange(&mut proxy.connect(), request);
    let seen = requests.recv().unwrap();
    assert!(seen.starts_with("GET /path HTTP/1.1\r\n") && seen.contains("\r\nhost: real\r\n"));
    assert!(!seen.contains("wrong"), "{seen}");
}

#[test]
fn beyond_max_requests_the_answer_is_503_with_flag_uo() {
    let upstream = Upstream::start(|mut stream| while read_message(&mut stream).is_some() {});
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.circuit_breakers = CircuitBreakers {
            max_requests: 1,
            ..Default::default()
        };
    });
    let mut first = proxy.connect();
    first.write_all(GET.as_bytes()).unwrap();
    proxy.wait_value(
        "envoy_cluster_upstream_rq_active",
        &[("envoy_cluster_name", CLUSTER)],
        1,
    );
    assert_eq!(status(&exchange(&mut proxy.connect(), GET)), "503");
    assert!(
        proxy.records(1)[0].contains(" 503 UO "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn at_max_connections_a_request_waits_for_the_connection_and_is_served() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let upstream = Upstream::start(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        while read_message(&mut stream).is_some() {
            gate.lock().unwrap().recv().unwrap();
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.circuit_breakers = CircuitBreakers {
            max_connections: 1,
            ..Default::default()
        };
    });
    let mut clients = [proxy.connect(), proxy.connect()];
    for client in &mut clients {
        client.write_all(GET.as_bytes()).unwrap();
    }
    proxy.wait_value(
        "envoy_cluster_upstream_rq_active",
        &[("envoy_cluster_name", CLUSTER)],
        2,
    );
    release.send(()).unwrap();
    release.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(status(&read_message(client).unwrap()), "200");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_connection_serves_no_more_requests_than_it_may() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let upstream = Upstream::start(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        while read_message(&mut stream).is_some() {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.max_requests_per_connection = Some(2);
    });
    let mut client = proxy.connect();
    for _ in 0..6 {
        assert_eq!(status(&exchange(&mut client, GET)), "200");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[test]
fn in_a_drain_answers_ask_to_close_and_new_connections_are_served() {
    let (upstream, _requests) = Upstream::http(OK);
    let mut proxy = Proxy::http(&[upstream.address]);
    let mut open = proxy.connect();
    assert!(!exchange(&mut open, GET).contains("connection: close"));
    let ended = proxy.shut_down();
    // The drain has begun when an answer says so; until then the connection stays.
    loop {
        let mut new = proxy.connect();
        if exchange(&mut new, GET).contains("\r\nconnection: close\r\n") {
            assert_eq!(new.read(&mut [0]).unwrap(), 0);
            break;
        }
    }
    assert!(exchange(&mut open, GET).contains("\r\nconnection: close\r\n"));
    assert_eq!(ended.join().unwrap().cut, 0);
    assert!(
        std::net::TcpStream::connect(proxy.address).is_err(),
        "nothing listens any more"
    );
}

/// The response to a request on a connection of its own, and what the upstream saw.
fn through(request: &str, response: &'static str) -> (String, Option<String>, Proxy) {
    let (upstream, requests) = Upstream::http(response);
    let proxy = Proxy::http(&[upstream.address]);
    let answer = exchange(&mut proxy.connect(), request);
    (answer, requests.try_recv().ok(), proxy)
}

#[test]
fn a_certificate_that_the_client_only_claims_does_not_reach_the_application() {
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: By=spiffe://evil\r\n\
                   proxy-authorization: Basic eDp5\r\n\r\n";
    let (answer, seen, _) = through(request, OK);
    assert_eq!(status(&answer), "200");
    let seen = seen.unwrap();
    assert!(!seen.contains("spiffe://evil"), "{seen}");
    assert!(
        seen.contains("\r\nproxy-authorization: Basic eDp5\r\n"),
        "{seen}"
    );
}

#[test]
fn a_transfer_coding_that_cannot_be_passed_on_is_refused_on_both_sides() {
    let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    let (answer, seen, proxy) = through(request, OK);
    assert_eq!((status(&answer), seen), ("501", None));
    assert!(proxy.records(1)[0].contains(" 501 DPE http1.invalid_transfer_encoding "));

    let coded = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (answer, _, _) = through(GET, coded);
    assert_eq!(status(&answer), "502");
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_an_upstream_error() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let (answer, _, proxy) = through(GET, switch);
    assert_eq!(status(&answer), "502");
    assert!(
        proxy.records(1)[0].contains(" 502 UPE "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start(|mut stream| {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") || !request.windows(5).any(|w| w == b"\r\n0\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let seen = String::from_utf8(request)
            .unwrap()
            .contains("\r\n0\r\nx-sum: 1\r\n\r\n");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntrailer: x-seen\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nx-seen: {seen}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        read_message(&mut stream);
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\n\
                   transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"x-seen: true\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    // Before the connection ends: the exchange is complete.
    assert!(
        proxy.records(1)[0].contains(" 200 - via_upstream "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn an_answer_in_http_1_0_that_breaks_off_cannot_pass_for_a_whole_one() {
    let upstream = Upstream::start(|mut stream| {
        read_message(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf").unwrap();
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    client.write_all(GET.as_bytes()).unwrap();
    let mut all = Vec::new();
    let ended = client.read_to_end(&mut all);
    let text = String::from_utf8(all).unwrap();
    assert!(ended.is_err(), "a reset, not an end: {text}");
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 200 "),
        "{text}"
    );
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn a_part_of_a_head_does_not_hold_a_connection_beyond_its_idle_timeout() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.idle_timeout = Some(Duration::from_millis(100));
    });
    let mut client = proxy.connect();
    client.write_all(b"GET /s HTT").unwrap();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    proxy.wait_value(
        "envoy_http_downstream_cx_active",
        &[("envoy_http_conn_manager_prefix", "http")],
        0,
    );
}

#[test]
fn a_request_body_that_the_client_breaks_is_not_blamed_on_the_upstream() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = proxy.connect();
    client
        .write_all(format!("{head}zz\r\n").as_bytes())
        .unwrap();
    let _answer_or_reset = client.read(&mut [0; 64]);
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" DPE ") && !record.contains("UC"),
        "{record}"
    );

    let mut client = proxy.connect();
    client
        .write_all(format!("{head}5\r\nab").as_bytes())
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _answer_or_reset = client.read(&mut [0; 64]);
    let record = proxy.records(2).remove(1);
    assert!(
        record.contains(" DC ") && !record.contains("UC"),
        "{record}"
    );
    let labels = [
        ("envoy_response_code", "503"),
        ("envoy_cluster_name", CLUSTER),
    ];
    assert_eq!(
        proxy.registry.value("envoy_cluster_upstream_rq", &labels),
        None
    );
}

#[test]
fn too_many_headers_are_recorded_with_the_status_that_was_sent() {
    let (upstream, _requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let many: String = (0..110).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = exchange(
        &mut proxy.connect(),
        &format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
    );
    assert_eq!(status(&answer), "431");
    assert!(
        proxy.records(1)[0].contains(" 431 DPE "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_the_upstream_is_not_asked() {
    let (upstream, requests) = Upstream::http(OK);
    let proxy = Proxy::http(&[upstream.address]);
    let mut client = proxy.connect();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let interim = exchange(&mut client, head);
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").unwrap();
    assert_eq!(status(&read_message(&mut client).unwrap()), "200");
    let seen = requests.recv().unwrap();
    assert!(
        !seen.contains("expect") && seen.ends_with("\r\n\r\nhi"),
        "{seen}"
    );
}
