//! Rules written again and again, or by another backend, while connections are opened without a
//! pause: none passes uncaptured.
//!
//! The pod's outbound connections go to a server on another machine, its inbound ones come from
//! there to a server in the pod. Both servers say that they are not the proxy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use shunt_abi::{identity, port};
use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::capture::CaptureConfig;
use shunt_redirect::iptables::Flavour;
use shunt_redirect::nft::render;
use socket2::{Domain, Socket, Type};

use crate::cases::named;
use crate::iptables::{choice, iptables};
use crate::support::{in_namespace, in_pod, ip, link_is_settled, nft, nft_file};
use shunt_redirect::ruleset::Family;

const PROXY: u8 = b'p';
const OTHER: u8 = b'o';

/// A pod, and a machine that it is connected to.
struct Scene {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    servers: Vec<(SocketAddr, JoinHandle<()>)>,
    clients: Vec<JoinHandle<()>>,
    /// Told once to start its clients, a second time to end.
    machine: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug, Default)]
struct Counts {
    captured: [AtomicU32; 4],
    passed: [AtomicU32; 4],
    failed: [AtomicU32; 4],
}

/// Outbound and inbound, both families.
const WAYS: [&str; 4] = [
    "10.9.0.1:80",
    "[fd00:9::1]:80",
    "10.9.0.2:80",
    "[fd00:9::2]:80",
];

