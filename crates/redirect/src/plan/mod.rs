//! Policy to rules: a pure function, and the only place where rule order is decided.
//!
//! The order is Istio's, with differences that a flow can only gain by (docs/istio-differences.md):
//! the proxy is "owner in a set", so every uid and gid gets the capture of calls to itself, where
//! Istio gives it to the first uid only; and what the proxy sends passes *before* everything on
//! `lo` does, so that the latter needs no owner test, which nf_tables cannot do for packets
//! without a socket.
//!
//! One file for each way of a packet: [`inbound`] (arriving), [`outbound`] (sent), [`tproxy`]
//! (both, where marks carry it), [`dns`] (queries and their conntrack zones); beside them
//! [`cidrs`], what lists of CIDRs become.

mod cidrs;
mod dns;
mod identity;
mod inbound;
mod outbound;
mod tproxy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_abi::name::set;

use crate::capture::{CaptureConfig, Ports};
use crate::facts::PodFacts;
use crate::ranges::v4_block;
use crate::ruleset::{
    AddressTest, Chain, Elements, Family, Hook, Match, PortTest, Rule, Ruleset, Set, Verdict,
};

/// All that a policy asks of a pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The rules.
    pub ruleset: Ruleset,
    /// How marked packets find the proxy, if there are any.
    pub routing: Option<PolicyRouting>,
    /// Whether IPv6 is captured. Then the proxy needs `::6` on `lo` to call the application from.
    pub ipv6: bool,
}

/// A policy rule and a route: packets with a mark are for this machine, whatever their destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRouting {
    /// The mark.
    pub mark: u32,
    /// The table of the local default route.
    pub table: u32,
    /// Whether for IPv6 too.
    pub ipv6: bool,
}

/// The rules for a policy in a pod of which these facts are known, as nf_tables takes them.
#[must_use]
pub fn plan(config: &CaptureConfig, pod: &PodFacts) -> Plan {
    plan_with(config, pod, true)
}

/// The same as iptables takes them, which looks up nothing in a hash table: one rule for each list
/// of CIDRs.
#[must_use]
pub fn plan_for_iptables(config: &CaptureConfig, pod: &PodFacts) -> Plan {
    plan_with(config, pod, false)
}

fn plan_with(config: &CaptureConfig, pod: &PodFacts, hashes: bool) -> Plan {
    let ipv6 = pod.addresses.capture_ipv6(config.ipv6);
    let mut planner = Planner {
        config,
        pod,
        ipv6,
        hashes,
        sets: Vec::new(),
    };
    let chains = Hook::ALL.map(|hook| Chain {
        hook,
        rules: planner.chain(hook),
    });
    planner.sets.sort_by(|a, b| a.name.cmp(&b.name));
    Plan {
        ruleset: Ruleset {
            sets: planner.sets,
            chains: chains
                .into_iter()
                .filter(|chain| !chain.rules.is_empty())
                .collect(),
        },
        routing: config.inbound.tproxy().map(|(mark, table)| PolicyRouting {
            mark: mark.get(),
            table,
            ipv6,
        }),
        ipv6,
    }
}

/// A policy on its way to rules, and the sets met so far.
struct Planner<'a> {
    config: &'a CaptureConfig,
    pod: &'a PodFacts,
    ipv6: bool,
    /// Whether many single addresses get a set of their own.
    hashes: bool,
    sets: Vec<Set>,
}

impl Planner<'_> {
    fn chain(&mut self, hook: Hook) -> Vec<Rule> {
        let (ipv6_off, rules) = match hook {
            Hook::RawPrerouting => self.answers_by_zone(),
            Hook::RawOutput => self.queries_by_zone(),
            Hook::ManglePrerouting => self.arriving_packets(),
            Hook::MangleOutput => self.sent_packets(),
            Hook::NatPrerouting => self.arriving_connections(),
            Hook::NatOutput => self.opened_connections(),
        };
        // IPv6 that is not captured leaves at once, and is counted: a bypass is seen.
        let passes = (!self.ipv6 && !rules.is_empty())
            .then(|| rule(ipv6_off, [Match::Family(Family::V6)], Verdict::Return));
        passes.into_iter().chain(rules).collect()
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

    /// Loopback addresses of each captured family: the test for them, or for all others.
    fn loopback(&mut self, inside: bool) -> [AddressTest; 2] {
        let block = self.config.loopback_v4;
        let v4 = if block.prefix_len() == 32 {
            let address = IpAddr::V4(block.addr());
            if inside {
                AddressTest::Is(address)
            } else {
                AddressTest::IsNot(address)
            }
        } else {
            let elements = Elements::V4([v4_block(&block)].into_iter().collect());
            self.declare(set::LOOPBACK_V4, elements);
            let name = set::LOOPBACK_V4.to_owned();
            if inside {
                AddressTest::In(Family::V4, name)
            } else {
                AddressTest::NotIn(Family::V4, name)
            }
        };
        let v6 = if inside {
            AddressTest::Is(LOOPBACK_V6)
        } else {
            AddressTest::IsNot(LOOPBACK_V6)
        };
        [v4, v6]
    }

    /// Declares a set unless it is empty, and gives its name.
    fn set(&mut self, name: &str, empty: bool, elements: Elements) -> Option<String> {
        if empty {
            return None;
        }
        self.declare(name, elements);
        Some(name.to_owned())
    }

    /// Declares a set. Rules may share one.
    fn declare(&mut self, name: &str, elements: Elements) {
        if self.sets.iter().all(|set| set.name != name) {
            self.sets.push(Set {
                name: name.to_owned(),
                elements,
            });
        }
    }
}

const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// An address as a block that holds only it.
fn single_v4(address: Ipv4Addr) -> (u32, u32) {
    (address.to_bits(), address.to_bits())
}

/// An address as a block that holds only it.
fn single_v6(address: Ipv6Addr) -> (u128, u128) {
    (address.to_bits(), address.to_bits())
}

fn rule(key: &str, matches: impl IntoIterator<Item = Match>, verdict: Verdict) -> Rule {
    Rule {
        key: key.to_owned(),
        matches: matches.into_iter().collect(),
        verdict,
    }
}

/// The key of a rule that is written once for each interface.
fn by_interface(key: &str, interface: &crate::capture::InterfaceName) -> String {
    format!("{key}:{interface}")
}
