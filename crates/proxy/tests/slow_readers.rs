//! Clients of HTTP/1 that take what they asked for slowly, or not at all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::http2::OF_CLUSTER;
use support::{DEADLINE, Proxy, Upstream, read_head, read_message};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
/// More than all sockets and buffers on the way hold.
const ALL: usize = 32 * 1024 * 1024;

/// Answers with much, and tells how much of it was taken.
fn generous() -> (Upstream, mpsc::Receiver<usize>) {
    let (taken, seen) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        read_message(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut sent = 0;
        while sent < ALL {
            let part = (ALL - sent).min(65_536);
            match stream.write(&vec![7; part]) {
                Ok(length) => sent += length,
                Err(_gone) => break,
            }
        }
        taken.send(sent).unwrap();
        let _end = stream.read(&mut [0]);
    });
    (upstream, seen)
}

/// A client whose socket holds little.
fn client(proxy: &Proxy) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn idling(upstream: &Upstream, timeout: u64) -> Proxy {
    Proxy::http_with(&[upstream.address], |hcm, _| {
        hcm.stream_idle_timeout = Some(Duration::from_millis(timeout));
    })
}

#[test]
fn a_client_that_stops_reading_is_cut_after_the_idle_timeout() {
    let (upstream, taken) = generous();
    let proxy = idling(&upstream, 300);
    let mut client = client(&proxy);
    client.write_all(GET).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    // The upstream hears of it, and so does the record.
    assert!(taken.recv_timeout(DEADLINE).unwrap() < ALL);
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 SI stream_idle_timeout"), "{record}");
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
    proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
    // And so does the client, which could take a part for the whole else.
    let mut buffer = vec![0; 65_536];
    let end = loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("an end in order"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it() {
    const TIMEOUT: u64 = 800;
    let (upstream, taken) = generous();
    let proxy = idling(&upstream, TIMEOUT);
    let mut client = client(&proxy);
    client.write_all(GET).unwrap();
    read_head(&mut client);
    let begun = Instant::now();
    let mut buffer = vec![0; ALL / 32];
    for _ in 0..32 {
        client.read_exact(&mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 7));
        // Its pace is what this is about: all of it takes twice the timeout.
        std::thread::sleep(Duration::from_millis(TIMEOUT / 16));
    }
    assert!(begun.elapsed() > Duration::from_millis(TIMEOUT));
    assert_eq!(taken.recv_timeout(DEADLINE).unwrap(), ALL);
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 - via_upstream"), "{record}");
}