impl Scene {
    /// To be made in a fresh network namespace.
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        ip("link add eth0 type veth peer name peer0");
        let (machine_is_there, is_there) = mpsc::channel();
        let (link_is_there, go) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let machine = {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                machine_is_there.send(nix::unistd::gettid()).unwrap();
                go.recv().unwrap();
                link("peer0", 1);
                let server = serve("[::]:80", OTHER, &stop);
                ready.send(()).unwrap();
                left.recv().unwrap();
                link_is_settled("peer0");
                let clients = [2, 3].map(|way| client(way, &stop, &counts));
                left.recv().unwrap();
                for client in clients {
                    client.join().unwrap();
                }
                end(server);
            })
        };
        let thread = is_there.recv().unwrap();
        let namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        ip(&format!("link set peer0 netns {namespace}"));
        link_is_there.send(()).unwrap();
        link("eth0", 2);
        is_ready.recv().unwrap();
        link_is_settled("eth0");
        let servers = [
            (format!("[::]:{}", port::OUTBOUND), PROXY),
            // Transparent, as TPROXY asks; REDIRECT does not mind.
            (format!("[::]:{}", port::INBOUND), PROXY),
            ("[::]:80".to_owned(), OTHER),
        ];
        Self {
            servers: servers.map(|(at, word)| serve(&at, word, &stop)).into(),
            clients: Vec::new(),
            machine: Some((leave, machine)),
            stop,
            counts,
        }
    }

    /// Begins to open connections. Those from before the first rules may be remembered by
    /// conntrack, and a later one from the same port be taken for one of them.
    fn start(&mut self) {
        self.clients = [0, 1]
            .map(|way| client(way, &self.stop, &self.counts))
            .into();
        let (machine, _) = self.machine.as_ref().unwrap();
        machine.send(()).unwrap();
    }

    /// Waits until each way has had so many more connections, captured or not.
    fn more(&self, connections: u32) {
        let goals = [0, 1, 2, 3].map(|way| self.total(way) + connections);
        while (0..4).any(|way| self.total(way) < goals[way]) {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// The connections of one way, wherever they went.
    fn total(&self, way: usize) -> u32 {
        let counts = [
            &self.counts.captured,
            &self.counts.passed,
            &self.counts.failed,
        ];
        counts
            .map(|count| count[way].load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    /// Whether each way has had so many connections, wherever they went.
    fn had(&self, connections: u32) -> bool {
        (0..4).all(|way| self.total(way) >= connections)
    }

    /// Every connection so far went to the proxy, each way.
    fn all_captured(&self) {
        let load =
            |count: &[AtomicU32; 4]| [0, 1, 2, 3].map(|way| count[way].load(Ordering::Relaxed));
        assert_eq!(
            load(&self.counts.passed),
            [0; 4],
            "passed, of {:?}",
            self.counts
        );
        assert_eq!(
            load(&self.counts.failed),
            [0; 4],
            "failed, of {:?}",
            self.counts
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _panicked = client.join();
        }
        if let Some((leave, machine)) = self.machine.take() {
            // Whether or not it was told to start.
            let _gone = [leave.send(()), leave.send(())];
            let _panicked = machine.join();
        }
        self.servers.drain(..).for_each(end);
    }
}

fn link(name: &str, host: u8) {
    ip("link set lo up");
    ip(&format!("link set {name} addrgenmode none"));
    ip(&format!("addr add 10.9.0.{host}/24 dev {name}"));
    ip(&format!("addr add fd00:9::{host}/64 dev {name} nodad"));
    ip(&format!("link set {name} up"));
}

/// Answers each connection with a word of one byte.
fn serve(at: &str, word: u8, stop: &Arc<AtomicBool>) -> (SocketAddr, JoinHandle<()>) {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if word == PROXY {
        setsockopt(&socket, sockopt::IpTransparent, &true).unwrap();
    }
    socket
        .bind(&at.parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(128).unwrap();
    let listener = TcpListener::from(OwnedFd::from(socket));
    let address = listener.local_addr().unwrap();
    let stop = Arc::clone(stop);
    let thread = thread::spawn(move || {
        for connection in listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // A client may be gone by now.
            let _unheard = connection.and_then(|mut stream| stream.write_all(&[word]));
        }
    });
    (address, thread)
}

fn end((address, thread): (SocketAddr, JoinHandle<()>)) {
    // By loopback, which is never captured.
    let _woken = TcpStream::connect(("127.0.0.1", address.port()));
    let _panicked = thread.join();
}

/// Opens connections one after the other, and counts who answers.
fn client(way: usize, stop: &Arc<AtomicBool>, counts: &Arc<Counts>) -> JoinHandle<()> {
    let to: SocketAddr = WAYS[way].parse().unwrap();
    let (stop, counts) = (Arc::clone(stop), Arc::clone(counts));
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let count = match ask(to) {
                Ok(PROXY) => &counts.captured,
                Ok(_) => &counts.passed,
                Err(_) => &counts.failed,
            };
            count[way].fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn ask(to: SocketAddr) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(30))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut word = [0];
    stream.read_exact(&mut word)?;
    // The server closes first, so that no port of ours stays in use.
    let _end = stream.read(&mut [0])?;
    Ok(word[0])
}

/// Two policies that decide alike on these connections, in other rules and sets.
fn equivalent() -> [CaptureConfig; 2] {
    let one = named("injector_with_both_families");
    let mut other = named("outbound_blocks_excluded");
    other.dns = named("dns_to_any_server").dns;
    other.outbound.include_ports = named("outbound_ports_included").outbound.include_ports;
    // 10.0.0.0/9 is excluded there.
    other.outbound.exclude_cidrs.retain(|cidr| {
        !cidr.contains(&"10.9.0.1".parse::<std::net::IpAddr>().unwrap())
            && !cidr.contains(&"fd00:9::1".parse::<std::net::IpAddr>().unwrap())
    });
    [one, other]
}

/// The policy rules and routes of this namespace.
fn routing() -> String {
    [
        "rule show",
        "-6 rule show",
        "route show table 133",
        "-6 route show table 133",
    ]
    .map(ip)
    .concat()
}

#[test]
fn the_scene_tells_what_passes_from_what_is_captured() {
    in_namespace(|| {
        let mut scene = Scene::new();
        scene.start();
        scene.more(5);
        let all = |count: &[AtomicU32; 4], least| {
            count
                .iter()
                .all(|count| count.load(Ordering::Relaxed) >= least)
        };
        assert!(all(&scene.counts.passed, 5), "{:?}", scene.counts);
        assert!(!all(&scene.counts.captured, 1), "{:?}", scene.counts);
        backend::apply(&equivalent()[0], BackendChoice::Nft).unwrap();
        scene.more(50);
        assert!(all(&scene.counts.captured, 45), "{:?}", scene.counts);
    });
}

/// Two policies by TPROXY that decide alike on these connections, in other rules and sets.
fn equivalent_by_tproxy() -> [CaptureConfig; 2] {
    equivalent().map(|mut config| {
        config.inbound.mode = named("tproxy").inbound.mode;
        config
    })
}

/// Who answers a connection that the proxy opens.
fn ask_as_proxy(way: usize) -> u8 {
    let to: SocketAddr = WAYS[way].parse().unwrap();
    let asked = thread::spawn(move || {
        // Those of this thread alone.
        setfsgid(Gid::from_raw(identity::PROXY_UID));
        setfsuid(Uid::from_raw(identity::PROXY_UID));
        ask(to)
    });
    asked.join().unwrap().unwrap()
}

#[test]
fn packets_that_meet_the_old_rules_and_the_new_end_as_if_they_had_met_one() {
    for config in [&equivalent()[0], &equivalent_by_tproxy()[0]] {
        in_namespace(|| {
            let mut scene = Scene::new();
            let plan = backend::apply(config, BackendChoice::Nft).unwrap().plan;
            let text = render::table(&plan.ruleset);
            nft_file(&text.replacen("table inet shunt", "table inet again", 1));
            scene.start();
            scene.more(50);
            scene.all_captured();
            for (way, word) in [(0, OTHER), (1, OTHER), (2, PROXY), (3, PROXY)] {
                assert_eq!(ask_as_proxy(way), word, "{}", WAYS[way]);
            }
        });
    }
}

/// What the kernel is asked to do to rules, and how often, while they are healed.
struct Healing<'a> {
    rounds: usize,
    /// None of these lets anything through by itself.
    drifts: &'a [&'a str],
    /// Connections that are captured meanwhile, at least.
    captured: u32,
}

