//! CONNECT and extended CONNECT through a proxy in this process: what goes through them, and how
//! they end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, StatusCode};
use shunt_proxy::model::{HttpConnectionManager, PathMatch, RouteAction, RouteUpgrade};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;
use support::http2::{OF_CLUSTER, OF_MANAGER, block_on, client, get, pattern, reached, receive};
use support::{CLUSTER, DEADLINE, Proxy, Upstream, inline, read_head, route};

const ASK: &str = "CONNECT raw:443 HTTP/1.1\r\nhost: raw:443\r\n\r\n";
const MANY: usize = 3_000_000;

/// Ends each CONNECT, passes WebSockets on, and sends the rest to the cluster as it is.
fn proxy_with(upstream: &Upstream, edit: impl FnOnce(&mut HttpConnectionManager)) -> Proxy {
    Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.http2.allow_connect = true;
        hcm.upgrades = vec!["connect".into(), "websocket".into()];
        let mut ends = route("/", CLUSTER);
        ends.matcher.path = PathMatch::Connect;
        if let RouteAction::Forward(forward) = &mut ends.action {
            forward.upgrades = vec![RouteUpgrade {
                protocol: "connect".into(),
                enabled: true,
                terminates: true,
            }];
        }
        inline(hcm).virtual_hosts[0].routes.insert(0, ends);
        edit(hcm);
    })
}

/// Sends back what comes, and a word when the other side has ended.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            let _gone = stream.write_all(b"bye");
            return;
        }
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

async fn tunnel(proxy: &Proxy) -> (SendStream<Bytes>, RecvStream) {
    let client = client(proxy.address).await;
    let mut ready = client.ready().await.unwrap();
    let ask = Request::builder().method(Method::CONNECT).uri("raw:443");
    let (response, stream) = ready.send_request(ask.body(()).unwrap(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    (stream, response.into_body())
}

fn is_over(proxy: &Proxy) {
    proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
}

#[test]
fn a_connect_of_http1_that_ends_here_is_bytes_both_ways_and_each_side_ends_for_itself() {
    let upstream = Upstream::start(echo);
    let proxy = proxy_with(&upstream, |_| {});
    let mut client = proxy.connect();
    // The first bytes may come with the question.
    client
        .write_all(&[ASK.as_bytes(), b"\0early"].concat())
        .unwrap();
    let answer = read_head(&mut client);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let framing = ["content-length", "transfer-encoding", "connection"];
    assert!(
        !framing.iter().any(|name| answer.contains(name)),
        "{answer}"
    );
    let sent = pattern(MANY);
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    writing.join().unwrap();
    assert!(came == [b"\0early", &pattern(MANY)[..], b"bye"].concat());
    let record = proxy.records(1).remove(0);
    let expected = format!(" 200 - via_upstream - \"-\" {} {} ", MANY + 6, MANY + 9);
    assert!(record.contains(&expected), "{expected} in {record}");
    is_over(&proxy);
}

#[test]
fn a_connect_of_http2_is_the_same_on_one_of_many_streams() {
    let upstream = Upstream::start(echo);
    let proxy = proxy_with(&upstream, |_| {});
    block_on(async {
        let (mut stream, mut body) = tunnel(&proxy).await;
        let sending = tokio::task::spawn_local(async move {
            support::http2::send(&mut stream, pattern(MANY), true).await;
        });
        let (came, _) = receive(&mut body).await.unwrap();
        sending.await.unwrap();
        assert!(came == [&pattern(MANY)[..], b"bye"].concat());
    });
    let record = proxy.records(1).remove(0);
    let expected = format!(" 200 - via_upstream - \"-\" {MANY} {} ", MANY + 3);
    assert!(record.contains(&expected), "{expected} in {record}");
    is_over(&proxy);
}

#[test]
fn a_stream_of_a_tunnel_that_its_client_resets_resets_the_upstream_and_is_counted() {
    let (seen, ends) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"go").unwrap();
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        seen.send(end).unwrap();
    });
    let proxy = proxy_with(&upstream, |_| {});
    block_on(async {
        let (mut stream, mut body) = tunnel(&proxy).await;
        stream.send_data("hello".into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "go");
        stream.send_reset(Reason::CANCEL);
        // What was sent last is on its way.
        reached(&proxy, "envoy_http_downstream_rq_rx_reset", &OF_MANAGER, 1).await;
    });
    let end = ends.recv_timeout(DEADLINE).unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "not an end in order");
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" 200 DC downstream_remote_disconnect"),
        "{record}"
    );
    is_over(&proxy);
}

#[test]
fn a_tunnel_that_rests_too_long_is_broken_off_on_both_sides() {
    let (seen, ends) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        seen.send(end).unwrap();
    });
    let proxy = proxy_with(&upstream, |hcm| {
        hcm.stream_idle_timeout = Some(Duration::from_secs(1));
    });
    block_on(async {
        let (_stream, mut body) = tunnel(&proxy).await;
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
    });
    assert_eq!(
        ends.recv_timeout(DEADLINE).unwrap(),
        Err(ErrorKind::ConnectionReset)
    );
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 SI stream_idle_timeout"), "{record}");
}

