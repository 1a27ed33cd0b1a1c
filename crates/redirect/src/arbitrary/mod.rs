//! Random policies for tests: each field takes each kind of value, contradictions included.
//!
//! This is the one place where they are put together. What a field holds depends on who asks
//! ([`Leaves`]): a parser is given whatever can be written, a kernel what it can look up, a lab
//! what its flows can tell apart.

mod any;
#[cfg(test)]
mod sound;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

#[cfg(test)]
pub(crate) use sound::is_sound;

use crate::capture::{
    CaptureConfig, CgroupPath, DNS_PROXY, Dns, DnsServers, INBOUND, Inbound, InboundCapture,
    InboundMode, InterfaceName, Interfaces, Ipv6Mode, Mark, OUTBOUND, Outbound, OutboundCapture,
    OwnerGroups, Port, Ports, ProxyIdentity, TUNNEL,
};

/// What the fields of a policy are made of.
#[derive(Debug)]
pub struct Leaves {
    /// Where a listener is that is not at its usual port; every second one is not, or fewer.
    pub port: BoxedStrategy<Port>,
    /// Whether a listener is at its usual port.
    pub usual: BoxedStrategy<bool>,
    /// A list of ports.
    pub ports: BoxedStrategy<Ports>,
    /// A block of addresses.
    pub block: BoxedStrategy<IpNet>,
    /// The id of a user or group.
    pub id: BoxedStrategy<u32>,
    /// A mark, of the proxy or of TPROXY.
    pub mark: BoxedStrategy<Mark>,
    /// A route table.
    pub table: BoxedStrategy<u32>,
    /// The proxy's cgroup.
    pub cgroup: BoxedStrategy<Option<CgroupPath>>,
    /// An interface.
    pub interface: BoxedStrategy<InterfaceName>,
    /// A DNS server.
    pub server: BoxedStrategy<IpAddr>,
    /// What counts as loopback.
    pub loopback: BoxedStrategy<Ipv4Net>,
}

/// A policy, valid or not. 40 in 100 are by TPROXY, half capture DNS.
pub fn policy(leaves: &Leaves) -> impl Strategy<Value = CaptureConfig> + use<> {
    let ipv6 = prop_oneof![
        6 => Just(Ipv6Mode::Auto),
        2 => Just(Ipv6Mode::On),
        1 => Just(Ipv6Mode::Istio),
        1 => Just(Ipv6Mode::Off),
    ];
    let parts = (
        proxy(leaves),
        inbound(leaves),
        outbound(leaves),
        option::weighted(0.5, dns(leaves)),
        interfaces(leaves),
        leaves.loopback.clone(),
        proptest::bool::weighted(0.2),
        ipv6,
    );
    parts.prop_map(
        |(proxy, inbound, outbound, dns, interfaces, loopback_v4, drop_invalid, ipv6)| {
            CaptureConfig {
                proxy,
                inbound,
                outbound,
                dns,
                interfaces,
                loopback_v4,
                drop_invalid,
                ipv6,
            }
        },
    )
}

/// A policy whose parts can stand together.
pub fn valid_policy(leaves: &Leaves) -> impl Strategy<Value = CaptureConfig> + use<> {
    policy(leaves).prop_filter("a policy that is refused", |config| {
        config.validate().is_ok()
    })
}

/// Where a listener is.
fn listener(leaves: &Leaves, usual: Port) -> impl Strategy<Value = Port> + use<> {
    (leaves.usual.clone(), leaves.port.clone())
        .prop_map(move |(is_usual, other)| if is_usual { usual } else { other })
}

fn ids(leaves: &Leaves) -> impl Strategy<Value = BTreeSet<u32>> + use<> {
    btree_set(leaves.id.clone(), 0..4)
}

