//! Connections that switch protocols, through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{Cluster, HttpConnectionManager};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;
use support::{CLUSTER, Proxy, Upstream, exchange, read_head, read_message};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\
                   sec-websocket-key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                      connection: upgrade\r\nsec-websocket-accept: a\r\n\r\n";

fn websocket(upstream: &Upstream) -> Proxy {
    with(upstream, |_, _| {})
}

fn with(upstream: &Upstream, edit: impl FnOnce(&mut HttpConnectionManager, &mut Cluster)) -> Proxy {
    Proxy::http_with(&[upstream.address], |hcm, cluster| {
        hcm.upgrades = vec!["websocket".into()];
        edit(hcm, cluster);
    })
}

fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Switches, says hello at once, and sends back what comes until the end.
fn echo(mut stream: TcpStream, seen: &mpsc::Sender<String>) {
    seen.send(read_head(&mut stream)).unwrap();
    stream
        .write_all(&[SWITCH.as_bytes(), b"hello"].concat())
        .unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            stream.write_all(b"bye").unwrap();
            return;
        }
        stream.write_all(&buffer[..length]).unwrap();
    }
}

fn echoing() -> (Upstream, mpsc::Receiver<String>) {
    let (seen, requests) = mpsc::channel();
    (Upstream::start(move |stream| echo(stream, &seen)), requests)
}

#[test]
fn bytes_pass_both_ways_after_the_switch_and_each_side_ends_for_itself() {
    let (upstream, requests) = echoing();
    let proxy = websocket(&upstream);
    let mut client = proxy.connect();
    client.write_all(ASK.as_bytes()).unwrap();
    let answer = read_head(&mut client);
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: a",
        "server: envoy",
    ] {
        assert!(
            answer.contains(&format!("\r\n{line}\r\n")),
            "{line} in {answer}"
        );
    }
    let request = requests.recv().unwrap();
    for line in [
        "upgrade: WebSocket",
        "connection: upgrade",
        "sec-websocket-key: k",
    ] {
        assert!(
            request.contains(&format!("\r\n{line}\r\n")),
            "{line} in {request}"
        );
    }
    assert_eq!(exactly(&mut client, 5), b"hello");
    // Anything but HTTP, and more than a buffer of it.
    let all: Vec<u8> = (0..1_000_000_u32)
        .map(|i| u8::try_from(i % 256).unwrap())
        .collect();
    let mut writer = client.try_clone().unwrap();
    let sent = all.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(
        exactly(&mut client, all.len()) == all,
        "every byte, in order"
    );
    writing.join().unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye", "after the client has ended its side");
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains("\"GET /chat HTTP/1.1\" 101 - via_upstream"),
        "{record}"
    );
    assert!(record.contains(" 1000000 1000008 "), "{record}");
    let of_cluster = [("envoy_cluster_name", CLUSTER)];
    proxy.wait_value("envoy_cluster_upstream_cx_active", &of_cluster, 0);
    proxy.wait_value("envoy_cluster_upstream_rq_active", &of_cluster, 0);
}

#[test]
fn what_is_sent_before_the_switch_waits_for_it() {
    let (upstream, _requests) = echoing();
    let proxy = websocket(&upstream);
    let mut client = proxy.connect();
    // It looks like no HTTP at all.
    client
        .write_all(&[ASK.as_bytes(), b"\x81\x85early\r\n\0"].concat())
        .unwrap();
    read_head(&mut client);
    assert_eq!(exactly(&mut client, 15), b"hello\x81\x85early\r\n\0");
}