#[test]
fn what_an_upstream_sends_waits_for_a_client_that_does_not_read() {
    // More than all buffers and both windows together.
    const ALL: usize = 64 * 1024 * 1024;
    let (seen, stalled) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let block = [7; 64 * 1024];
        let mut sent = 0;
        while sent < ALL {
            match stream.write(&block) {
                Ok(length) => sent += length,
                Err(_no_room) => break,
            }
        }
        seen.send(sent).unwrap();
        let _gone = stream.read(&mut [0]);
    });
    let proxy = proxy_with(&upstream, |_| {});
    block_on(async {
        let (_stream, _body) = tunnel(&proxy).await;
        let sent = tokio::task::spawn_blocking(move || stalled.recv_timeout(DEADLINE * 2).unwrap());
        let sent = sent.await.unwrap();
        assert!(sent < ALL, "all of it was taken");
    });
}

#[test]
fn a_websocket_of_http2_reaches_an_upstream_of_http1_with_what_came_early() {
    let (seen, requests) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        seen.send(read_head(&mut stream)).unwrap();
        let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                      connection: upgrade\r\nsec-websocket-accept: a\r\n\r\nhello";
        stream.write_all(switch.as_bytes()).unwrap();
        echo(stream);
    });
    let proxy = proxy_with(&upstream, |_| {});
    block_on(async {
        let client = client(proxy.address).await;
        let mut ready = client.ready().await.unwrap();
        let mut ask = get("/chat");
        *ask.method_mut() = Method::CONNECT;
        ask.extensions_mut().insert(Protocol::from("websocket"));
        let (response, mut stream) = ready.send_request(ask, false).unwrap();
        stream.send_data("\u{81}early".into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["sec-websocket-accept"], "a");
        for name in ["upgrade", "connection"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let (came, _) = receive(&mut response.into_body()).await.unwrap();
        assert_eq!(came, "hello\u{81}earlybye");
    });
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /chat HTTP/1.1\r\n"), "{request}");
    for line in ["upgrade: websocket", "connection: upgrade", "host: shop"] {
        assert!(
            request.contains(&format!("\r\n{line}\r\n")),
            "{line} in {request}"
        );
    }
    is_over(&proxy);
}

#[test]
fn a_drain_cuts_a_tunnel_at_its_end() {
    let upstream = Upstream::start(echo);
    let mut proxy = proxy_with(&upstream, |_| {});
    let mut client = proxy.connect();
    client.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut client);
    let ended = proxy.shut_down();
    client.write_all(b"still").unwrap();
    let mut still = [0; 5];
    client.read_exact(&mut still).unwrap();
    assert_eq!(&still, b"still");
    assert_eq!(ended.join().unwrap().cut, 1);
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

/// RFC 9110 section 9.3.6: any 2xx grants it, also the one that the codec goes on after.
#[test]
fn a_connect_answered_with_204_is_a_tunnel_with_what_came_early_and_two_ends() {
    for (early, ends_at_once) in [("", false), ("early", false), ("", true), ("early", true)] {
        let (seen, came) = mpsc::channel();
        let upstream = Upstream::start(move |mut stream| {
            read_head(&mut stream);
            let answer = format!("HTTP/1.1 204 No Content\r\n\r\n{early}");
            stream.write_all(answer.as_bytes()).unwrap();
            if ends_at_once {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            let mut all = String::new();
            let ended = stream.read_to_string(&mut all).map_err(|e| e.kind());
            seen.send(ended.map(|_length| all)).unwrap();
            if !ends_at_once {
                stream.write_all(b"bye").unwrap();
            }
        });
        let proxy = Proxy::http_with(&[upstream.address], |hcm, _| {
            hcm.upgrades = vec!["connect".into()];
            let mut passes = route("/", CLUSTER);
            passes.matcher.path = PathMatch::Connect;
            inline(hcm).virtual_hosts[0].routes.insert(0, passes);
        });
        let mut client = proxy.connect();
        client.write_all(ASK.as_bytes()).unwrap();
        let answer = read_head(&mut client);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let mut word = vec![0; early.len()];
        client.read_exact(&mut word).unwrap();
        assert_eq!(word, early.as_bytes());
        if ends_at_once {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        client.write_all(b"late").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let came = came.recv_timeout(DEADLINE).unwrap();
        assert_eq!(came, Ok("late".into()), "{early:?} {ends_at_once}");
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, if ends_at_once { "" } else { "bye" });
        let record = &proxy.records(1)[0];
        assert!(record.contains(" 204 - via_upstream"), "{record}");
    }
}
