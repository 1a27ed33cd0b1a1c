//! Connections of HTTP/2 whose filter chain a new configuration has changed or removed: their
//! clients are told to go, and what is in hand ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{HttpConnectionManager, Listener, NetworkFilter, Resources};
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;
use support::http2::{DATA, GOAWAY, OF_CLUSTER, RST_STREAM, Raw, request};
use support::{CLUSTER, DRAIN_TIME, Log, Proxy, Upstream, exchange, read_message};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A proxy with two chains; the first asks an upstream that answers in its turn, the second one
/// that does so at once.
struct Stage {
    proxy: Proxy,
    all: Resources,
    /// Lets the upstream of the first chain answer.
    turn: mpsc::Sender<()>,
}

impl Stage {
    fn new() -> Self {
        let (turn, turns) = mpsc::channel::<()>();
        let turns = Arc::new(Mutex::new(turns));
        let held = Upstream::start(move |mut stream| {
            while read_message(&mut stream).is_some() {
                if turns.lock().unwrap().recv().is_err() {
                    return;
                }
                let _gone = stream.write_all(OK.as_bytes());
            }
        });
        let (quick, requests) = Upstream::http(OK);
        let log = Log::new();
        let to = |cluster| {
            let routes = vec![support::route("/", cluster)];
            NetworkFilter::Http(support::hcm(routes, log.config()))
        };
        let listener = support::two_chains(to(CLUSTER), to("quick"));
        let clusters = vec![
            support::cluster(CLUSTER, &[held.address]),
            support::cluster("quick", &[quick.address]),
        ];
        let all = support::resources(vec![listener], clusters);
        let proxy = Proxy::serve(log, all.clone());
        // Its requests are of no interest.
        std::mem::forget(requests);
        Self { proxy, all, turn }
    }

    fn at(&self, last: u8) -> Raw {
        let address = (Ipv4Addr::new(127, 0, 0, last), self.proxy.address.port());
        Raw::connect(address.into(), &[])
    }

    /// The first chain with a stream that waits for its answer, and the second with one that has
    /// had it.
    fn busy(&self) -> (Raw, Raw) {
        let (mut first, mut second) = (self.at(1), self.at(2));
        first.send(&request(1));
        self.proxy
            .wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 1);
        second.send(&request(1));
        assert_eq!(second.await_frame(DATA, 1).payload, b"hi");
        (first, second)
    }

    fn change_the_first(&mut self, edit: impl FnOnce(&mut HttpConnectionManager)) {
        let mut listener = Listener::clone(&self.all.listeners[0]);
        if let NetworkFilter::Http(hcm) = &mut listener.filter_chains[0].filter {
            edit(hcm);
        }
        self.all.listeners = vec![Arc::new(listener)];
        self.proxy.control.apply(&self.all).unwrap();
    }
}

#[test]
fn only_clients_of_a_changed_chain_are_told_and_what_is_in_hand_is_answered() {
    let mut stage = Stage::new();
    let (mut first, mut second) = stage.busy();
    stage.change_the_first(|hcm| hcm.server_name = "another".into());

    let told = first.await_frame(GOAWAY, 0);
    assert_eq!(told.payload[4..], [0; 4], "NO_ERROR");
    stage.turn.send(()).unwrap();
    assert_eq!(first.await_frame(DATA, 1).payload, b"hi");
    // And the connection ends, in order.
    assert!(first.goodbye().is_none_or(|code| code == 0));

    // The other has heard nothing of it.
    second.send(&request(3));
    loop {
        let frame = second.read().unwrap();
        assert!(
            frame.kind != GOAWAY && frame.kind != RST_STREAM,
            "{frame:?}"
        );
        if (frame.kind, frame.stream) == (DATA, 3) {
            break;
        }
    }
    // Who comes now is served by the new chain.
    stage.turn.send(()).unwrap();
    let address = (Ipv4Addr::new(127, 0, 0, 1), stage.proxy.address.port());
    let mut new = support::connect(address.into());
    let answer = exchange(&mut new, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert!(answer.contains("\r\nserver: another\r\n"), "{answer}");
}

#[test]
fn a_stream_that_outlives_the_drain_time_is_cut_and_recorded() {
    let mut stage = Stage::new();
    let (mut first, mut second) = stage.busy();
    let begun = Instant::now();
    stage.all.listeners.clear();
    stage.proxy.control.apply(&stage.all).unwrap();
    for raw in [&mut first, &mut second] {
        let told = raw.await_frame(GOAWAY, 0);
        assert_eq!(told.payload[4..], [0; 4], "NO_ERROR");
    }
    // It has nothing in hand, and need not wait.
    second.goodbye();
    first.goodbye();
    // That it is cut at all is seen by who waits for it, within his deadline.
    let took = begun.elapsed();
    assert!(took >= DRAIN_TIME, "cut after {took:?}");
    let records = stage.proxy.records(2);
    let cut = records.iter().filter(|r| r.contains("\"GET / HTTP/2\" 0 "));
    assert_eq!(cut.count(), 1, "{records:?}");
}
