//! Policy to rules: a pure function, and the only place where rule order is decided.
//!
//! The order is Istio's (its REDIRECT mode), with two differences that a flow can only gain by:
//! the proxy is "owner in a set", so every uid and gid gets the capture of calls to itself, where
//! Istio gives it to the first uid only; and what the proxy sends passes *before* everything on
//! `lo` does, so that the latter needs no owner test, which nf_tables cannot do for packets
//! without a socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shunt_abi::name::{chain, set};
use shunt_abi::{addr, rule};

use crate::capture::{CaptureConfig, InboundCapture, OutboundCapture, Ports};
use crate::ranges::{Ranges, v4_block, v6_block};
use crate::routing::PodAddresses;
use crate::ruleset::{
    AddressTest, Chain, Elements, Family, Hook, Match, PortTest, Protocol, Rule, Ruleset, Set,
    Verdict,
};

/// The rules for a policy in a pod with these addresses.
#[must_use]
pub fn plan(config: &CaptureConfig, pod: &PodAddresses) -> Ruleset {
    let mut plan = Plan {
        config,
        ipv6: pod.capture_ipv6(config.ipv6),
        sets: Vec::new(),
    };
    let prerouting = plan.prerouting();
    let output = plan.output();
    plan.sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ruleset {
        sets: plan.sets,
        chains: [
            (chain::PREROUTING, Hook::Prerouting, prerouting),
            (chain::OUTPUT, Hook::Output, output),
        ]
        .into_iter()
        .filter(|(_, _, rules)| !rules.is_empty())
        .map(|(name, hook, rules)| Chain {
            name: name.to_owned(),
            hook,
            rules,
        })
        .collect(),
    }
}

/// A policy on its way to rules, and the sets met so far.
struct Plan<'a> {
    config: &'a CaptureConfig,
    ipv6: bool,
    sets: Vec<Set>,
}

