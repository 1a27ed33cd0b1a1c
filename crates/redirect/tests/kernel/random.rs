//! Policies that nobody thought of: the kernel takes them, gives them back, and `nft` agrees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shunt_redirect::capture::{
    CaptureConfig, Inbound, InboundCapture, Ipv6Mode, Outbound, OutboundCapture, Port, Ports,
    ProxyIdentity,
};
use shunt_redirect::nft::render;
use shunt_redirect::{Change, apply};

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
        ports().prop_map(|except| InboundCapture::All { except }),
        ports().prop_map(InboundCapture::Only),
    ];
    (port(), port(), capture).prop_map(|(port, tunnel, capture)| Inbound {
        port,
        tunnel,
        capture,
    })
}

fn outbound() -> impl Strategy<Value = Outbound> {
    let capture = prop_oneof![
        Just(OutboundCapture::All),
        vec(block(), 0..8).prop_map(OutboundCapture::Only),
    ];
    (port(), capture, vec(block(), 0..8), ports(), ports()).prop_map(
        |(port, capture, exclude_cidrs, include_ports, exclude_ports)| Outbound {
            port,
            capture,
            exclude_cidrs,
            include_ports,
            exclude_ports,
        },
    )
}

fn config() -> impl Strategy<Value = CaptureConfig> {
    let ids = || btree_set(prop_oneof![0..u32::MAX, 0u32..20], 0..6);
    let ipv6 = prop_oneof![Just(Ipv6Mode::Auto), Just(Ipv6Mode::Off)];
    (ids(), ids(), inbound(), outbound(), ipv6).prop_map(|(uids, gids, inbound, outbound, ipv6)| {
        CaptureConfig {
            proxy: ProxyIdentity { uids, gids },
            inbound,
            outbound,
            ipv6,
        }
    })
}

#[test]
fn any_policy_is_held_by_the_kernel_as_meant_and_listed_as_printed() {
    in_pod(|| {
        let mut runner = TestRunner::new(Config::with_cases(60));
        let checked = runner.run(&config(), |config| {
            // Writing reads back and compares; what nft says is a second opinion.
            let applied = apply(&config).unwrap();
            prop_assert_eq!(listed(), render::table(&applied.ruleset));
            let again = apply(&config).unwrap();
            prop_assert_eq!(again.change, Change::Unchanged);
            Ok(())
        });
        checked.unwrap();
    });
}
