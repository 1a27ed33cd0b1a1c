//! Policies that nobody thought of, within what a lab can tell apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use shunt_redirect::CaptureConfig;
use shunt_redirect::capture::{
    Dns, DnsServers, Inbound, InboundCapture, InboundMode, InterfaceName, Interfaces, Ipv6Mode,
    Mark, Outbound, OutboundCapture, OwnerGroups, Port, Ports, ProxyIdentity,
};

/// Any policy that is not refused: 30 to 40 in 100 by TPROXY, half with DNS capture.
pub fn policy() -> impl Strategy<Value = CaptureConfig> {
    let ipv6 = prop_oneof![
        6 => Just(Ipv6Mode::Auto),
        2 => Just(Ipv6Mode::On),
        1 => Just(Ipv6Mode::Off),
    ];
    let loopback = prop_oneof![4 => Just(32u8), 1 => 8u8..32].prop_map(|length| {
        Ipv4Net::new(Ipv4Addr::LOCALHOST, length)
            .unwrap_or(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32))
            .trunc()
    });
    let parts = (
        proxy(),
        inbound(),
        outbound(),
        option::weighted(0.5, dns()),
        interfaces(),
        loopback,
        proptest::bool::weighted(0.2),
        ipv6,
    );
    parts
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
        .prop_filter("a policy that is refused", |config| {
            config.validate().is_ok()
        })
}

fn port() -> impl Strategy<Value = Port> {
    (1u16..).prop_filter_map("port 0", Port::new)
}

fn fixed(number: u16) -> impl Strategy<Value = Port> {
    prop_oneof![
        4 => Just(number).prop_filter_map("port 0", Port::new),
        1 => port(),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let common = select(&[80u16, 443, 8080, 9080, 53, 15_020, 15_090][..]);
    let one = common.prop_map(|port| (port, port));
    let range = (1u16.., 0u16..1000).prop_map(|(first, more)| (first, first.saturating_add(more)));
    let edge = prop_oneof![Just((1, 1)), Just((u16::MAX, u16::MAX))];
    vec(prop_oneof![4 => one, 2 => range, 1 => edge], 0..5)
        .prop_map(|ranges| ranges.into_iter().collect())
}

fn block() -> impl Strategy<Value = IpNet> {
    let v4 = prop_oneof![
        (0u8..4, any::<u16>()).prop_map(|(net, host)| {
            let [high, low] = host.to_be_bytes();
            Ipv4Addr::new(10, 96 + net, high, low)
        }),
        any::<u8>().prop_map(|host| Ipv4Addr::new(203, 0, 113, host)),
        any::<u32>().prop_map(Ipv4Addr::from_bits),
    ];
    let v6 = (0u16..9, any::<u16>())
        .prop_map(|(net, host)| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host));
    let v4_length = prop_oneof![Just(32u8), Just(24), Just(16), 1u8..=32];
    let v6_length = prop_oneof![Just(128u8), Just(64), Just(48), Just(32), 1u8..=128];
    prop_oneof![
        (v4, v4_length).prop_map(|(address, length)| (IpAddr::from(address), length)),
        (v6, v6_length).prop_map(|(address, length)| (IpAddr::from(address), length)),
    ]
    .prop_filter_map("a longer prefix than there is", |(address, length)| {
        IpNet::new(address, length).ok().map(|block| block.trunc())
    })
}

fn loopback_block() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        Just(IpNet::new_assert(IpAddr::V4(Ipv4Addr::LOCALHOST), 32)),
        Just(IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
    ]
}

fn blocks(most: usize) -> impl Strategy<Value = Vec<IpNet>> {
    vec(prop_oneof![9 => block(), 1 => loopback_block()], 0..most)
}

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![Just(1337u32), 1u32..].prop_filter_map("mark 0", Mark::new)
}

fn inbound() -> impl Strategy<Value = Inbound> {
    let capture = prop_oneof![
        1 => Just(InboundCapture::Nothing),
        6 => Just(InboundCapture::All),
        2 => ports().prop_map(InboundCapture::Only),
    ];
    let mode = prop_oneof![
        6 => Just(InboundMode::Redirect),
        4 => (mark(), prop_oneof![Just(133u32), 1u32..250])
            .prop_map(|(mark, table)| InboundMode::Tproxy { mark, table }),
    ];
    (
        fixed(15_006),
        option::weighted(0.8, fixed(15_008)),
        mode,
        capture,
        ports(),
        vec(block(), 0..3),
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

fn ids() -> impl Strategy<Value = BTreeSet<u32>> {
    btree_set(
        prop_oneof![3 => Just(1337u32), 1 => 0u32..5, 1 => 1000u32..1004, 1 => 0u32..u32::MAX],
        0..3,
    )
}

fn proxy() -> impl Strategy<Value = ProxyIdentity> {
    (
        ids(),
        ids(),
        option::weighted(0.2, mark()),
        proptest::bool::weighted(0.8),
    )
        .prop_map(|(uids, gids, mark, self_calls)| ProxyIdentity {
            uids,
            gids,
            mark,
            cgroup: None,
            self_calls,
        })
}

fn outbound() -> impl Strategy<Value = Outbound> {
    let capture = prop_oneof![
        3 => Just(OutboundCapture::All),
        2 => blocks(6).prop_map(OutboundCapture::Only),
    ];
    let owners = prop_oneof![
        6 => Just(OwnerGroups::default()),
        2 => ids().prop_map(OwnerGroups::Except),
        1 => ids().prop_map(OwnerGroups::Only),
    ];
    (fixed(15_001), capture, blocks(4), ports(), ports(), owners).prop_map(
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
    let server = prop_oneof![
        Just(IpAddr::from([10, 96, 0, 10])),
        Just(IpAddr::from([127, 0, 0, 53])),
        Just(IpAddr::from([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10])),
        (1u8..250).prop_map(|host| IpAddr::from([203, 0, 113, host])),
    ];
    let servers = prop_oneof![
        Just(DnsServers::All),
        Just(DnsServers::ResolvConf),
        vec(server, 1..4).prop_map(DnsServers::Only),
    ];
    (fixed(15_053), servers).prop_map(|(port, servers)| Dns { port, servers })
}

fn interfaces() -> impl Strategy<Value = Interfaces> {
    let some = |weight: f64| {
        let names = btree_set(select(&["eth0", "eth1", "eth+", "tap0"][..]), 1..3);
        option::weighted(weight, names).prop_map(|names| {
            let names = names.unwrap_or_default().into_iter();
            names.filter_map(InterfaceName::new).collect()
        })
    };
    (some(0.15), some(0.2)).prop_map(|(exclude, reroute)| Interfaces { exclude, reroute })
}
