//! Which endpoint gets what, through a proxy in this process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_proxy::model::{
    Choices, Cluster, ClusterKind, ConsistentHashing, HashCookie, HashFunction, HashOf, HashPolicy,
    HeaderMatch, LbPolicy, LeastRequest, Maglev, NetworkFilter, Resources, RingHash, RouteAction,
    TcpCluster, TcpProxy,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::{
    CLUSTER, Log, Proxy, Upstream, cluster, exchange, hcm, inline, listener, read_head,
    read_message, resources,
};

const ANSWERS: [&str; 5] = ["0", "1", "2", "3", "4"];

/// Upstreams that answer each request with their number.
fn upstreams(count: usize) -> Vec<Upstream> {
    ANSWERS[..count]
        .iter()
        .map(|number| {
            Upstream::start(move |mut stream| {
                while read_message(&mut stream).is_some() {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            })
        })
        .collect()
}

fn addresses(upstreams: &[Upstream]) -> Vec<SocketAddr> {
    upstreams.iter().map(|upstream| upstream.address).collect()
}

fn balanced(upstreams: &[SocketAddr], policy: LbPolicy) -> Cluster {
    Cluster {
        lb_policy: policy,
        ..cluster(CLUSTER, upstreams)
    }
}

fn ring() -> LbPolicy {
    let ring = RingHash::new(None, None, HashFunction::Xx).unwrap();
    LbPolicy::RingHash(ring, ConsistentHashing::default())
}

/// The configuration of an HTTP proxy whose only route has these hash policies.
fn by_hash(log: &Log, of: Vec<HashOf>, cluster: Cluster) -> Resources {
    let mut hcm = hcm(vec![support::route("/", CLUSTER)], log.config());
    let route = &mut inline(&mut hcm).virtual_hosts[0].routes[0];
    let RouteAction::Forward(forward) = &mut route.action else {
        panic!("it forwards");
    };
    let policy = |of| HashPolicy {
        of,
        terminal: false,
    };
    forward.hash_policy = of.into_iter().map(policy).collect();
    resources(vec![listener(NetworkFilter::Http(hcm))], vec![cluster])
}

fn user() -> HashOf {
    HashOf::Header {
        name: HeaderMatch::Name("x-user".parse().unwrap()),
        rewrite: None,
    }
}

fn answer_to(client: &mut TcpStream, headers: &str) -> String {
    let answer = exchange(
        client,
        &format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n"),
    );
    answer[answer.len() - 1..].to_owned()
}

/// How often each upstream answers.
fn counts(client: &mut TcpStream, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(answer_to(client, "")).or_default() += 1;
    }
    counts
}

fn places(client: &mut TcpStream, users: usize) -> Vec<String> {
    (0..users)
        .map(|user| answer_to(client, &format!("x-user: {user}\r\n")))
        .collect()
}

#[test]
fn a_tcp_client_is_sent_by_its_address_to_one_endpoint_again_and_again() {
    let upstreams = upstreams(3);
    let maglev = Maglev::new(None).unwrap();
    let log = Log::new();
    let policy = LbPolicy::Maglev(maglev, ConsistentHashing::default());
    let filter = NetworkFilter::Tcp(TcpProxy {
        stat_prefix: "tcp".into(),
        cluster: TcpCluster::Cluster(CLUSTER.into()),
        idle_timeout: None,
        max_duration: None,
        max_connect_attempts: 1,
        hash_source: true,
        access_log: vec![log.config()],
    });
    let cluster = balanced(&addresses(&upstreams), policy);
    let proxy = Proxy::start(log, filter, vec![cluster]);
    let from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0));
        socket.bind(&source.into()).unwrap();
        socket.connect(&proxy.address.into()).unwrap();
        socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
        answer_to(&mut TcpStream::from(socket), "")
    };
    let first: Vec<String> = (1..40).map(from).collect();
    let again: Vec<String> = (1..40).map(from).collect();
    assert_eq!(first, again);
    for number in &ANSWERS[..3] {
        assert!(first.iter().any(|f| f == number), "{first:?}");
    }
}

#[test]
fn only_what_went_to_an_endpoint_moves_when_it_leaves_and_comes_back_with_it() {
    let upstreams = upstreams(5);
    let all = addresses(&upstreams);
    let log = Log::new();
    let before = by_hash(&log, vec![user()], balanced(&all, ring()));
    let without = by_hash(&log, vec![user()], balanced(&all[..4], ring()));
    let mut proxy = Proxy::serve(log, before.clone());
    let mut client = proxy.connect();
    let first = places(&mut client, 400);
    let seen = |places: &[String], number| places.iter().filter(|p| *p == number).count();
    for number in ANSWERS {
        assert!(seen(&first, number) > 20, "{first:?}");
    }
    proxy.control.apply(&without).unwrap();
    let second = places(&mut client, 400);
    assert_eq!(seen(&second, "4"), 0);
    let moved = first.iter().zip(&second);
    let moved = moved.filter(|(f, s)| f != s && *f != "4").count();
    // The others have more places now, and get some of each other's.
    assert!(moved < 100, "{moved}");
    proxy.control.apply(&before).unwrap();
    assert_eq!(places(&mut client, 400), first);
}