impl Plan<'_> {
    /// Packets that arrive. UDP is never captured.
    fn prerouting(&mut self) -> Vec<Rule> {
        let inbound = &self.config.inbound;
        let capture = Verdict::Redirect(inbound.port);
        let mut rules = Vec::new();
        match &inbound.capture {
            InboundCapture::Nothing => return rules,
            InboundCapture::All { except } => {
                rules.extend(self.ipv6_off(rule::INBOUND_IPV6_OFF));
                rules.push(self.tunnel_passes());
                if let Some(ports) = self.ports(set::INBOUND_EXCLUDE_PORTS, except) {
                    rules.push(new(
                        rule::INBOUND_EXCLUDE_PORTS,
                        [Match::DestinationPort(Protocol::Tcp, ports)],
                        Verdict::Return,
                    ));
                }
                rules.push(new(
                    rule::INBOUND_CAPTURE,
                    [Match::Protocol(Protocol::Tcp)],
                    capture,
                ));
            }
            InboundCapture::Only(ports) => {
                rules.extend(self.ipv6_off(rule::INBOUND_IPV6_OFF));
                rules.push(self.tunnel_passes());
                if let Some(ports) = self.ports(set::INBOUND_INCLUDE_PORTS, ports) {
                    rules.push(new(
                        rule::INBOUND_INCLUDE_PORTS,
                        [Match::DestinationPort(Protocol::Tcp, ports)],
                        capture,
                    ));
                }
            }
        }
        rules
    }

    /// Packets that a process of the pod sends.
    fn output(&mut self) -> Vec<Rule> {
        let mut rules = Vec::new();
        rules.extend(self.ipv6_off(rule::OUTBOUND_IPV6_OFF));
        self.excluded_ports(&mut rules);
        self.inbound_source(&mut rules);
        self.proxy(&mut rules);
        self.loopback(&mut rules);
        self.excluded_cidrs(&mut rules);
        self.captured(&mut rules);
        rules
    }

    fn tunnel_passes(&self) -> Rule {
        let tunnel = PortTest::Is(self.config.inbound.tunnel.get());
        new(
            rule::INBOUND_TUNNEL,
            [Match::DestinationPort(Protocol::Tcp, tunnel)],
            Verdict::Return,
        )
    }

    /// When IPv6 is not captured its packets leave at once, and are counted: a bypass is seen.
    fn ipv6_off(&self, key: &str) -> Option<Rule> {
        (!self.ipv6).then(|| new(key, [Match::Family(Family::V6)], Verdict::Return))
    }

    fn excluded_ports(&mut self, rules: &mut Vec<Rule>) {
        let exclude = &self.config.outbound.exclude_ports;
        if let Some(ports) = self.ports(set::OUTBOUND_EXCLUDE_PORTS, exclude) {
            for (key, protocol) in [
                (rule::OUTBOUND_EXCLUDE_PORTS_TCP, Protocol::Tcp),
                (rule::OUTBOUND_EXCLUDE_PORTS_UDP, Protocol::Udp),
            ] {
                rules.push(new(
                    key,
                    [Match::DestinationPort(protocol, ports.clone())],
                    Verdict::Return,
                ));
            }
        }
    }

    /// What the proxy hands to the application: it binds a source that nothing else uses.
    fn inbound_source(&self, rules: &mut Vec<Rule>) {
        for (key, source) in self.by_family([
            (rule::INBOUND_SOURCE_V4, IpAddr::V4(addr::INBOUND_SOURCE_V4)),
            (rule::INBOUND_SOURCE_V6, IpAddr::V6(addr::INBOUND_SOURCE_V6)),
        ]) {
            rules.push(new(
                key,
                [Match::OutLoopback, Match::Source(AddressTest::Is(source))],
                Verdict::Return,
            ));
        }
    }

    /// The proxy's calls to its own pod enter the inbound side; all else it sends passes.
    fn proxy(&mut self, rules: &mut Vec<Rule>) {
        let identity = &self.config.proxy;
        let inbound = &self.config.inbound;
        let uids = self.set(
            set::PROXY_UIDS,
            identity.uids.is_empty(),
            Elements::Uids(single(&identity.uids)),
        );
        let gids = self.set(
            set::PROXY_GIDS,
            identity.gids.is_empty(),
            Elements::Gids(single(&identity.gids)),
        );
        let owners = [
            uids.map(|set| {
                let keys = [rule::SELF_CALL_UID_V4, rule::SELF_CALL_UID_V6];
                (keys, rule::PROXY_UID, Match::OwnerUid(set))
            }),
            gids.map(|set| {
                let keys = [rule::SELF_CALL_GID_V4, rule::SELF_CALL_GID_V6];
                (keys, rule::PROXY_GID, Match::OwnerGid(set))
            }),
        ];
        for ([v4, v6], _, owner) in owners.iter().flatten() {
            for (key, loopback) in self.by_family([(*v4, LOOPBACK_V4), (*v6, LOOPBACK_V6)]) {
                let not_tunnel = PortTest::IsNot(inbound.tunnel.get());
                rules.push(new(
                    key,
                    [
                        Match::OutLoopback,
                        Match::Destination(AddressTest::IsNot(loopback)),
                        Match::DestinationPort(Protocol::Tcp, not_tunnel),
                        owner.clone(),
                    ],
                    Verdict::Redirect(inbound.port),
                ));
            }
        }
        for (_, key, owner) in owners.into_iter().flatten() {
            rules.push(new(key, [owner], Verdict::Return));
        }
    }

    /// The application to itself: over `lo` (which carries its own pod IP too), or to loopback.
    fn loopback(&self, rules: &mut Vec<Rule>) {
        let asked_for = match &self.config.outbound.capture {
            OutboundCapture::All => false,
            OutboundCapture::Only(cidrs) => cidrs.iter().any(|cidr| cidr.network().is_loopback()),
        };
        if !asked_for {
            rules.push(new(
                rule::LOOPBACK_INTERFACE,
                [Match::OutLoopback],
                Verdict::Return,
            ));
        }
        for (key, loopback) in self.by_family([
            (rule::LOOPBACK_V4, LOOPBACK_V4),
            (rule::LOOPBACK_V6, LOOPBACK_V6),
        ]) {
            rules.push(new(
                key,
                [Match::Destination(AddressTest::Is(loopback))],
                Verdict::Return,
            ));
        }
    }

    fn excluded_cidrs(&mut self, rules: &mut Vec<Rule>) {
        let names = [set::OUTBOUND_EXCLUDE_V4, set::OUTBOUND_EXCLUDE_V6];
        let keys = [rule::OUTBOUND_EXCLUDE_V4, rule::OUTBOUND_EXCLUDE_V6];
        for (key, test) in self.cidrs(names, keys, &self.config.outbound.exclude_cidrs) {
            rules.push(new(key, [Match::Destination(test)], Verdict::Return));
        }
    }

    fn captured(&mut self, rules: &mut Vec<Rule>) {
        let outbound = &self.config.outbound;
        let capture = Verdict::Redirect(outbound.port);
        if let Some(ports) = self.ports(set::OUTBOUND_INCLUDE_PORTS, &outbound.include_ports) {
            rules.push(new(
                rule::OUTBOUND_INCLUDE_PORTS,
                [Match::DestinationPort(Protocol::Tcp, ports)],
                capture,
            ));
        }
        match &outbound.capture {
            OutboundCapture::All => rules.push(new(
                rule::OUTBOUND_CAPTURE,
                [Match::Protocol(Protocol::Tcp)],
                capture,
            )),
            OutboundCapture::Only(cidrs) => {
                let names = [set::OUTBOUND_INCLUDE_V4, set::OUTBOUND_INCLUDE_V6];
                let keys = [rule::OUTBOUND_INCLUDE_V4, rule::OUTBOUND_INCLUDE_V6];
                for (key, test) in self.cidrs(names, keys, cidrs) {
                    rules.push(new(
                        key,
                        [Match::Destination(test), Match::Protocol(Protocol::Tcp)],
                        capture,
                    ));
                }
            }
        }
    }

    /// The IPv4 item, and the IPv6 item if IPv6 is captured.
    fn by_family<T>(&self, [v4, v6]: [T; 2]) -> impl Iterator<Item = T> + use<T> {
        [Some(v4), self.ipv6.then_some(v6)].into_iter().flatten()
    }

    /// A set of ports and the test for it; `None` if there are none.
    fn ports(&mut self, name: &str, ports: &Ports) -> Option<PortTest> {
        self.set(name, ports.is_empty(), Elements::Ports(ports.clone()))
            .map(PortTest::In)
    }

    /// Blocks split by family into sets, each with its key and test; empty ones are left out.
    fn cidrs<'k>(
        &mut self,
        [name_v4, name_v6]: [&str; 2],
        [key_v4, key_v6]: [&'k str; 2],
        cidrs: &[IpNet],
    ) -> Vec<(&'k str, AddressTest)> {
        let v4: Ranges<u32> = cidrs
            .iter()
            .filter_map(|cidr| match cidr {
                IpNet::V4(block) => Some(v4_block(block)),
                IpNet::V6(_) => None,
            })
            .collect();
        let v6: Ranges<u128> = cidrs
            .iter()
            .filter_map(|cidr| match cidr {
                IpNet::V4(_) => None,
                IpNet::V6(block) => Some(v6_block(block)),
            })
            .collect();
        let v4 = self.set(name_v4, v4.is_empty(), Elements::V4(v4));
        let v6 = self.set(name_v6, v6.is_empty() || !self.ipv6, Elements::V6(v6));
        [
            v4.map(|set| (key_v4, AddressTest::In(Family::V4, set))),
            v6.map(|set| (key_v6, AddressTest::In(Family::V6, set))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Declares a set unless it is empty, and gives its name.
    fn set(&mut self, name: &str, empty: bool, elements: Elements) -> Option<String> {
        if empty {
            return None;
        }
        self.sets.push(Set {
            name: name.to_owned(),
            elements,
        });
        Some(name.to_owned())
    }
}

/// Ids as intervals of one.
fn single(ids: &BTreeSet<u32>) -> Ranges<u32> {
    ids.iter().map(|id| (*id, *id)).collect()
}

const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn new(key: &str, matches: impl IntoIterator<Item = Match>, verdict: Verdict) -> Rule {
    Rule {
        key: key.to_owned(),
        matches: matches.into_iter().collect(),
        verdict,
    }
}
