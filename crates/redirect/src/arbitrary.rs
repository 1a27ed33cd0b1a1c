//! Random policies for tests: each field takes each kind of value, contradictions included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::capture::{
    CaptureConfig, CgroupPath, Dns, DnsServers, Inbound, InboundCapture, InboundMode,
    InterfaceName, Interfaces, Ipv6Mode, Mark, Outbound, OutboundCapture, OwnerGroups, Port, Ports,
    ProxyIdentity,
};
use crate::facts::PodFacts;
use crate::nft::render;
use crate::plan::plan;
use crate::policy;
use crate::routing::{PodAddress, PodAddresses};
use crate::ruleset::Hook;

/// What holds of every policy that a parser accepts: its parts can stand together, it can be written
/// as a file that means the same, and it can be planned for a pod with both families.
pub(crate) fn is_sound(config: &CaptureConfig) -> Result<(), TestCaseError> {
    prop_assert_eq!(config.validate(), Ok(()));
    let text = policy::write(config).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let again = policy::read(&text);
    prop_assert_eq!(again.as_ref(), Ok(config), "{}", text);
    let addresses = ["10.0.0.2", "fd00::2"].map(|address| PodAddress {
        interface: 2,
        address: address.parse().unwrap(),
    });
    let pod = PodFacts::with_addresses(PodAddresses::new(addresses.to_vec()));
    let plan = plan(config, &pod);
    let output = |hook| plan.ruleset.chains.iter().any(|chain| chain.hook == hook);
    prop_assert!(output(Hook::NatOutput));
    prop_assert!(!render::table(&plan.ruleset).is_empty());
    Ok(())
}

/// Any policy, valid or not.
pub(crate) fn config() -> impl Strategy<Value = CaptureConfig> {
    let rest = (
        option::of(dns()),
        (btree_set(interface(), 0..3), btree_set(interface(), 0..3)),
        prop_oneof![
            9 => (0u32..=0x00ff_ffff, 8u8..=32).prop_map(|(host, length)| {
                loopback(0x7f00_0000 | host, length)
            }),
            1 => (any::<u32>(), 0u8..=32).prop_map(|(address, length)| loopback(address, length)),
        ],
        any::<bool>(),
        prop::sample::select(vec![
            Ipv6Mode::Auto,
            Ipv6Mode::Istio,
            Ipv6Mode::On,
            Ipv6Mode::Off,
        ]),
    );
    (proxy(), inbound(), outbound(), rest).prop_map(
        |(proxy, inbound, outbound, (dns, (exclude, reroute), loopback_v4, drop_invalid, ipv6))| {
            CaptureConfig {
                proxy,
                inbound,
                outbound,
                dns,
                interfaces: Interfaces { exclude, reroute },
                loopback_v4,
                drop_invalid,
                ipv6,
            }
        },
    )
}

fn loopback(address: u32, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(address), length).trunc()
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![1u16.., 15000u16..15010]
        .prop_map(|port| Port::new(port).unwrap_or(crate::capture::OUTBOUND))
}

fn ports() -> impl Strategy<Value = Ports> {
    vec((1u16.., 0u16..100), 0..4).prop_map(|ranges| {
        ranges
            .into_iter()
            .map(|(first, more)| (first, first.saturating_add(more)))
            .collect()
    })
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..5, 1337u32..1339, 0u32..u32::MAX]
}

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![1u32..4, 1337u32..1339, 1u32..]
        .prop_map(|mark| Mark::new(mark).unwrap_or(Mark::MIN))
}

fn cidr() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<Ipv4Addr>(), 0u8..=32)
        .prop_map(|(address, length)| IpNet::V4(Ipv4Net::new_assert(address, length).trunc()));
    let v6 = (any::<Ipv6Addr>(), 0u8..=128)
        .prop_map(|(address, length)| IpNet::V6(Ipv6Net::new_assert(address, length).trunc()))
        .prop_filter("no packet has a mapped address", |block| {
            block.prefix_len() < 96 || block.addr().to_canonical().is_ipv6()
        });
    prop_oneof![v4, v6]
}

fn interface() -> impl Strategy<Value = InterfaceName> {
    "[a-z0-9._@-]{1,14}[a-z0-9+]?".prop_filter_map("a name", |name| InterfaceName::new(&name))
}

fn proxy() -> impl Strategy<Value = ProxyIdentity> {
    let cgroup = "[a-zA-Z0-9:#&*!{}._@%-]{1,9}(/[a-z0-9.]{1,9}){0,3}"
        .prop_filter_map("a path", |path| CgroupPath::new(&path));
    (
        btree_set(id(), 0..3),
        btree_set(id(), 0..3),
        option::of(mark()),
        option::of(cgroup),
        any::<bool>(),
    )
        .prop_map(|(uids, gids, mark, cgroup, self_calls)| ProxyIdentity {
            uids,
            gids,
            mark,
            cgroup,
            self_calls,
        })
}

fn inbound() -> impl Strategy<Value = Inbound> {
    let mode = prop_oneof![
        Just(InboundMode::Redirect),
        (mark(), prop_oneof![9 => 1u32..252, 1 => any::<u32>()])
            .prop_map(|(mark, table)| InboundMode::Tproxy { mark, table }),
    ];
    let capture = prop_oneof![
        Just(InboundCapture::Nothing),
        Just(InboundCapture::All),
        ports().prop_map(InboundCapture::Only),
    ];
    (
        port(),
        option::of(port()),
        mode,
        capture,
        ports(),
        vec(cidr(), 0..3),
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

fn outbound() -> impl Strategy<Value = Outbound> {
    let capture = prop_oneof![
        Just(OutboundCapture::All),
        vec(cidr(), 0..4).prop_map(OutboundCapture::Only),
    ];
    let owners = prop_oneof![
        btree_set(id(), 0..3).prop_map(OwnerGroups::Except),
        btree_set(id(), 0..3).prop_map(OwnerGroups::Only),
    ];
    (port(), capture, vec(cidr(), 0..4), ports(), ports(), owners).prop_map(
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

fn dns() -> impl Strategy<Value = Dns> {
    let servers = prop_oneof![
        Just(DnsServers::ResolvConf),
        Just(DnsServers::All),
        vec(any::<IpAddr>(), 0..3).prop_map(DnsServers::Only),
    ];
    (port(), servers).prop_map(|(port, servers)| Dns { port, servers })
}
