//! What can be proved without any capability: connections of this process to the pod itself.
//!
//! That is Istio's validation, in a container that runs as the proxy's user: a call to 127.0.0.6
//! must come back at the inbound capture port. Here the pod's own addresses are called too, in both
//! families, and what should pass is seen to pass. No address but the pod's own is called.
//!
//! With TPROXY the same call is redirected by Istio's rules all the same, while Shunt's hand it to
//! a transparent listener, or drop it while there is none: this process can have none, so that it
//! sees the call vanish, and the same call from the address that is excepted arrive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use shunt_abi::{addr, mark, name};
use socket2::{Domain, Socket, Type};

use super::decide::{Flow, Outcome, Sender, Way, decide};
use super::report::{Failure, Leg, Proof, Report};
use super::wire::Ends;
use super::{families, routing, sockets, title};
use crate::plan::Plan;
use crate::routing::PodAddresses;
use crate::ruleset::{Elements, Family, Protocol, Ruleset, Verdict};

/// Between two attempts, while whoever writes the rules may not be done.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a connection inside the pod may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one is waited for that should vanish.
const VANISHED: Duration = Duration::from_millis(250);

/// Proves what this process can of rules that should follow `plan`, whoever wrote them and
/// however; it tries for as long as `timeout`, since they may come late. `probe_port`: where nobody
/// listens, as for Istio's probe. `inbound_port`: where the proxy gets inbound connections.
#[must_use]
pub fn unprivileged(plan: &Plan, probe_port: u16, inbound_port: u16, timeout: Duration) -> Report {
    let end = Instant::now() + timeout;
    let calls = calls(plan, probe_port);
    loop {
        let results: Vec<Found> = calls
            .iter()
            .filter_map(|call| call.prove(&plan.ruleset, inbound_port))
            .collect();
        let wrong = results
            .iter()
            .any(|found| matches!(found.proof, Proof::Failed(_)));
        if !wrong || Instant::now() > end {
            return report(plan, &results);
        }
        thread::sleep(PAUSE);
    }
}

/// A connection to the pod itself.
struct Call {
    from: IpAddr,
    /// Port 0 stands for any that is free.
    to: SocketAddr,
}

/// What a call showed of a rule.
struct Found {
    key: String,
    family: Family,
    proof: Proof,
}

/// Where a call should end.
#[derive(Clone, Copy)]
enum Expected {
    Passes,
    /// At this port.
    Redirected(u16),
    /// At this port by Istio's rules for TPROXY, and nowhere by Shunt's.
    Captured(u16),
    /// At this port by Istio's rules for TPROXY; Shunt's let it pass, since its port is not
    /// captured.
    PassesOrRedirected(u16),
}

fn calls(plan: &Plan, probe_port: u16) -> Vec<Call> {
    let pod = PodAddresses::read().unwrap_or_default();
    let included = match plan.ruleset.set(name::set::INBOUND_INCLUDE_PORTS) {
        // A port of a list is captured, any other may not be; those that need no privilege first.
        Some(set) => match &set.elements {
            Elements::Ports(ports) => ports
                .iter()
                .map(|(_, last)| last)
                .max_by_key(|last| *last >= UNPRIVILEGED),
            _ => None,
        },
        None => None,
    };
    let mut calls = Vec::new();
    for loopback in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        if loopback.is_ipv6() && !plan.ipv6 {
            continue;
        }
        let inbound_source = inbound_source(loopback);
        let mut call = |from, to, port| {
            calls.push(Call {
                from,
                to: SocketAddr::new(to, port),
            });
        };
        // Istio's probe.
        call(loopback, inbound_source, probe_port);
        if let Some(port) = included {
            call(loopback, inbound_source, port);
        }
        call(loopback, loopback, 0);
        for own in pod
            .outward()
            .filter(|own| own.is_ipv6() == loopback.is_ipv6())
        {
            call(own, own, 0);
            call(inbound_source, own, 0);
        }
    }
    calls
}

/// The first port that any process may listen at.
const UNPRIVILEGED: u16 = 1024;

