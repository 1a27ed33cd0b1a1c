//! Policies that nobody thought of, within what a lab can tell apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use shunt_redirect::CaptureConfig;
use shunt_redirect::arbitrary::{Leaves, valid_policy};
use shunt_redirect::capture::{CgroupPath, InterfaceName, Mark, Port, Ports};

use crate::lab::Cgroup;
use crate::lab::cgroup::Cgroups;

/// Any policy that is not refused; some know the proxy by one of these cgroups.
pub(super) fn policy(cgroups: &Cgroups) -> Result<impl Strategy<Value = CaptureConfig> + use<>> {
    let paths = Cgroup::ALL.map(|cgroup| cgroups.path(cgroup));
    let paths = paths.into_iter().collect::<Result<Vec<CgroupPath>>>()?;
    let loopback = prop_oneof![4 => Just(32u8), 1 => 8u8..32]
        .prop_map(|length| Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, length).trunc());
    Ok(valid_policy(&Leaves {
        port: (1u16..).prop_filter_map("port 0", Port::new).boxed(),
        usual: proptest::bool::weighted(0.8).boxed(),
        ports: ports().boxed(),
        block: prop_oneof![9 => block(), 1 => loopback_block()].boxed(),
        id: prop_oneof![3 => Just(1337u32), 1 => 0u32..5, 1 => 1000u32..1004, 1 => 0u32..u32::MAX]
            .boxed(),
        mark: prop_oneof![Just(1337u32), 1u32..]
            .prop_filter_map("mark 0", Mark::new)
            .boxed(),
        table: prop_oneof![Just(133u32), 1u32..250].boxed(),
        cgroup: option::weighted(0.25, select(paths)).boxed(),
        interface: select(&["eth0", "eth1", "eth+", "tap0"][..])
            .prop_filter_map("no name", InterfaceName::new)
            .boxed(),
        server: server().boxed(),
        loopback: loopback.boxed(),
    }))
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

fn server() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        Just(IpAddr::from([10, 96, 0, 10])),
        Just(IpAddr::from([127, 0, 0, 53])),
        Just(IpAddr::from([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10])),
        (1u8..250).prop_map(|host| IpAddr::from([203, 0, 113, host])),
    ]
}