/// Some lists are long: nf_tables hashes the addresses among them, and no longer their blocks.
fn blocks(leaves: &Leaves, most: usize) -> impl Strategy<Value = Vec<IpNet>> + use<> {
    let parts = (
        vec(leaves.block.clone(), 0..=most),
        proptest::bool::weighted(0.05),
    );
    parts.prop_map(|(mut blocks, long)| {
        if long && !blocks.is_empty() {
            blocks.extend((0..260).flat_map(|n| [filler(n, false), filler(n, true)]));
        }
        blocks
    })
}

/// An address for benchmarks or documentation; the next is its neighbour's neighbour.
fn filler(n: u32, ipv6: bool) -> IpNet {
    if ipv6 {
        let first = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0);
        IpAddr::from(Ipv6Addr::from_bits(first.to_bits() + u128::from(2 * n))).into()
    } else {
        let first = Ipv4Addr::new(198, 18, 0, 0);
        IpAddr::from(Ipv4Addr::from_bits(first.to_bits() + 2 * n)).into()
    }
}

fn proxy(leaves: &Leaves) -> impl Strategy<Value = ProxyIdentity> + use<> {
    (
        ids(leaves),
        ids(leaves),
        option::weighted(0.2, leaves.mark.clone()),
        leaves.cgroup.clone(),
        proptest::bool::weighted(0.8),
    )
        .prop_map(|(uids, gids, mark, cgroup, self_calls)| ProxyIdentity {
            uids,
            gids,
            mark,
            cgroup,
            self_calls,
        })
}

fn inbound(leaves: &Leaves) -> impl Strategy<Value = Inbound> + use<> {
    let capture = prop_oneof![
        1 => Just(InboundCapture::Nothing),
        6 => Just(InboundCapture::All),
        2 => leaves.ports.clone().prop_map(InboundCapture::Only),
    ];
    let mode = prop_oneof![
        6 => Just(InboundMode::Redirect),
        4 => (leaves.mark.clone(), leaves.table.clone())
            .prop_map(|(mark, table)| InboundMode::Tproxy { mark, table }),
    ];
    (
        listener(leaves, INBOUND),
        option::weighted(0.8, listener(leaves, TUNNEL)),
        mode,
        capture,
        leaves.ports.clone(),
        blocks(leaves, 3),
    )
        .prop_map(
            |(port, tunnel, mode, capture, exclude_ports, exclude_sources)| Inbound {
                port,
                tunnel,
                mode,
                capture,
                exclude_ports,
                exclude_sources,
            },
        )
}

fn outbound(leaves: &Leaves) -> impl Strategy<Value = Outbound> + use<> {
    let capture = prop_oneof![
        3 => Just(OutboundCapture::All),
        2 => blocks(leaves, 7).prop_map(OutboundCapture::Only),
    ];
    let owners = prop_oneof![
        6 => Just(OwnerGroups::default()),
        2 => ids(leaves).prop_map(OwnerGroups::Except),
        1 => ids(leaves).prop_map(OwnerGroups::Only),
    ];
    (
        listener(leaves, OUTBOUND),
        capture,
        blocks(leaves, 5),
        leaves.ports.clone(),
        leaves.ports.clone(),
        owners,
    )
        .prop_map(
            |(port, capture, exclude_cidrs, include_ports, exclude_ports, owners)| Outbound {
                port,
                capture,
                exclude_cidrs,
                include_ports,
                exclude_ports,
                owners,
            },
        )
}

fn dns(leaves: &Leaves) -> impl Strategy<Value = Dns> + use<> {
    let servers = prop_oneof![
        Just(DnsServers::All),
        Just(DnsServers::ResolvConf),
        vec(leaves.server.clone(), 0..4).prop_map(DnsServers::Only),
    ];
    (listener(leaves, DNS_PROXY), servers).prop_map(|(port, servers)| Dns { port, servers })
}

fn interfaces(leaves: &Leaves) -> impl Strategy<Value = Interfaces> + use<> {
    let some = |weight: f64| {
        let names = btree_set(leaves.interface.clone(), 1..3);
        option::weighted(weight, names).prop_map(Option::unwrap_or_default)
    };
    (some(0.15), some(0.2)).prop_map(|(exclude, reroute)| Interfaces { exclude, reroute })
}
