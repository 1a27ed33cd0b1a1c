//! Whatever can be written in a policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::Leaves;
use crate::capture::{CgroupPath, InterfaceName, Mark, Port, Ports};

impl Leaves {
    /// Whatever a parser may meet: edges of each type, what other fields hold, and anything else.
    #[must_use]
    pub fn any() -> Self {
        Self {
            port: port().boxed(),
            usual: any::<bool>().boxed(),
            ports: ports().boxed(),
            block: block().boxed(),
            id: prop_oneof![0u32..20, 1337u32..1339, any::<u32>()].boxed(),
            mark: prop_oneof![1u32..4, 1337u32..1339, 1u32..]
                .prop_filter_map("mark 0", Mark::new)
                .boxed(),
            table: prop_oneof![9 => 1u32..=1000, 1 => any::<u32>()].boxed(),
            cgroup: option::of(cgroup()).boxed(),
            interface: interface().boxed(),
            server: prop_oneof![any::<IpAddr>(), block().prop_map(|block| block.addr())].boxed(),
            loopback: loopback().boxed(),
        }
    }
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![1u16.., 15_000u16..15_010].prop_filter_map("port 0", Port::new)
}

fn ports() -> impl Strategy<Value = Ports> {
    let edges = prop_oneof![Just(1u16), Just(u16::MAX), 1u16..];
    let short = (1u16.., 0u16..100).prop_map(|(first, more)| (first, first.saturating_add(more)));
    vec(prop_oneof![(edges.clone(), edges), short], 0..6)
        .prop_map(|ranges| ranges.into_iter().collect())
}

fn block() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<Ipv4Addr>(), 0u8..=32)
        .prop_map(|(address, length)| IpNet::V4(Ipv4Net::new_assert(address, length).trunc()));
    let v6 = (any::<Ipv6Addr>(), 0u8..=128)
        .prop_map(|(address, length)| IpNet::V6(Ipv6Net::new_assert(address, length).trunc()))
        .prop_filter("no packet has a mapped address", |block| {
            block.prefix_len() < 96 || block.addr().to_canonical().is_ipv6()
        });
    prop_oneof![v4, v6]
}

fn cgroup() -> impl Strategy<Value = CgroupPath> {
    "[a-zA-Z0-9:#&*!{}._@%-]{1,9}(/[a-z0-9.]{1,9}){0,3}"
        .prop_filter_map("a path", |path| CgroupPath::new(&path))
}

fn interface() -> impl Strategy<Value = InterfaceName> {
    "[a-z0-9._@-]{1,14}[a-z0-9+]?".prop_filter_map("a name", |name| InterfaceName::new(&name))
}

/// In 127.0.0.0/8 for the most part, as it must be.
fn loopback() -> impl Strategy<Value = Ipv4Net> {
    let within = (0u32..=0x00ff_ffff, 8u8..=32)
        .prop_map(|(host, length)| (Ipv4Addr::from_bits(0x7f00_0000 | host), length));
    let own = (8u8..=32).prop_map(|length| (Ipv4Addr::LOCALHOST, length));
    let anywhere = (any::<Ipv4Addr>(), 0u8..=32);
    prop_oneof![4 => within, 5 => own, 1 => anywhere]
        .prop_map(|(address, length)| Ipv4Net::new_assert(address, length).trunc())
}
