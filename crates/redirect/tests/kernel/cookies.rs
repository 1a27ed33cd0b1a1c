//! SYN cookies, as under a flood of openings: the kernel answers a client without making a socket
//! for it, so that conntrack knows the connection and nobody else does. Its next packet must find
//! the proxy that listens, not the application, and not nobody.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use shunt_abi::port;
use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::verify::{Proof, verify};
use socket2::{Domain, Socket, Type};

use crate::cases::named;
use crate::support::{in_namespace, in_pod, ip, link_is_settled, output, policy};
use crate::verify::{not_live, unhurried};

const PATIENCE: Duration = Duration::from_secs(30);

const BACKENDS: [BackendChoice; 3] = [
    BackendChoice::Nft,
    BackendChoice::IptablesLegacy,
    BackendChoice::IptablesNft,
];

/// Where applications of the pod listen.
const APPS: [&str; 4] = [
    "10.9.0.2:8080",
    "[fd00:9::2]:8080",
    "10.9.0.2:80",
    "[fd00:9::2]:80",
];

/// Runs `test` in a pod; it is given the network namespace of a machine at the other end of its
/// link.
fn with_a_machine(test: impl FnOnce(&File) + Send) {
    in_namespace(|| {
        ip("link add eth0 type veth peer name peer0");
        let (is_there, there) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let machine = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            is_there.send(nix::unistd::gettid()).unwrap();
            let _ended = left.recv();
        });
        let thread = there.recv().unwrap();
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        let namespace = File::open(&path).unwrap();
        ip(&format!("link set peer0 netns {path}"));
        thread::scope(|scope| {
            scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                link("peer0", 1);
            });
        });
        link("eth0", 2);
        link_is_settled("eth0");
        thread::scope(|scope| {
            scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                link_is_settled("peer0");
            });
        });
        test(&namespace);
        drop(leave);
        machine.join().unwrap();
    });
}

fn link(name: &str, host: u8) {
    ip("link set lo up");
    ip(&format!("addr add 10.9.0.{host}/24 dev {name}"));
    ip(&format!("addr add fd00:9::{host}/64 dev {name} nodad"));
    ip(&format!("link set {name} up"));
}

/// Sends back what each connection sent, once it has sent all. Tells where they were going.
fn echo(listener: &TcpListener, connections: usize) -> Vec<SocketAddr> {
    let one = || {
        let (mut stream, _) = listener.accept().expect("the proxy gets a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        let to = stream.local_addr().unwrap();
        SocketAddr::new(to.ip().to_canonical(), to.port())
    };
    (0..connections).map(|_| one()).collect()
}

fn proxy() -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    setsockopt(&socket, sockopt::IpTransparent, &true).unwrap();
    let any: SocketAddr = format!("[::]:{}", port::INBOUND).parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    // A connection that never comes shall not be waited for without end.
    socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    TcpListener::from(OwnedFd::from(socket))
}

/// What came back of what was sent.
fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    Ok(back)
}

/// How many connections were made of a cookie that came back, in this network namespace.
fn cookies_received() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap().split(' ');
    let mut all = names.zip(lines.next().unwrap().split(' '));
    let (_, count) = all.find(|(name, _)| *name == "SyncookiesRecv").unwrap();
    count.parse().unwrap()
}

#[test]
fn what_tproxy_captures_carries_its_bytes_when_cookies_are_all_that_is_answered() {
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let targets = APPS.map(|at| at.parse::<SocketAddr>().unwrap());
    for choice in BACKENDS {
        with_a_machine(|machine| {
            output("sysctl", &["-qw", "net.ipv4.tcp_syncookies=2"]);
            backend::apply(&named("tproxy"), choice).unwrap();
            let applications = targets.map(|at| TcpListener::bind(at).unwrap());
            // Each has sent a cookie of late, so that it would take one that comes back.
            let _own = targets.map(|at| TcpStream::connect(at).unwrap());
            let proxy = proxy();
            let before = cookies_received();
            let seen = thread::scope(|scope| {
                let proxy = scope.spawn(|| echo(&proxy, targets.len()));
                scope.spawn(|| {
                    setns(machine, CloneFlags::CLONE_NEWNET).unwrap();
                    for to in targets {
                        let back = exchange(to, &bytes).unwrap_or_else(|error| {
                            panic!("{choice:?}: the connection to {to}: {error}")
                        });
                        assert!(back == bytes, "{choice:?} {to}: {} bytes", back.len());
                    }
                });
                proxy.join().unwrap()
            });
            assert_eq!(seen, targets, "{choice:?}");
            assert_eq!(cookies_received() - before, 4, "{choice:?}");
            for application in applications {
                application.set_nonblocking(true).unwrap();
                let own = application.accept().unwrap();
                assert_eq!(own.1.ip(), application.local_addr().unwrap().ip());
                assert!(application.accept().is_err(), "{choice:?}");
            }
        });
    }
}

#[test]
fn every_rule_of_tproxy_is_proved_by_packets_when_cookies_are_all_that_is_answered() {
    for choice in BACKENDS {
        in_pod(|| {
            output("sysctl", &["-qw", "net.ipv4.tcp_syncookies=2"]);
            let config = policy(&["-m", "TPROXY", "-i", "*", "-b", "*"]);
            let applied = backend::apply(&config, choice).unwrap();
            let report = verify(&applied.plan, applied.backend, &unhurried()).unwrap();
            assert_eq!(
                report.failed().count(),
                0,
                "{choice:?}: {:#?}",
                not_live(&report)
            );
            let rules = applied
                .plan
                .ruleset
                .chains
                .iter()
                .flat_map(|chain| &chain.rules);
            for rule in rules.filter(|rule| rule.key.starts_with("tproxy/")) {
                let legs = report.legs.iter().filter(|leg| leg.key == rule.key);
                let proofs: Vec<_> = legs.map(|leg| &leg.proof).collect();
                assert!(!proofs.is_empty(), "{choice:?}: {}", rule.key);
                assert!(
                    proofs.iter().all(|proof| **proof == Proof::Live),
                    "{choice:?}: {}: {proofs:#?}",
                    rule.key
                );
            }
        });
    }
}
