//! HTTP/2 upstreams that take a connection but, for a while or for good, no stream on it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use support::http2::{
    END_HEADERS, END_STREAM, HEADERS, OF_CLUSTER, OF_MANAGER, RST_STREAM, Raw, SETTINGS, by_http2,
    frame,
};
use support::{Proxy, Upstream, exchange};

const ACK: u8 = 1;

/// The setting that limits the streams of a connection (RFC 9113 §6.5.2).
fn at_most(streams: u8) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, streams])
}

/// An upstream that takes no stream until it is told to; how many
/// connections it had.
fn barred() -> (
    Upstream,
    mpsc::Sender<()>,
    mpsc::Receiver<()>,
    Arc<AtomicUsize>,
) {
    let (open, opened) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let opened = Arc::new(Mutex::new(opened));
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let upstream = Upstream::start(move |mut stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        let mut raw = Raw { stream };
        raw.send(&at_most(0));
        raw.await_frame(SETTINGS, 0);
        raw.send(&frame(SETTINGS, ACK, 0, &[]));
        // What comes before the limit is known is refused.
        let mut acknowledged = false;
        while !acknowledged {
            let next = raw.read().unwrap();
            acknowledged = next.kind == SETTINGS && next.flags == ACK;
            if next.kind == HEADERS {
                raw.send(&frame(RST_STREAM, 0, next.stream, &[0, 0, 0, 7]));
            }
        }
        tell.send(()).unwrap();
        if opened.lock().unwrap().recv().is_err() {
            return;
        }
        raw.send(&at_most(100));
        while let Some(request) = raw.read() {
            if request.kind == HEADERS {
                // `:status: 200` of the static table (RFC 7541 appendix A).
                let flags = END_HEADERS | END_STREAM;
                raw.send(&frame(HEADERS, flags, request.stream, &[0x88]));
            }
        }
    });
    (upstream, open, told, count)
}

fn ask_in_threads(proxy: &Proxy, count: usize) -> Vec<thread::JoinHandle<String>> {
    let ask = |mut stream: TcpStream| {
        thread::spawn(move || exchange(&mut stream, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n"))
    };
    (0..count).map(|_| ask(proxy.connect())).collect()
}

#[test]
fn requests_wait_for_an_upstream_that_takes_no_stream_yet_and_no_connection_more_is_made() {
    let (upstream, open, told, count) = barred();
    let proxy = by_http2(&[upstream.address]);
    let first = ask_in_threads(&proxy, 1);
    told.recv().unwrap();
    let others = ask_in_threads(&proxy, 9);
    proxy.wait_value("envoy_http_downstream_rq_active", &OF_MANAGER, 10);
    open.send(()).unwrap();
    for answer in first.into_iter().chain(others) {
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn an_upstream_that_ends_each_connection_at_once_is_asked_once_for_a_request() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let upstream = Upstream::start(move |stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        drop(stream);
    });
    let proxy = by_http2(&[upstream.address]);
    for n in 1..=20 {
        let answer = exchange(
            &mut proxy.connect(),
            "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1\r\n\r\na",
        );
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(count.load(Ordering::SeqCst), n);
    }
    proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
}
