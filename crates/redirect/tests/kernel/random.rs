//! Policies that nobody thought of: the kernel takes them, gives them back, and `nft` agrees.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use shunt_redirect::capture::{
    CaptureConfig, Dns, DnsServers, Inbound, InboundCapture, InboundMode, InterfaceName,
    Interfaces, Ipv6Mode, Mark, Outbound, OutboundCapture, OwnerGroups, Port, Ports, ProxyIdentity,
};
use shunt_redirect::nft::render;
use shunt_redirect::{Change, apply};

use crate::iptables;
use crate::support::{in_pod, listed};

fn port() -> impl Strategy<Value = Port> {
    (1u16..).prop_map(|port| Port::new(port).unwrap())
}

fn ports() -> impl Strategy<Value = Ports> {
    let edges = prop_oneof![Just(1u16), Just(u16::MAX), 1u16..];
    vec((edges.clone(), edges), 0..6).prop_map(|ranges| ranges.into_iter().collect())
}

fn block() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<Ipv4Addr>(), 0u8..=32);
    let v6 = (any::<Ipv6Addr>(), 0u8..=128);
    prop_oneof![
        v4.prop_map(|(address, length)| (IpAddr::from(address), length)),
        v6.prop_map(|(address, length)| (IpAddr::from(address), length)),
    ]
    .prop_map(|(address, length)| IpNet::new(address, length).unwrap())
}

fn inbound() -> impl Strategy<Value = Inbound> {
    let capture = prop_oneof![
        Just(InboundCapture::Nothing),
        Just(InboundCapture::All),
        ports().prop_map(InboundCapture::Only),
    ];
    let mode = prop_oneof![
        Just(InboundMode::Redirect),
        (mark(), 1u32..=1000).prop_map(|(mark, table)| InboundMode::Tproxy { mark, table }),
    ];
    (
        port(),
        option::of(port()),
        mode,
        capture,
        ports(),
        vec(block(), 0..4),
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

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![Just(1337), 1u32..].prop_map(|mark| Mark::new(mark).unwrap())
}

fn ids() -> impl Strategy<Value = BTreeSet<u32>> {
    btree_set(prop_oneof![0..u32::MAX, 0u32..20], 0..6)
}

fn outbound() -> impl Strategy<Value = Outbound> {
    let capture = prop_oneof![
        Just(OutboundCapture::All),
        vec(block(), 0..8).prop_map(OutboundCapture::Only),
    ];
    let owners = prop_oneof![
        Just(OwnerGroups::default()),
        ids().prop_map(OwnerGroups::Except),
        ids().prop_map(OwnerGroups::Only),
    ];
    (
        port(),
        capture,
        vec(block(), 0..8),
        ports(),
        ports(),
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

fn dns() -> impl Strategy<Value = Dns> {
    let servers = prop_oneof![
        Just(DnsServers::All),
        Just(DnsServers::ResolvConf),
        vec(block().prop_map(|block| block.addr()), 0..4).prop_map(DnsServers::Only),
    ];
    (port(), servers).prop_map(|(port, servers)| Dns { port, servers })
}

fn interfaces() -> impl Strategy<Value = Interfaces> {
    const NAMES: [&str; 5] = ["eth0", "eth1", "tap+", "a-b_c.d@e", "fifteen-letters"];
    let some = || btree_set(select(&NAMES[..]), 0..3);
    let parsed = |names: BTreeSet<&str>| {
        let names = names.into_iter();
        names
            .map(|name| InterfaceName::new(name).unwrap())
            .collect()
    };
    (some(), some()).prop_map(move |(exclude, reroute)| Interfaces {
        exclude: parsed(exclude),
        reroute: parsed(reroute),
    })
}

pub(crate) fn config() -> impl Strategy<Value = CaptureConfig> {
    let proxy = (ids(), ids(), option::of(mark()), any::<bool>()).prop_map(
        |(uids, gids, mark, self_calls)| ProxyIdentity {
            uids,
            gids,
            mark,
            cgroup: None,
            self_calls,
        },
    );
    let ipv6 = prop_oneof![
        Just(Ipv6Mode::Auto),
        Just(Ipv6Mode::On),
        Just(Ipv6Mode::Off)
    ];
    let loopback =
        (8u8..=32).prop_map(|length| Ipv4Net::new(Ipv4Addr::LOCALHOST, length).unwrap().trunc());
    (
        proxy,
        inbound(),
        outbound(),
        option::of(dns()),
        interfaces(),
        loopback,
        any::<bool>(),
        ipv6,
    )
        .prop_map(
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
        .prop_filter("its parts stand together", |config| {
            config.validate().is_ok()
        })
}

#[test]
fn any_policy_is_held_by_the_kernel_as_meant_and_listed_as_printed() {
    in_pod(|| {
        let mut runner = TestRunner::new(Config::with_cases(60));
        let checked = runner.run(&config(), |config| {
            // Writing reads back and compares; what nft says is a second opinion.
            let applied = apply(&config).unwrap();
            prop_assert_eq!(listed(), render::table(&applied.plan.ruleset));
            let again = apply(&config).unwrap();
            prop_assert_eq!(again.change, Change::Unchanged);
            Ok(())
        });
        checked.unwrap();
    });
}

#[test]
fn any_policy_is_held_by_iptables_as_printed() {
    for flavour in iptables::FLAVOURS {
        in_pod(|| {
            let mut runner = TestRunner::new(Config::with_cases(40));
            let checked = runner.run(&config(), |config| {
                iptables::applied(&config, flavour);
                let again = iptables::applied(&config, flavour);
                prop_assert_eq!(again.change, Change::Unchanged);
                Ok(())
            });
            checked.unwrap();
        });
    }
}
