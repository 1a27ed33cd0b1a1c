//! Changes of the configuration of a proxy at work, with peers on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::cluster::breaker::Resource;
use shunt_proxy::control::ApplyError;
use shunt_proxy::ids::ClusterId;
use shunt_proxy::model::{
    AccessLog, Cluster, HttpConnectionManager, Listener, NetworkFilter, Resources,
    RouteConfiguration, RouteSource, TcpCluster, TcpProxy,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::{CLUSTER, DEADLINE, LISTENER, Log, Proxy, Upstream, exchange, resources};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// An upstream that answers each request with its name and the number of its connection.
fn named(name: &'static str) -> Upstream {
    let connections = Arc::new(Mutex::new(0));
    Upstream::start(move |mut stream| {
        let number = {
            let mut connections = connections.lock().unwrap();
            *connections += 1;
            *connections
        };
        while support::read_message(&mut stream).is_some() {
            let body = format!("{name} {number}");
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// An upstream that sends its name first, then echoes.
fn echo(name: &'static str) -> Upstream {
    Upstream::start(move |mut stream| {
        let mut buffer = [0; 64];
        let mut sent = stream.write_all(name.as_bytes());
        while sent.is_ok() {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => sent = stream.write_all(&buffer[..read]),
                _ => return,
            }
        }
    })
}

fn tcp(cluster: &str, log: &Log) -> NetworkFilter {
    NetworkFilter::Tcp(TcpProxy {
        stat_prefix: "tcp".into(),
        cluster: TcpCluster::Cluster(cluster.into()),
        idle_timeout: None,
        max_duration: None,
        max_connect_attempts: 1,
        hash_source: false,
        access_log: vec![log.config()],
    })
}

/// A manager with the routes of this name.
fn by_name(name: &str, log: AccessLog) -> HttpConnectionManager {
    let mut hcm = support::hcm(vec![], log);
    hcm.route_config = RouteSource::Named(name.into());
    hcm
}

/// Routes of this name that send everything to a cluster.
fn routes(name: &str, cluster: &str, log: AccessLog) -> Arc<RouteConfiguration> {
    let mut hcm = support::hcm(vec![support::route("/", cluster)], log);
    let mut config = support::inline(&mut hcm).clone();
    config.name = name.into();
    Arc::new(config)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn named_cluster(upstreams: &[&Upstream]) -> Cluster {
    let addresses: Vec<_> = upstreams.iter().map(|u| u.address).collect();
    support::cluster(CLUSTER, &addresses)
}

/// A proxy with routes by name to one cluster.
fn routed(upstreams: &[&Upstream]) -> (Proxy, Resources, AccessLog) {
    let log = Log::new();
    let record = log.config();
    let listener = support::listener(NetworkFilter::Http(by_name("r", record.clone())));
    let mut all = resources(vec![listener], vec![named_cluster(upstreams)]);
    all.routes.push(routes("r", CLUSTER, record.clone()));
    (Proxy::serve(log, all.clone()), all, record)
}

#[test]
fn a_new_route_table_and_a_new_endpoint_serve_the_next_request_of_an_open_connection() {
    let (one, two) = (named("one"), named("two"));
    let (mut proxy, mut all, record) = routed(&[&one]);
    let mut stream = proxy.connect();
    assert_eq!(body(&exchange(&mut stream, GET)), "one 1");

    // EDS: other endpoints.
    all.clusters = vec![Arc::new(named_cluster(&[&two]))];
    proxy.control.apply(&all).unwrap();
    assert_eq!(body(&exchange(&mut stream, GET)), "two 1");

    // RDS: another cluster, which comes with the routes.
    all.clusters
        .push(Arc::new(support::cluster("other", &[one.address])));
    all.routes = vec![routes("r", "other", record)];
    proxy.control.apply(&all).unwrap();
    let answer = exchange(&mut stream, GET);
    assert!(body(&answer).starts_with("one "), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
}

#[test]
fn an_endpoint_that_stays_keeps_its_connections_and_one_that_goes_loses_the_idle_ones() {
    let (one, two) = (named("one"), named("two"));
    let (mut proxy, mut all, _) = routed(&[&one, &two]);
    let mut stream = proxy.connect();
    for _ in 0..2 {
        exchange(&mut stream, GET);
    }
    let labels = [("envoy_cluster_name", CLUSTER)];
    proxy.wait_value("envoy_cluster_upstream_cx_active", &labels, 2);

    all.clusters = vec![Arc::new(named_cluster(&[&two]))];
    proxy.control.apply(&all).unwrap();
    // Nobody asks for the cluster meanwhile.
    proxy.wait_value("envoy_cluster_upstream_cx_active", &labels, 1);
    assert_eq!(body(&exchange(&mut stream, GET)), "two 1", "kept");

    // Something else of the cluster changes: all its connections are made anew.
    let mut cluster = named_cluster(&[&two]);
    cluster.connect_timeout = Duration::from_secs(7);
    all.clusters = vec![Arc::new(cluster)];
    proxy.control.apply(&all).unwrap();
    assert_eq!(body(&exchange(&mut stream, GET)), "two 2", "made anew");
    proxy.wait_value("envoy_cluster_upstream_cx_active", &labels, 1);
}

#[test]
fn what_is_in_flight_stays_counted_when_a_cluster_changes() {
    let upstream = echo("hello");
    let log = Log::new();
    let listener = support::listener(tcp(CLUSTER, &log));
    let mut all = resources(vec![listener], vec![named_cluster(&[&upstream])]);
    let mut proxy = Proxy::serve(log, all.clone());
    let mut stream = proxy.connect();
    stream.read_exact(&mut [0; 5]).unwrap();

    let mut cluster = named_cluster(&[&upstream]);
    cluster.connect_timeout = Duration::from_secs(7);
    all.clusters = vec![Arc::new(cluster)];
    proxy.control.apply(&all).unwrap();
    let mut view = shunt_proxy::store::View::<shunt_proxy::snapshot::Cluster>::default();
    let current = view.cluster(&proxy.process.store, ClusterId(0)).unwrap();
    assert_eq!(current.connect_timeout, Duration::from_secs(7));
    assert_eq!(current.breaker.used(Resource::Connection), 1);
}

#[test]
fn a_removed_cluster_answers_503_nc_and_its_idle_connections_are_closed() {
    let one = named("one");
    let (mut proxy, mut all, _) = routed(&[&one]);
    let mut stream = proxy.connect();
    exchange(&mut stream, GET);
    let before = std::mem::take(&mut all.clusters);
    proxy.control.apply(&all).unwrap();
    let answer = exchange(&mut stream, GET);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let records = proxy.records(2);
    assert!(records[1].contains(" 503 NC "), "{records:?}");
    let labels = [("envoy_cluster_name", CLUSTER)];
    proxy.wait_value("envoy_cluster_upstream_cx_active", &labels, 0);

    all.clusters = before;
    proxy.control.apply(&all).unwrap();
    assert_eq!(body(&exchange(&mut stream, GET)), "one 2");
}

/// A listener with a chain for each of these loopback destinations, as ports are all the same.
fn at(proxy: &Proxy, last: u8) -> TcpStream {
    support::connect((Ipv4Addr::new(127, 0, 0, last), proxy.address.port()).into())
}

#[test]
fn a_changed_chain_drains_only_its_own_connections() {
    let (one, two) = (echo("one"), echo("two"));
    let log = Log::new();
    let listener = support::two_chains(tcp("one", &log), tcp("two", &log));
    let clusters = vec![
        support::cluster("one", &[one.address]),
        support::cluster("two", &[two.address]),
    ];
    let mut all = resources(vec![listener.clone()], clusters);
    let changed = Listener {
        filter_chains: {
            let mut chains = listener.filter_chains.clone();
            // The first goes elsewhere; the second moves to the front and is otherwise the same.
            chains[0].filter = tcp("two", &log);
            chains.reverse();
            chains
        },
        ..listener
    };
    let mut proxy = Proxy::serve(log, all.clone());
    let (mut first, mut second) = (at(&proxy, 1), at(&proxy, 2));
    let mut name = [0; 3];
    first.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"one");
    second.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"two");

    all.listeners = vec![Arc::new(changed)];
    let begun = Instant::now();
    proxy.control.apply(&all).unwrap();
    // At once: new connections see the new chain, old ones go on.
    at(&proxy, 1).read_exact(&mut name).unwrap();
    assert_eq!(&name, b"two");
    first.write_all(b"ping").unwrap();
    first.read_exact(&mut [0; 4]).unwrap();
    // In the end: the connection of the changed chain is cut, the other is not.
    let ended = first.read(&mut name).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(
        begun.elapsed() >= support::DRAIN_TIME,
        "{:?}",
        begun.elapsed()
    );
    second.write_all(b"ping").unwrap();
    second.read_exact(&mut [0; 4]).unwrap();
    let records = proxy.records(2);
    let cut = records.iter().filter(|r| r.contains("drain_time_over"));
    assert_eq!(cut.count(), 1, "{records:?}");
}

#[test]
fn a_change_of_the_listener_itself_drains_all_its_connections_and_keeps_its_socket() {
    let one = named("one");
    let log = Log::new();
    let record = log.config();
    let hcm = support::hcm(vec![support::route("/", CLUSTER)], record);
    let listener = support::listener(NetworkFilter::Http(hcm));
    let mut all = resources(vec![listener.clone()], vec![named_cluster(&[&one])]);
    let mut proxy = Proxy::serve(log, all.clone());
    let mut stream = proxy.connect();
    assert!(!exchange(&mut stream, GET).contains("connection: close"));

    all.listeners = vec![Arc::new(Listener {
        listener_filters_timeout: Some(Duration::from_secs(9)),
        ..listener
    })];
    proxy.control.apply(&all).unwrap();
    let answer = exchange(&mut stream, GET);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert!(!exchange(&mut proxy.connect(), GET).contains("connection: close"));
}

#[test]
fn an_idle_connection_of_a_removed_listener_ends_with_the_drain_time() {
    let one = named("one");
    let (mut proxy, mut all, _) = routed(&[&one]);
    let mut stream = proxy.connect();
    exchange(&mut stream, GET);
    all.listeners.clear();
    let begun = Instant::now();
    proxy.control.apply(&all).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert!(
        begun.elapsed() >= support::DRAIN_TIME,
        "{:?}",
        begun.elapsed()
    );
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(proxy.address).is_ok() {
        assert!(Instant::now() < deadline, "its socket is still there");
    }
}

/// A port that is free, at an address that is nobody else's: other tests of this process have their
/// ports, and those of their clients, at others.
fn free_port() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let last = u8::try_from(NEXT.fetch_add(1, SeqCst)).unwrap();
    let socket = TcpListener::bind((Ipv4Addr::new(127, 0, 77, last), 0)).unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn connections_that_wait_are_served_by_the_listener_that_takes_the_address_over() {
    let one = named("one");
    let (mut proxy, mut all, record) = routed(&[&one]);
    let address = free_port();
    let other = |name: &str| {
        let mut listener = support::listener(NetworkFilter::Http(by_name("r", record.clone())));
        listener.name = name.into();
        listener.address = address;
        Arc::new(listener)
    };
    all.listeners.push(other("first"));
    proxy.control.apply(&all).unwrap();
    // Each change removes one listener and adds another at its address.
    let (stop, stopped) = mpsc::channel::<()>();
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    let client = thread::spawn(move || connect_until(address, &stopped, &counted));
    let mut changes = 0;
    // However slow its thread, there is a client meanwhile.
    while changes < 200 || (served.load(SeqCst) < 50 && !client.is_finished()) {
        all.listeners.pop();
        all.listeners.push(other(&format!("take-{changes}")));
        proxy.control.apply(&all).unwrap();
        changes += 1;
    }
    drop(stop);
    client.join().unwrap();
    let value = |name| proxy.registry.value(name, &[]);
    let (removed, added) = (Some(changes), Some(changes + 2));
    assert_eq!(value("envoy_listener_manager_listener_removed"), removed);
    assert_eq!(value("envoy_listener_manager_listener_added"), added);
}

/// One request on each of many connections; all must be answered.
fn connect_until(address: SocketAddr, stopped: &Receiver<()>, served: &AtomicUsize) {
    while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
        let answer = exchange(&mut support::connect(address), GET);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        served.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_listener_serves_its_additional_addresses_and_gives_them_up() {
    let one = named("one");
    let (mut proxy, mut all, record) = routed(&[&one]);
    let more = [free_port(), free_port()];
    let mut listener = Listener::clone(&all.listeners[0]);
    listener.additional_addresses = more.to_vec();
    all.listeners[0] = Arc::new(listener.clone());
    proxy.control.apply(&all).unwrap();
    for address in more.into_iter().chain([proxy.address]) {
        assert_eq!(
            body(&exchange(&mut support::connect(address), GET))[..3],
            *"one"
        );
    }
    // What stands at an address cannot be taken, and nothing else changes then.
    let mut rival = support::listener(NetworkFilter::Http(by_name("r", record)));
    rival.name = "rival".into();
    rival.address = more[1];
    let mut wrong = all.clone();
    wrong.listeners.push(Arc::new(rival));
    wrong.clusters.clear();
    let error = proxy.control.apply(&wrong).unwrap_err();
    assert!(matches!(error, ApplyError::Config(_)), "{error}");
    assert!(error.to_string().contains("`rival`"), "{error}");
    assert_eq!(
        body(&exchange(&mut support::connect(more[1]), GET))[..3],
        *"one"
    );

    listener.additional_addresses.truncate(1);
    all.listeners[0] = Arc::new(listener);
    proxy.control.apply(&all).unwrap();
    exchange(&mut support::connect(more[0]), GET);
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(more[1]).is_ok() {
        assert!(Instant::now() < deadline, "its socket is still there");
    }
}

#[test]
fn a_taken_address_is_refused_and_the_configuration_stays() {
    let one = named("one");
    let (mut proxy, all, record) = routed(&[&one]);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut second = support::listener(NetworkFilter::Http(by_name("r", record)));
    second.name = "second".into();
    second.address = taken.local_addr().unwrap();
    let mut wrong = all.clone();
    wrong.clusters.clear();
    wrong.listeners.push(Arc::new(second));
    let error = proxy.control.apply(&wrong).unwrap_err();
    assert!(matches!(error, ApplyError::Bind(_)), "{error}");
    assert!(error.to_string().contains("`second`"), "{error}");
    let answer = exchange(&mut proxy.connect(), GET);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn an_equal_configuration_changes_nothing() {
    let one = named("one");
    let (mut proxy, all, record) = routed(&[&one]);
    let before = proxy.process.store.listeners();
    let mut equal = all.clone();
    equal.listeners = vec![Arc::new(Listener::clone(&all.listeners[0]))];
    equal.clusters = vec![Arc::new(Cluster::clone(&all.clusters[0]))];
    equal.routes = vec![routes("r", CLUSTER, record)];
    proxy.control.apply(&equal).unwrap();
    let now = proxy.process.store.listeners();
    assert!(Arc::ptr_eq(&before.all[0], &now.all[0]));
    let value = |name| proxy.registry.value(name, &[]).unwrap_or(0);
    assert_eq!(value("envoy_cluster_manager_cluster_modified"), 0);
    assert_eq!(value("envoy_listener_manager_listener_modified"), 0);
    assert_eq!(proxy.control.local_addr(LISTENER), Some(proxy.address));
}

#[test]
fn requests_across_changes_of_a_cluster_all_succeed() {
    let (one, two) = (named("one"), named("two"));
    let (mut proxy, mut all, _) = routed(&[&one]);
    let (answered, answers) = mpsc::channel();
    let mut stream = proxy.connect();
    let client = thread::spawn(move || {
        loop {
            let answer = exchange(&mut stream, GET);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            if answered.send(()).is_err() {
                return;
            }
        }
    });
    for n in 0..300_u64 {
        let mut cluster = match n % 3 {
            0 => named_cluster(&[&one, &two]),
            1 => named_cluster(&[&two]),
            _ => named_cluster(&[&one]),
        };
        if n % 5 == 0 {
            cluster.connect_timeout = Duration::from_millis(5000 + n);
        }
        all.clusters = vec![Arc::new(cluster)];
        proxy.control.apply(&all).unwrap();
        // Between two changes there is always an answer.
        answers.recv().unwrap();
    }
    drop(answers);
    client.join().unwrap();
    let mut last = proxy.connect();
    assert!(body(&exchange(&mut last, GET)).starts_with("one "));
}
