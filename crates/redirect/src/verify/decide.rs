//! What the planned rules should do to a probe: which rules decide on it, and where it ends.
//!
//! It stands apart from [`crate::explain`] on purpose: that follows whatever anybody may have written,
//! with doubts where facts are missing, while a probe needs one certain answer from the plan alone. Each
//! has the kernel as its judge, here at every probe and there in the tests of equivalence, so that
//! an error in one cannot hide in the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_abi::name;

use super::wire::Ends;
use crate::ruleset::{
    AddressTest, Elements, Family, Hook, Match, PortTest, Protocol, Rule, Ruleset, Verdict,
};

/// A packet that opens a connection, and how it comes into the pod's network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) way: Way,
    pub(super) ends: Ends,
    /// Whether conntrack cannot place it.
    pub(super) nonsense: bool,
}

/// How a packet comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A socket in the pod sends it, to the pod itself (by `lo`) or away from it.
    Sent { sender: Sender, by_loopback: bool },
    /// It arrives by the probes' link.
    Arrived,
}

/// Who made the socket, and the mark it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mark: u32,
}

/// Where a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Where it was sent.
    Passes,
    /// At this port of the pod.
    Redirected(u16),
    /// With the proxy's transparent socket, its destination unchanged.
    Transparent,
    /// Nowhere.
    Dropped,
}

/// What the rules do to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The rules that decide, in a packet's order.
    pub(super) keys: Vec<String>,
    pub(super) outcome: Outcome,
    /// The conntrack zone that its connection is made in.
    pub(super) zone: u16,
}

/// A packet at one hook.
struct Packet {
    ends: Ends,
    arrives_by: Option<&'static str>,
    leaves_by: Option<&'static str>,
    sender: Option<Sender>,
    mark: u32,
    invalid: bool,
}

const LO: &str = "lo";

impl Flow {
    pub(super) fn family(&self) -> Family {
        Family::of(self.ends.source.0)
    }
}

/// Follows a flow's first packet through the rules. `listening`: whether a transparent socket is
/// there for TPROXY.
pub(super) fn decide(rules: &Ruleset, flow: &Flow, listening: bool) -> Decision {
    let mut decision = Decision {
        keys: Vec::new(),
        outcome: Outcome::Passes,
        zone: 0,
    };
    let mut packet = Packet {
        ends: flow.ends,
        arrives_by: None,
        leaves_by: None,
        sender: None,
        mark: 0,
        invalid: flow.nonsense,
    };
    let mut walk = |packet: &mut Packet, hooks: &[Hook]| {
        for hook in hooks {
            if decision.outcome != Outcome::Dropped {
                decision.step(rules, *hook, packet, listening);
            }
        }
    };
    match flow.way {
        Way::Arrived => {
            packet.arrives_by = Some(name::PROBE_LINK);
            walk(
                &mut packet,
                &[
                    Hook::RawPrerouting,
                    Hook::ManglePrerouting,
                    Hook::NatPrerouting,
                ],
            );
        }
        Way::Sent {
            sender,
            by_loopback,
        } => {
            packet.leaves_by = Some(if by_loopback { LO } else { name::PROBE_LINK });
            packet.sender = Some(sender);
            packet.mark = sender.mark;
            walk(
                &mut packet,
                &[Hook::RawOutput, Hook::MangleOutput, Hook::NatOutput],
            );
            if packet.leaves_by == Some(LO) {
                packet.arrives_by = packet.leaves_by.take();
                packet.sender = None;
                // Its connection is known, and was decided on when it was sent.
                walk(&mut packet, &[Hook::RawPrerouting, Hook::ManglePrerouting]);
            }
        }
    }
    decision
}