impl Healing<'_> {
    /// Apply two policies in turn, while somebody else changes the rules: nothing passes, and
    /// policy routing stays as it was.
    fn run(&self, policies: &[CaptureConfig; 2], choice: BackendChoice, drift: impl Fn(&str)) {
        let mut scene = Scene::new();
        backend::apply(&policies[0], choice).unwrap();
        // The table is there for TPROXY alone.
        let by_tproxy = policies[0].inbound.mode == named("tproxy").inbound.mode;
        let routing = || {
            if by_tproxy {
                routing()
            } else {
                ip("rule show")
            }
        };
        let routing_once = routing();
        scene.start();
        let mut round = 0;
        // However slow its clients, there are connections meanwhile.
        while round < self.rounds || !scene.had(self.captured) {
            if round % 3 == 0 {
                drift(self.drifts[round / 3 % self.drifts.len()]);
            }
            backend::apply(&policies[round % 2], choice).unwrap();
            round += 1;
        }
        scene.more(20);
        scene.all_captured();
        assert_eq!(routing(), routing_once);
    }

    fn by_nft(&self, policies: &[CaptureConfig; 2]) {
        let drift = |text: &str| drop(nft(text));
        in_namespace(|| self.run(policies, BackendChoice::Nft, drift));
    }

    fn by_iptables(&self, policies: &[CaptureConfig; 2]) {
        for flavour in [Flavour::Legacy, Flavour::Nft] {
            let drift = |text: &str| drop(iptables(flavour, Family::V4, text));
            in_namespace(|| self.run(policies, choice(flavour), drift));
        }
    }
}

