//! TCP through a proxy in this process, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Proxy, Upstream};

/// Bytes that repeat nowhere near.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn write_in_random_chunks(stream: &mut TcpStream, bytes: &[u8], seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rng.usize(1..=70_000).min(rest.len());
        stream.write_all(&rest[..n]).unwrap();
        rest = &rest[n..];
    }
}

#[test]
fn ten_megabytes_each_way_arrive_as_they_were_sent_with_half_close_by_the_client() {
    let (seen, upstream_saw) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            write_in_random_chunks(&mut writer, &pattern(10_000_000, 2), 20);
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        sending.join().unwrap();
        seen.send(got).unwrap();
        // Only now, after the client's end of stream.
        stream.write_all(b"last").unwrap();
    });
    let proxy = Proxy::tcp(upstream.address);
    let mut client = proxy.connect();
    let mut writer = client.try_clone().unwrap();
    let sending = thread::spawn(move || {
        write_in_random_chunks(&mut writer, &pattern(10_000_000, 1), 10);
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    sending.join().unwrap();
    assert!(got.ends_with(b"last"));
    assert!(got[..got.len() - 4] == pattern(10_000_000, 2));
    assert!(upstream_saw.recv().unwrap() == pattern(10_000_000, 1));
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" \"-\" 10000000 10000004 "), "{record}");
}

#[test]
fn half_close_by_the_upstream_leaves_the_other_direction_open() {
    let (seen, upstream_saw) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        stream.write_all(b"greeting").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        seen.send(got).unwrap();
    });
    let proxy = Proxy::tcp(upstream.address);
    let mut client = proxy.connect();
    let mut got = Vec::new();
    // The server speaks first, and ends first.
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"greeting");
    client.write_all(b"still here").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream_saw.recv().unwrap(), b"still here");
}

#[test]
fn more_readers_that_stall_than_there_are_pipes_all_get_every_byte() {
    // Longer than all socket buffers on its way: it fills what the proxy holds of it.
    fn long(seed: u8) -> Vec<u8> {
        pattern(65_521, u64::from(seed)).repeat(61)
    }
    let upstream = Upstream::start(|mut stream| {
        let mut seed = [0];
        stream.read_exact(&mut seed).unwrap();
        stream.write_all(&long(seed[0])).unwrap();
    });
    let proxy = Proxy::tcp(upstream.address);
    let open = |seed| {
        let mut client = proxy.connect();
        client.write_all(&[seed]).unwrap();
        (seed, client)
    };
    let clients: Vec<_> = (0..70).map(open).collect();
    for (seed, mut client) in clients {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got == long(seed), "stream {seed}: {} bytes", got.len());
    }
}

#[test]
fn a_reset_by_the_upstream_is_a_reset_for_the_client_and_never_an_end_of_stream() {
    let upstream = Upstream::start(|mut stream| {
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"part").unwrap();
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = Proxy::tcp(upstream.address);
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    let error = loop {
        match client.read(&mut [0; 16]) {
            Ok(0) => panic!("an end of stream hides that bytes may be missing"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(
        proxy.records(1)[0].contains(" UC "),
        "{:?}",
        proxy.records(1)
    );
}

#[test]
fn nobody_listening_resets_the_client_with_flags_uf_and_urx() {
    let nobody = support::nobody();
    let proxy = Proxy::tcp(nobody);
    let error = proxy.connect().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" 0 UF,URX ") && record.contains("Connection refused"),
        "{record}"
    );
}

#[test]
fn as_many_endpoints_are_tried_as_attempts_are_allowed() {
    let upstream = Upstream::start(|mut stream| stream.write_all(b"here").unwrap());
    let gone = support::nobody();
    let proxy = Proxy::tcp_with(&[gone, upstream.address], |tcp| {
        tcp.max_connect_attempts = 2;
    });
    for _ in 0..3 {
        let mut got = Vec::new();
        proxy.connect().read_to_end(&mut got).unwrap();
        assert_eq!(got, b"here");
    }
    // As in Envoy the record tells of the attempt that failed, also where another did not.
    let tried = |record: &String| record.contains(" UF ");
    assert!(proxy.records(3).iter().any(tried), "{:?}", proxy.records(3));
    let fails = proxy.registry.value(
        "envoy_cluster_upstream_cx_connect_fail",
        &[("envoy_cluster_name", support::CLUSTER)],
    );
    assert!(fails.is_some_and(|fails| fails >= 1), "{fails:?}");
}

#[test]
fn a_connection_ends_in_a_reset_when_its_time_is_over_though_it_moves() {
    const LIFE: Duration = Duration::from_millis(2500);
    let upstream = Upstream::start(|mut stream| {
        while stream.write_all(b"tick").is_ok() {
            // Its pace is what this is about: it never rests for as long as it may.
            thread::sleep(Duration::from_millis(5));
        }
    });
    let proxy = Proxy::tcp_with(&[upstream.address], |tcp| {
        tcp.max_duration = Some(LIFE);
        tcp.idle_timeout = Some(LIFE - Duration::from_millis(500));
    });
    let begun = Instant::now();
    let error = proxy.connect().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= LIFE, "too early");
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" DT "), "{record}");
}

#[test]
fn two_listeners_that_would_take_each_others_connections_are_refused() {
    use shunt_proxy::model::{NetworkFilter, TcpCluster, TcpProxy};
    let listener = |name: &str, address: &str| {
        let filter = NetworkFilter::Tcp(TcpProxy {
            stat_prefix: "tcp".into(),
            cluster: TcpCluster::Cluster(support::CLUSTER.into()),
            idle_timeout: None,
            max_duration: None,
            max_connect_attempts: 1,
            hash_source: false,
            access_log: vec![],
        });
        let mut listener = support::listener(filter);
        listener.name = name.into();
        listener.address = address.parse().unwrap();
        listener
    };
    let bind = |addresses: [&str; 2]| {
        let listeners = vec![listener("one", addresses[0]), listener("two", addresses[1])];
        let clusters = vec![support::cluster(support::CLUSTER, &[])];
        support::bind(support::resources(listeners, clusters)).map(drop)
    };
    let error = bind(["0.0.0.0:15001", "127.0.0.1:15001"]).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("`one`") && cause.contains("`two`"),
        "{cause}"
    );
    bind(["127.0.0.1:0", "127.0.0.2:0"]).unwrap();
}