/// From where the proxy calls the application, in the family of an address.
fn inbound_source(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => addr::INBOUND_SOURCE_V4.into(),
        IpAddr::V6(_) => addr::INBOUND_SOURCE_V6.into(),
    }
}

/// The key of a rule that marks calls of the proxy to its own pod, so that TPROXY captures them.
fn marks_self_call(rules: &Ruleset, key: &str) -> bool {
    let mut rules = rules.chains.iter().flat_map(|chain| &chain.rules);
    rules.any(|rule| rule.key == key && rule.verdict == Verdict::SetMark(mark::SELF_CALL))
}

impl Call {
    /// Which rule decides on it, and whether it does; `None` if none does.
    fn prove(&self, rules: &Ruleset, inbound_port: u16) -> Option<Found> {
        let direct = TcpListener::bind(self.to);
        let to = match &direct {
            Ok(direct) => direct.local_addr().unwrap_or(self.to),
            Err(_) => self.to,
        };
        let (uid, gid) = sockets::whoami();
        let flow = Flow {
            way: Way::Sent {
                sender: Sender { uid, gid, mark: 0 },
                by_loopback: true,
            },
            ends: Ends {
                protocol: Protocol::Tcp,
                source: (self.from, 0),
                destination: (to.ip(), to.port()),
            },
            nonsense: false,
        };
        let decision = decide(rules, &flow, true);
        let mut key = decision.keys.last()?.clone();
        let marking = decision.keys.iter().find(|key| marks_self_call(rules, key));
        let excepted = self.from == inbound_source(self.from);
        let expected = match (decision.outcome, marking) {
            (Outcome::Redirected(port), _) => Expected::Redirected(port),
            (Outcome::Transparent, Some(marking)) => {
                key.clone_from(marking);
                Expected::Captured(inbound_port)
            }
            (Outcome::Passes, Some(_)) if !excepted => Expected::PassesOrRedirected(inbound_port),
            (Outcome::Passes, _) => Expected::Passes,
            (Outcome::Transparent | Outcome::Dropped, _) => {
                return Some(Found {
                    key,
                    family: flow.family(),
                    proof: Proof::NotProved {
                        why: "a transparent socket takes CAP_NET_ADMIN".to_owned(),
                    },
                });
            }
        };
        let (redirected, proof) = self.attempt(direct, to, expected).unwrap_or_else(|error| {
            let why = format!("a connection to {} could not be tried: {error}", self.to);
            (false, Proof::NotProved { why })
        });
        if let (true, Some(marking)) = (redirected, marking) {
            key.clone_from(marking);
        }
        Some(Found {
            key,
            family: flow.family(),
            proof,
        })
    }