#[test]
fn no_connection_passes_while_nft_rules_are_healed_200_times() {
    let healing = Healing {
        rounds: 200,
        drifts: &[
            "add rule inet shunt nat_output counter return",
            "add chain inet shunt mine",
            "add set inet shunt mine { type mark; }",
            "add element inet shunt proxy_uids { 4000 }",
            "add rule inet shunt nat_prerouting tcp dport 7 accept",
        ],
        captured: 200,
    };
    healing.by_nft(&equivalent());
}

#[test]
fn no_connection_passes_while_nft_rules_of_tproxy_are_healed_200_times() {
    let healing = Healing {
        rounds: 200,
        drifts: &[
            "add rule inet shunt mangle_output counter return",
            "add rule inet shunt mangle_prerouting counter return",
            "add chain inet shunt mine",
            "add element inet shunt proxy_uids { 4000 }",
            "insert rule inet shunt mangle_prerouting tcp dport 7 accept",
        ],
        captured: 200,
    };
    healing.by_nft(&equivalent_by_tproxy());
}

#[test]
fn no_connection_passes_while_iptables_rules_are_healed_50_times() {
    let healing = Healing {
        rounds: 50,
        drifts: &[
            "-t nat -A SHUNT_OUTPUT -j RETURN",
            "-t nat -N SHUNT_MINE",
            "-t nat -A OUTPUT -j SHUNT_OUTPUT",
            "-t nat -A SHUNT_PREROUTING -p tcp --dport 7 -j ACCEPT",
        ],
        captured: 100,
    };
    healing.by_iptables(&equivalent());
}

#[test]
fn no_connection_passes_while_iptables_rules_of_tproxy_are_healed_50_times() {
    let healing = Healing {
        rounds: 50,
        drifts: &[
            "-t mangle -A SHUNT_OUTPUT -j RETURN",
            "-t mangle -N SHUNT_MINE",
            "-t mangle -A PREROUTING -j SHUNT_PREROUTING",
            "-t mangle -I SHUNT_PREROUTING -p tcp --dport 7 -j ACCEPT",
        ],
        captured: 100,
    };
    healing.by_iptables(&equivalent_by_tproxy());
}

#[test]
fn no_connection_passes_while_backends_follow_each_other() {
    in_namespace(|| {
        let choices = [
            BackendChoice::Nft,
            BackendChoice::IptablesLegacy,
            BackendChoice::IptablesNft,
            BackendChoice::Nft,
            BackendChoice::IptablesNft,
            BackendChoice::IptablesLegacy,
        ];
        let mut scene = Scene::new();
        backend::apply(&equivalent()[0], choices[5]).unwrap();
        scene.start();
        let mut round = 0;
        while round < 24 || !scene.had(50) {
            let config = &equivalent()[round % 2];
            backend::apply(config, choices[round % 6]).unwrap();
            round += 1;
        }
        scene.more(20);
        scene.all_captured();
    });
}

#[test]
fn no_connection_passes_while_backends_follow_each_other_by_tproxy() {
    in_namespace(|| {
        let choices = [
            BackendChoice::Nft,
            BackendChoice::IptablesLegacy,
            BackendChoice::IptablesNft,
        ];
        let policies = equivalent_by_tproxy();
        let mut scene = Scene::new();
        backend::apply(&policies[0], choices[2]).unwrap();
        scene.start();
        let mut round = 0;
        while round < 24 || !scene.had(50) {
            backend::apply(&policies[round % 2], choices[round % 3]).unwrap();
            round += 1;
        }
        scene.more(20);
        scene.all_captured();
    });
}

#[test]
fn policy_routing_is_never_doubled() {
    in_pod(|| {
        let tproxy = [named("tproxy"), named("tproxy_with_everything")];
        backend::apply(&tproxy[0], BackendChoice::Nft).unwrap();
        let once = routing();
        assert_eq!(once.matches("fwmark").count(), 2, "{once}");
        for round in 0..12 {
            let choice = BackendChoice::ALL[round % 5].0;
            backend::apply(&tproxy[round % 2], choice).unwrap();
            assert_eq!(routing(), once);
        }
    });
}