impl Decision {
    fn step(&mut self, rules: &Ruleset, hook: Hook, packet: &mut Packet, listening: bool) {
        let chain = rules.chain(hook);
        let decides = |rule: &&Rule| {
            let matches = rule.matches.iter();
            let listened = listening || !matches!(rule.verdict, Verdict::Tproxy { .. });
            listened && matches.into_iter().all(|test| packet.passes(test, rules))
        };
        let Some(rule) = chain.and_then(|chain| chain.rules.iter().find(decides)) else {
            return;
        };
        self.keys.push(rule.key.clone());
        match rule.verdict {
            Verdict::Return | Verdict::RestoreMark | Verdict::SaveMark => {}
            Verdict::Drop => self.outcome = Outcome::Dropped,
            Verdict::Redirect(port) => {
                self.outcome = Outcome::Redirected(port.get());
                if packet.leaves_by.is_some() {
                    let loopback = match packet.ends.destination.0 {
                        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    };
                    packet.ends.destination = (loopback, port.get());
                    packet.leaves_by = Some(LO);
                }
            }
            Verdict::Tproxy { mark, .. } => {
                self.outcome = Outcome::Transparent;
                packet.mark = mark;
            }
            Verdict::SetMark(mark) => packet.mark = mark,
            // The first one holds.
            Verdict::Zone(zone) if self.zone == 0 => self.zone = zone,
            Verdict::Zone(_) => {}
        }
    }
}

impl Packet {
    fn passes(&self, test: &Match, rules: &Ruleset) -> bool {
        let Ends {
            protocol,
            source,
            destination,
        } = self.ends;
        match test {
            Match::Family(family) => Family::of(source.0) == *family,
            Match::InLoopback => self.arrives_by == Some(LO),
            Match::OutLoopback => self.leaves_by == Some(LO),
            Match::InInterface(name) => self.arrives_by.is_some_and(|by| name.matches(by)),
            Match::OutInterface(name) => self.leaves_by.is_some_and(|by| name.matches(by)),
            Match::Protocol(wanted) => protocol == *wanted,
            Match::Source(test) => address(source.0, test, rules),
            Match::Destination(test) => address(destination.0, test, rules),
            Match::SourcePort(wanted, test) => protocol == *wanted && port(source.1, test, rules),
            Match::DestinationPort(wanted, test) => {
                protocol == *wanted && port(destination.1, test, rules)
            }
            Match::OwnerUid(set) => self.owner(|sender| id(sender.uid, set, rules)),
            Match::OwnerGid(set) => self.owner(|sender| id(sender.gid, set, rules)),
            Match::NotOwnerGid(set) => self.owner(|sender| !id(sender.gid, set, rules)),
            Match::Mark(mark) => self.mark == *mark,
            Match::NotMark(mark) => self.mark != *mark,
            Match::Invalid => self.invalid,
            Match::Original | Match::NotConnectionMark(_) => !self.invalid,
            // A probe is no process of the proxy's cgroup, and opens its connection.
            Match::Cgroup(_) | Match::ConnectionMark(_) | Match::Established => false,
        }
    }

    fn owner(&self, test: impl FnOnce(Sender) -> bool) -> bool {
        self.sender.is_some_and(test)
    }
}

/// Whether an address passes a test; one of another family never does.
pub(super) fn address(address: IpAddr, test: &AddressTest, rules: &Ruleset) -> bool {
    match test {
        AddressTest::Is(other) => address == *other,
        AddressTest::IsNot(other) => address != *other && Family::of(address) == Family::of(*other),
        AddressTest::In(family, set) => {
            Family::of(address) == *family && address_in(address, set, rules)
        }
        AddressTest::NotIn(family, set) => {
            Family::of(address) == *family && !address_in(address, set, rules)
        }
    }
}

fn address_in(address: IpAddr, set: &str, rules: &Ruleset) -> bool {
    let elements = rules.set(set).map(|set| &set.elements);
    match (address, elements) {
        (IpAddr::V4(address), Some(Elements::V4(blocks))) => blocks.contains(address.to_bits()),
        (IpAddr::V6(address), Some(Elements::V6(blocks))) => blocks.contains(address.to_bits()),
        _ => false,
    }
}

/// Whether a port passes a test.
pub(super) fn port(port: u16, test: &PortTest, rules: &Ruleset) -> bool {
    let within = |set: &str| match rules.set(set).map(|set| &set.elements) {
        Some(Elements::Ports(ports)) => ports.contains(port),
        _ => false,
    };
    match test {
        PortTest::Is(other) => port == *other,
        PortTest::IsNot(other) => port != *other,
        PortTest::In(set) => within(set),
        PortTest::NotIn(set) => !within(set),
    }
}

/// Whether an owner is in a set.
pub(super) fn id(id: u32, set: &str, rules: &Ruleset) -> bool {
    match rules.set(set).map(|set| &set.elements) {
        Some(Elements::Uids(ids) | Elements::Gids(ids)) => ids.contains(id),
        _ => false,
    }
}

/// The protocols there are.
pub(super) const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