    /// Whether it was redirected, and what that proves.
    fn attempt(
        &self,
        direct: io::Result<TcpListener>,
        to: SocketAddr,
        expected: Expected,
    ) -> io::Result<(bool, Proof)> {
        let direct = match (direct, expected) {
            // Without a listener it is refused where nothing captures it.
            (Err(error), Expected::Captured(_))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                None
            }
            (direct, _) => Some(direct?),
        };
        let proxy = match expected {
            Expected::Passes => None,
            Expected::Redirected(port)
            | Expected::Captured(port)
            | Expected::PassesOrRedirected(port) => {
                let loopback: IpAddr = match to {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                match TcpListener::bind((loopback, port)) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        let why = format!("somebody listens on the capture port {port} already");
                        return Ok((false, Proof::NotProved { why }));
                    }
                    proxy => Some(proxy?),
                }
            }
        };
        let from = self.from;
        let wanted = match expected {
            Expected::Redirected(port) => {
                format!("a connection from {from} to {to} to be redirected to port {port}")
            }
            Expected::Captured(port) => format!(
                "a connection from {from} to {to} to be redirected to port {port}, or dropped \
                 while no transparent socket listens there"
            ),
            Expected::Passes | Expected::PassesOrRedirected(_) => {
                format!("a connection from {from} to {to} to pass")
            }
        };
        let failed = |happened: String| {
            Proof::Failed(Failure {
                expected: wanted.clone(),
                happened,
            })
        };
        let patience = match expected {
            Expected::Captured(_) => VANISHED,
            _ => PATIENCE,
        };
        // The client's end stays open for as long as both listeners are looked at.
        let (_client, connected) = connect(from, to, patience)?;
        // Connected, so one of the two has it, unless it went to a third.
        let at_proxy = taken(proxy.as_ref())?;
        let at_target = taken(direct.as_ref())?;
        let redirected = at_proxy.is_some();
        let proof = match (expected, connected, at_proxy, at_target) {
            (Expected::Passes | Expected::PassesOrRedirected(_), Ok(()), None, Some(_)) => {
                Proof::Live
            }
            (Expected::Passes, _, Some(_), _) | (_, Ok(()), None, None) => {
                failed("it went to another port".to_owned())
            }
            (_, Ok(()), Some(stream), None) => {
                let original = original_port(&stream, to);
                if original == Some(to.port()) {
                    Proof::Live
                } else {
                    failed(format!("its original destination's port is {original:?}"))
                }
            }
            (Expected::Captured(_) | Expected::Redirected(_), _, None, Some(_)) => {
                failed("it passed uncaptured".to_owned())
            }
            (Expected::Captured(_), Err(error), None, None)
                if error.kind() == io::ErrorKind::TimedOut =>
            {
                // Rules that drop all that is sent here would look the same.
                let source = inbound_source(from);
                let (_client, excepted) = connect(source, to, PATIENCE)?;
                match excepted {
                    Err(error) if direct.is_some() || !refused(&error) => failed(format!(
                        "it vanished, as one from {source} did, which should pass ({error}): it \
                         is not the mesh's rules that dropped it, or `lo` is down"
                    )),
                    _ => Proof::Live,
                }
            }
            (Expected::Captured(_), Err(error), ..) if direct.is_none() && refused(&error) => {
                failed("it passed uncaptured, and was refused".to_owned())
            }
            (_, Err(error), ..) => failed(format!("it failed: {error}")),
            _ => failed("it went to another port".to_owned()),
        };
        Ok((redirected, proof))
    }
}

/// A connection, and whether it was opened; an error if it cannot be tried.
fn connect(
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<(Socket, io::Result<()>)> {
    let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    client.bind(&SocketAddr::new(from, 0).into())?;
    let connected = client.connect_timeout(&to.into(), patience);
    Ok((client, connected))
}

fn refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// What has come to a listener.
fn taken(listener: Option<&TcpListener>) -> io::Result<Option<TcpStream>> {
    let Some(listener) = listener else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn original_port(stream: &TcpStream, to: SocketAddr) -> Option<u16> {
    match to {
        SocketAddr::V4(_) => getsockopt(stream, sockopt::OriginalDst)
            .ok()
            .map(|address| u16::from_be(address.sin_port)),
        SocketAddr::V6(_) => getsockopt(stream, sockopt::Ip6tOriginalDst)
            .ok()
            .map(|address| u16::from_be(address.sin6_port)),
    }
}

fn report(plan: &Plan, results: &[Found]) -> Report {
    let mut legs: Vec<Leg> = routing::loopback().into_iter().collect();
    for rule in plan.ruleset.chains.iter().flat_map(|chain| &chain.rules) {
        for family in families(rule, plan.ipv6) {
            let of_rule = |found: &&Found| found.key == rule.key && found.family == family;
            let mut proofs: Vec<&Proof> = results
                .iter()
                .filter(of_rule)
                .map(|found| &found.proof)
                .collect();
            // A failure tells most, then what is proved.
            proofs.sort_by_key(|proof| match proof {
                Proof::Failed(_) => 0,
                Proof::Live | Proof::ReadBack { .. } => 1,
                Proof::NotProved { .. } => 2,
            });
            legs.push(Leg {
                title: title::of(&rule.key),
                family: Some(family),
                key: rule.key.clone(),
                proof: proofs
                    .first()
                    .map_or_else(not_tried, |proof| (*proof).clone()),
            });
        }
    }
    Report {
        legs,
        probes: results.len(),
    }
}

fn not_tried() -> Proof {
    Proof::NotProved {
        why: "it takes CAP_NET_ADMIN and CAP_NET_RAW, or another user, to try it".to_owned(),
    }
}
