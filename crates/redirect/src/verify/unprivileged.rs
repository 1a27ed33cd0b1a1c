//! What can be proved without any capability: connections of this process to the pod itself.
//!
//! That is Istio's validation, in a container that runs as the proxy's user: a call to 127.0.0.6
//! must come back at the inbound capture port. Here the pod's own addresses are called too, in both
//! families, and what should pass is seen to pass. No address but the pod's own is called.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use shunt_abi::addr;
use socket2::{Domain, Socket, Type};

use super::decide::{Flow, Outcome, Sender, Way, decide};
use super::report::{Failure, Leg, Proof, Report};
use super::wire::Ends;
use super::{families, sockets, title};
use crate::plan::Plan;
use crate::routing::PodAddresses;
use crate::ruleset::{Family, Protocol};

/// Between two attempts, while whoever writes the rules may not be done.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a connection inside the pod may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Proves what this process can of rules that should follow `plan`, whoever wrote them and
/// however; it tries for as long as `timeout`, since they may come late. `probe_port`: where nobody
/// listens, as for Istio's probe.
#[must_use]
pub fn unprivileged(plan: &Plan, probe_port: u16, timeout: Duration) -> Report {
    let end = Instant::now() + timeout;
    let calls = calls(plan, probe_port);
    loop {
        let results: Vec<_> = calls.iter().map(|call| (call, call.prove())).collect();
        let wrong = results
            .iter()
            .any(|(_, proof)| matches!(proof, Proof::Failed(_)));
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
    key: String,
    outcome: Outcome,
}

fn calls(plan: &Plan, probe_port: u16) -> Vec<Call> {
    let (uid, gid) = sockets::whoami();
    let pod = PodAddresses::read().unwrap_or_default();
    let mut ways = Vec::new();
    for (loopback, inbound_source) in [
        (
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(addr::INBOUND_SOURCE_V4),
        ),
        (
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V6(addr::INBOUND_SOURCE_V6),
        ),
    ] {
        if loopback.is_ipv6() && !plan.ipv6 {
            continue;
        }
        // Istio's probe.
        ways.push((loopback, SocketAddr::new(inbound_source, probe_port)));
        ways.push((loopback, SocketAddr::new(loopback, 0)));
        for own in pod
            .outward()
            .filter(|own| own.is_ipv6() == loopback.is_ipv6())
        {
            ways.push((own, SocketAddr::new(own, 0)));
            ways.push((inbound_source, SocketAddr::new(own, 0)));
        }
    }
    let mut calls = Vec::new();
    for (from, to) in ways {
        // Any port stands for one that is not known yet.
        let port = if to.port() == 0 {
            probe_port
        } else {
            to.port()
        };
        let flow = Flow {
            way: Way::Sent {
                sender: Sender { uid, gid, mark: 0 },
                by_loopback: true,
            },
            ends: Ends {
                protocol: Protocol::Tcp,
                source: (from, 0),
                destination: (to.ip(), port),
            },
            nonsense: false,
        };
        let mut decision = decide(&plan.ruleset, &flow, true);
        calls.extend(decision.keys.pop().map(|key| Call {
            from,
            to,
            key,
            outcome: decision.outcome,
        }));
    }
    calls
}

impl Call {
    fn prove(&self) -> Proof {
        self.try_prove().unwrap_or_else(|error| Proof::NotProved {
            why: format!("a connection to {} could not be tried: {error}", self.to),
        })
    }

    fn try_prove(&self) -> io::Result<Proof> {
        let captured = match self.outcome {
            Outcome::Redirected(port) => Some(port),
            Outcome::Passes => None,
            Outcome::Transparent | Outcome::Dropped => {
                let why = "a transparent socket takes CAP_NET_ADMIN".to_owned();
                return Ok(Proof::NotProved { why });
            }
        };
        let direct = TcpListener::bind(self.to)?;
        let to = direct.local_addr()?;
        let loopback: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let proxy = match captured.map(|port| TcpListener::bind((loopback, port))) {
            Some(Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {
                let port = captured.unwrap_or_default();
                let why = format!("somebody listens on the capture port {port} already");
                return Ok(Proof::NotProved { why });
            }
            Some(proxy) => Some(proxy?),
            None => None,
        };
        let expected = match captured {
            Some(port) => format!(
                "a connection from {} to {to} to be redirected to port {port}",
                self.from
            ),
            None => format!("a connection from {} to {to} to pass", self.from),
        };
        let failed = |happened: String| Proof::Failed(Failure { expected, happened });
        let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        client.bind(&SocketAddr::new(self.from, 0).into())?;
        if let Err(error) = client.connect_timeout(&to.into(), PATIENCE) {
            return Ok(failed(format!("it failed: {error}")));
        }
        // Connected, so one of the two has it, unless it went to a third.
        let taken = |listener: &TcpListener| -> io::Result<Option<TcpStream>> {
            listener.set_nonblocking(true)?;
            match listener.accept() {
                Ok((stream, _)) => Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            }
        };
        let at_proxy = match &proxy {
            Some(proxy) => taken(proxy)?,
            None => None,
        };
        let at_target = taken(&direct)?;
        Ok(match (captured, at_proxy, at_target) {
            (Some(_), Some(stream), None) => {
                let original = original_port(&stream, to);
                if original == Some(to.port()) {
                    Proof::Live
                } else {
                    failed(format!("its original destination's port is {original:?}"))
                }
            }
            (None, None, Some(_)) => Proof::Live,
            (Some(_), None, Some(_)) => failed("it passed uncaptured".to_owned()),
            _ => failed("it went to another port".to_owned()),
        })
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

fn report(plan: &Plan, results: &[(&Call, Proof)]) -> Report {
    let mut legs = Vec::new();
    for rule in plan.ruleset.chains.iter().flat_map(|chain| &chain.rules) {
        for family in families(rule, plan.ipv6) {
            let of_rule = |(call, _): &&(&Call, Proof)| {
                call.key == rule.key && Family::of(call.to.ip()) == family
            };
            let mut proofs: Vec<&Proof> = results
                .iter()
                .filter(of_rule)
                .map(|(_, proof)| proof)
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
