//! What the parts of a flow are tried with: who sends, and the edges of what rules name.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_abi::name;

use super::decide::{self, Sender};
use super::stage::random;
use crate::ranges::{Ranges, Scalar};
use crate::ruleset::{Elements, Family, Match, PortTest, Ruleset, Verdict};

/// Whom probes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ability {
    /// Uid and gid of this process.
    pub(super) own: (u32, u32),
    /// Whether sockets can belong to any other user and group.
    pub(super) any_owner: bool,
}

/// Intervals of a set whose edges are tried.
const INTERVALS: usize = 16;
/// Everybody that a rule could tell from the others; the first is an application.
pub(super) fn senders(rules: &Ruleset, ability: Ability) -> Vec<Sender> {
    let (own_uid, own_gid) = ability.own;
    let mut uids = vec![own_uid];
    let mut gids = vec![own_gid];
    if ability.any_owner {
        let before = |id: u32| id.checked_sub(1);
        // The last number stands for "as it is".
        let is_id = |id: &u32| *id != u32::MAX;
        let nobody = |taken: &dyn Fn(u32) -> bool| (20_000..40_000).find(|id| !taken(*id));
        let proxy_uid = |id| decide::id(id, name::set::PROXY_UIDS, rules);
        let taken_gid = |id| {
            decide::id(id, name::set::PROXY_GIDS, rules)
                || decide::id(id, name::set::OWNER_GROUPS, rules)
        };
        // Whoever runs this may be the proxy's user.
        uids = nobody(&proxy_uid).into_iter().chain([own_uid]).collect();
        gids = nobody(&taken_gid).into_iter().chain([own_gid]).collect();
        for set in &rules.sets {
            match &set.elements {
                Elements::Uids(ids) => uids.extend(edges(ids, before).filter(is_id)),
                Elements::Gids(ids) => gids.extend(edges(ids, before).filter(is_id)),
                _ => {}
            }
        }
    }
    let marks = matches(rules).filter_map(|test| match test {
        Match::Mark(mark) => Some(*mark),
        _ => None,
    });
    let plain = |uid, gid, mark| Sender { uid, gid, mark };
    let mut senders: Vec<Sender> = Vec::new();
    let by_uid = uids.iter().map(|uid| plain(*uid, gids[0], 0));
    let by_gid = gids.iter().map(|gid| plain(uids[0], *gid, 0));
    let by_mark = marks.map(|mark| plain(uids[0], gids[0], mark));
    for sender in by_uid.chain(by_gid).chain(by_mark) {
        if !senders.contains(&sender) {
            senders.push(sender);
        }
    }
    senders
}

fn matches(rules: &Ruleset) -> impl Iterator<Item = &Match> {
    rules
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.matches)
}

/// The edges of all sets of addresses of a family, inside and outside.
pub(super) fn addresses(rules: &Ruleset, family: Family) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for set in &rules.sets {
        match (&set.elements, family) {
            (Elements::V4(blocks), Family::V4) => {
                let edges = edges(blocks, |address: u32| address.checked_sub(1));
                addresses.extend(edges.map(|bits| IpAddr::V4(bits.into())));
            }
            (Elements::V6(blocks), Family::V6) => {
                let edges = edges(blocks, |address: u128| address.checked_sub(1));
                addresses.extend(edges.map(|bits| IpAddr::V6(bits.into())));
            }
            _ => {}
        }
    }
    addresses
}

/// The edges of all ports that rules for sent packets, or for arriving ones, name: inside and
/// outside. What they redirect to is a destination like any other.
pub(super) fn ports(rules: &Ruleset, output: bool) -> Vec<u16> {
    let before = |port: u16| port.checked_sub(1);
    let chains = rules.chains.iter();
    let chains = chains.filter(|chain| chain.hook.is_output() == output);
    let mut ports = BTreeSet::new();
    for rule in chains.flat_map(|chain| &chain.rules) {
        for test in &rule.matches {
            let Match::DestinationPort(_, test) = test else {
                continue;
            };
            match test {
                PortTest::Is(port) | PortTest::IsNot(port) => {
                    let single: Ranges<u16> = [(*port, *port)].into_iter().collect();
                    ports.extend(edges(&single, before));
                }
                PortTest::In(set) | PortTest::NotIn(set) => {
                    if let Some(Elements::Ports(set)) = rules.set(set).map(|set| &set.elements) {
                        ports.extend(edges(set, before));
                    }
                }
            }
        }
        if let Verdict::Redirect(port) = rule.verdict {
            ports.insert(port.get());
        }
    }
    ports.remove(&0);
    ports.into_iter().collect()
}

pub(super) fn source_ports_named(rules: &Ruleset) -> impl Iterator<Item = u16> {
    let named: BTreeSet<u16> = matches(rules)
        .filter_map(|test| match test {
            Match::SourcePort(_, PortTest::Is(port)) => Some(*port),
            _ => None,
        })
        .collect();
    named.into_iter()
}

/// First and last of each interval, and the values next to them.
fn edges<T: Scalar>(
    ranges: &Ranges<T>,
    before: impl Fn(T) -> Option<T>,
) -> impl Iterator<Item = T> {
    ranges
        .iter()
        .take(INTERVALS)
        .flat_map(|(first, last)| [before(first), Some(first), Some(last), last.successor()])
        .flatten()
        .collect::<Vec<_>>()
        .into_iter()
}

/// Whether packets can go to an address, and come from it, by a link.
pub(super) fn is_far(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback()
                && !address.is_multicast()
                && !address.is_broadcast()
                // "This network" and reserved blocks: kernels differ.
                && address.octets()[0] != 0
                && address.octets()[0] < 240
        }
        IpAddr::V6(address) => {
            // Unspecified, loopback, and addresses of IPv4 in disguise.
            address.to_bits() >> 96 != 0
                && !address.is_multicast()
                && !address.is_unicast_link_local()
        }
    }
}

/// A port that no rule names.
pub(super) fn usual_port(rules: &Ruleset) -> u16 {
    let named = |candidate: u16| {
        rules.sets.iter().any(|set| match &set.elements {
            Elements::Ports(ports) => ports.contains(candidate),
            _ => false,
        })
    };
    let edges = [ports(rules, true), ports(rules, false)].concat();
    (0..1000)
        .map(|_| random_port())
        .find(|candidate| !named(*candidate) && !edges.contains(candidate))
        .unwrap_or(1)
}

/// From 32768 to 60999, as the kernel gives them out.
const FIRST_PORT: u16 = 32_768;
const PORTS: u16 = 28_232;

thread_local! {
    /// Where the next port is: from a random one on, so that a run never uses one twice, nor one that
    /// a run shortly before it used. Conntrack would take both for the same connection.
    static NEXT: Cell<u16> = Cell::new(u16::try_from(random() % u64::from(PORTS)).unwrap_or(0));
}

/// The port that a flow would have. It is used up only by [`use_up`]: most flows that are thought
/// of are not chosen.
pub(super) fn next_port() -> u16 {
    FIRST_PORT + NEXT.get()
}

/// No later flow has this port, if it is the [`next_port`].
pub(super) fn use_up(port: u16) {
    if port == next_port() {
        NEXT.set((NEXT.get() + 1) % PORTS);
    }
}

/// A port that no other flow has.
pub(super) fn random_port() -> u16 {
    let port = next_port();
    use_up(port);
    port
}