#[test]
fn an_upstream_that_does_not_switch_is_heard_and_http_goes_on() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let path = request.split(' ').nth(1).unwrap();
            let length = path.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let proxy = websocket(&upstream);
    let mut client = proxy.connect();
    let next = "GET /next HTTP/1.1\r\nhost: shop\r\n\r\n";
    client
        .write_all(&[ASK, next].concat().into_bytes())
        .unwrap();
    for path in ["/chat", "/next"] {
        let answer = read_message(&mut client).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(path),
            "{answer}"
        );
    }
    assert!(exchange(&mut client, next).ends_with("/next"));
    // And what is no HTTP behind it is still refused.
    client
        .write_all(&[ASK.as_bytes(), b"\x81\x85early\r\n\r\n"].concat())
        .unwrap();
    assert!(read_message(&mut client).unwrap().ends_with("/chat"));
    assert!(
        read_message(&mut client)
            .unwrap()
            .starts_with("HTTP/1.1 400")
    );
}

#[test]
fn who_must_upgrade_is_told_to_what() {
    let upstream = Upstream::start(|mut stream| {
        while read_message(&mut stream).is_some() {
            let answer = "HTTP/1.1 426 Upgrade Required\r\nupgrade: other/2\r\n\
                          connection: upgrade\r\ncontent-length: 2\r\n\r\nno";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for (last, connection) in [(false, "upgrade"), (true, "close, upgrade")] {
        let proxy = with(&upstream, |hcm, _| {
            hcm.limits.max_requests_per_connection = last.then_some(1);
        });
        let mut client = proxy.connect();
        client.write_all(ASK.as_bytes()).unwrap();
        let answer = read_message(&mut client).unwrap();
        for line in ["upgrade: other/2", &format!("connection: {connection}")] {
            let line = format!("\r\n{line}\r\n");
            assert_eq!(answer.matches(&line).count(), 1, "{line} in {answer}");
        }
        if last {
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "it said so");
            continue;
        }
        // Who did not ask is told nothing of this hop.
        client
            .write_all(b"GET /next HTTP/1.1\r\nhost: shop\r\n\r\n")
            .unwrap();
        let answer = read_message(&mut client).unwrap();
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(!answer.contains("\r\nupgrade:"), "{answer}");
    }
}

#[test]
fn only_what_is_configured_and_has_no_body_may_switch() {
    let (upstream, requests) = echoing();
    let other = ASK.replace("WebSocket", "tls/1.3");
    let body = ASK.replace("sec-websocket-key: k", "content-length: 1");
    for (ask, upgrades) in [
        (ASK, vec![]),
        (&*other, vec!["websocket".into()]),
        (&*format!("{body}x"), vec!["websocket".into()]),
    ] {
        let proxy = with(&upstream, |hcm, _| hcm.upgrades = upgrades);
        let answer = exchange(&mut proxy.connect(), ask);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(proxy.records(1)[0].contains(" 403 - upgrade_failed"));
    }
    assert!(requests.try_recv().is_err(), "nothing reached the upstream");
}

#[test]
fn a_side_that_breaks_off_breaks_off_the_other() {
    let upstream = Upstream::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH.as_bytes()).unwrap();
        exactly(&mut stream, 2);
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let proxy = websocket(&upstream);
    let mut client = proxy.connect();
    client.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut client);
    client.write_all(b"go").unwrap();
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 101 UC "), "{record}");
}

#[test]
fn a_tunnel_that_rests_too_long_ends_and_a_drain_cuts_it_at_its_end() {
    let (upstream, _requests) = echoing();
    let proxy = with(&upstream, |hcm, _| {
        hcm.stream_idle_timeout = Some(Duration::from_secs(1));
    });
    let mut client = proxy.connect();
    client.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut client);
    assert_eq!(exactly(&mut client, 5), b"hello");
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert!(proxy.records(1)[0].contains(" 101 SI stream_idle_timeout"));

    let mut proxy = websocket(&upstream);
    let mut client = proxy.connect();
    client.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut client);
    assert_eq!(exactly(&mut client, 5), b"hello");
    let ended = proxy.shut_down();
    client.write_all(b"still").unwrap();
    assert_eq!(exactly(&mut client, 5), b"still");
    assert_eq!(ended.join().unwrap().cut, 1);
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}