#[test]
fn a_cookie_is_set_by_the_answer_of_the_endpoint_that_it_leads_to() {
    let upstreams = upstreams(5);
    let cookie = HashOf::Cookie(HashCookie {
        name: "session".to_owned(),
        ttl: Some(Duration::from_secs(60)),
        path: "/".to_owned(),
        attributes: vec![("SameSite".to_owned(), "Lax".to_owned())],
    });
    let log = Log::new();
    let cluster = balanced(&addresses(&upstreams), ring());
    let proxy = Proxy::serve(Log::new(), by_hash(&log, vec![cookie], cluster));
    for _ in 0..10 {
        let mut client = proxy.connect();
        let answer = exchange(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let (_, cookie) = answer.split_once("set-cookie: session=\"").unwrap();
        let (value, attributes) = cookie.split_once('"').unwrap();
        assert_eq!(value.len(), 16, "{answer}");
        let wanted = "; Max-Age=60; Path=/; SameSite=Lax; HttpOnly\r\n";
        assert!(attributes.starts_with(wanted), "{answer}");
        // On another connection, whose own cookie would be another.
        let with = format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: a=b; session={value}\r\n\r\n");
        let again = exchange(&mut proxy.connect(), &with);
        assert_eq!(again.chars().last(), answer.chars().last());
        assert!(!again.contains("set-cookie"), "{again}");
    }
}

#[test]
fn without_a_policy_of_hashes_a_cookie_is_not_made() {
    let upstreams = upstreams(1);
    let cookie = HashOf::Cookie(HashCookie {
        name: "session".to_owned(),
        ttl: Some(Duration::ZERO),
        path: String::new(),
        attributes: vec![],
    });
    let log = Log::new();
    let cluster = balanced(&addresses(&upstreams), LbPolicy::RoundRobin);
    let proxy = Proxy::serve(Log::new(), by_hash(&log, vec![cookie], cluster));
    let answer = exchange(&mut proxy.connect(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!answer.contains("set-cookie"), "{answer}");
}

#[test]
fn endpoints_take_turns_by_their_weights() {
    let upstreams = upstreams(3);
    let mut cluster = balanced(&addresses(&upstreams), LbPolicy::RoundRobin);
    let ClusterKind::Static(endpoints) = &mut cluster.kind else {
        panic!("it is static");
    };
    for (endpoint, weight) in endpoints.iter_mut().zip([5, 1, 2]) {
        endpoint.balanced.weight = weight;
    }
    let log = Log::new();
    let proxy = Proxy::serve(Log::new(), by_hash(&log, vec![], cluster));
    let counts = counts(&mut proxy.connect(), 80);
    for (number, due) in ANSWERS.iter().zip([50_usize, 10, 20]) {
        let count = counts.get(*number).copied().unwrap_or_default();
        assert!(count.abs_diff(due) <= 1, "{counts:?}");
    }
}

#[test]
fn at_random_all_endpoints_get_some() {
    let upstreams = upstreams(3);
    let cluster = balanced(&addresses(&upstreams), LbPolicy::Random);
    let log = Log::new();
    let proxy = Proxy::serve(Log::new(), by_hash(&log, vec![], cluster));
    let mut client = proxy.connect();
    let turns: Vec<String> = (0..120).map(|_| answer_to(&mut client, "")).collect();
    for number in &ANSWERS[..3] {
        let count = turns.iter().filter(|turn| turn == number).count();
        assert!((15..70).contains(&count), "{turns:?}");
    }
    let in_turn = turns.windows(4).all(|w| w[0] == w[3]);
    assert!(!in_turn, "{turns:?}");
}

/// An upstream that holds requests back until it is told to answer one; it tells that one has come.
fn slow() -> (Upstream, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (answer, told) = mpsc::channel();
    let (came, comes) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let upstream = Upstream::start(move |mut stream| {
        while read_message(&mut stream).is_some() {
            let _test_over = came.send(());
            if told.lock().unwrap().recv().is_err() {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ns";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    (upstream, answer, comes)
}

#[test]
fn an_endpoint_with_requests_in_flight_gets_no_more_until_they_are_answered() {
    let (slow, answer, comes) = slow();
    let fast = upstreams(2);
    let policy = LbPolicy::LeastRequest(LeastRequest {
        choices: Choices::All,
        ..LeastRequest::default()
    });
    let mut both = vec![slow.address];
    both.push(fast[0].address);
    let log = Log::new();
    let before = by_hash(&log, vec![], balanced(&both, policy));
    both.push(fast[1].address);
    let after = by_hash(&log, vec![], balanced(&both, policy));
    let mut proxy = Proxy::serve(log, before);
    // Until one is held: both are equal before.
    let mut held = proxy.connect();
    let patience = |held: &TcpStream, time| held.set_read_timeout(Some(time)).unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    'held: loop {
        held.write_all(request).unwrap();
        // It is answered, or it has come to where it is held.
        patience(&held, Duration::from_millis(10));
        while held.peek(&mut [0]).is_err() {
            if comes.try_recv().is_ok() {
                break 'held;
            }
        }
        patience(&held, support::DEADLINE);
        read_head(&mut held);
        held.read_exact(&mut [0]).unwrap();
    }
    let mut client = proxy.connect();
    assert_eq!(
        counts(&mut client, 30),
        BTreeMap::from([("0".to_owned(), 30)])
    );
    // What is in flight is known to the next version as well.
    proxy.control.apply(&after).unwrap();
    let new = counts(&mut client, 60);
    assert_eq!(
        new.keys().map(String::as_str).collect::<String>(),
        "01",
        "{new:?}"
    );
    answer.send(()).unwrap();
    patience(&held, support::DEADLINE);
    assert!(read_message(&mut held).unwrap().ends_with('s'));
    for _ in 0..1000 {
        let _all = answer.send(());
    }
    let all = counts(&mut client, 90);
    assert!(
        all.get("s").is_some_and(|n| (10..60).contains(n)),
        "{all:?}"
    );
}
