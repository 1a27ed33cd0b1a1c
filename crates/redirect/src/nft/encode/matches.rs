//! Matches to expressions.

use std::net::IpAddr;

use shunt_abi::lo;

use crate::capture::InterfaceName;
use crate::nft::expr::Expr;
use crate::nft::uapi::{NFPROTO_IPV4, NFPROTO_IPV6, expr as abi};
use crate::ruleset::{AddressTest, Family, Match, PortTest, Protocol};

/// A match as expressions, at the end of a rule's.
pub(super) fn encode_match(condition: &Match, list: &mut Vec<Expr>) {
    match condition {
        // meta nfproto ipv6
        Match::Family(family) => list.extend(is_family(*family)),
        // iif "lo"
        Match::InLoopback => list.extend(is_loopback(abi::META_IIF)),
        // oif "lo"
        Match::OutLoopback => list.extend(is_loopback(abi::META_OIF)),
        // iifname "eth1"
        Match::InInterface(name) => list.extend(is_interface(abi::META_IIFNAME, name)),
        // oifname "tap*"
        Match::OutInterface(name) => list.extend(is_interface(abi::META_OIFNAME, name)),
        // meta l4proto tcp
        Match::Protocol(protocol) => list.extend(is_protocol(*protocol)),
        // ip saddr 127.0.0.6
        Match::Source(test) => encode_address(test, Side::Source, list),
        // ip daddr @outbound_include_v4
        Match::Destination(test) => encode_address(test, Side::Destination, list),
        // udp sport 53
        Match::SourcePort(protocol, test) => encode_port(*protocol, test, Side::Source, list),
        // tcp dport 15008
        Match::DestinationPort(protocol, test) => {
            encode_port(*protocol, test, Side::Destination, list);
        }
        // meta skuid @proxy_uids
        Match::OwnerUid(set) => {
            encode_owner(abi::META_SKUID, Expr::Lookup(set.clone()), list);
        }
        // meta skgid @proxy_gids
        Match::OwnerGid(set) => {
            encode_owner(abi::META_SKGID, Expr::Lookup(set.clone()), list);
        }
        // meta skgid != @owner_groups
        Match::NotOwnerGid(set) => {
            encode_owner(abi::META_SKGID, Expr::NotLookup(set.clone()), list);
        }
        // socket cgroupv2 level 2 "kubepods/proxy"
        Match::Cgroup(cgroup) => list.extend([
            Expr::Cgroup {
                level: cgroup.path.level(),
            },
            Expr::Equal(cgroup.id.to_ne_bytes().to_vec()),
        ]),
        // meta mark 0x00000539
        Match::Mark(mark) => list.extend([
            Expr::Meta(abi::META_MARK),
            Expr::Equal(mark.to_ne_bytes().to_vec()),
        ]),
        // meta mark != 0x0000053a
        Match::NotMark(mark) => list.extend([
            Expr::Meta(abi::META_MARK),
            Expr::NotEqual(mark.to_ne_bytes().to_vec()),
        ]),
        // ct mark 0x00000539
        Match::ConnectionMark(mark) => list.extend([
            Expr::Connection(abi::CT_MARK),
            Expr::Equal(mark.to_ne_bytes().to_vec()),
        ]),
        // ct mark != 0x53685450
        Match::NotConnectionMark(mark) => list.extend([
            Expr::Connection(abi::CT_MARK),
            Expr::NotEqual(mark.to_ne_bytes().to_vec()),
        ]),
        // ct direction original
        Match::Original => list.extend([
            Expr::Connection(abi::CT_DIRECTION),
            Expr::Equal(vec![abi::DIRECTION_ORIGINAL]),
        ]),
        // ct state established,related
        Match::Established => list.extend(is_state(abi::STATE_ESTABLISHED | abi::STATE_RELATED)),
        // ct state invalid
        Match::Invalid => list.extend(is_state(abi::STATE_INVALID)),
    }
}

fn is_loopback(key: u32) -> [Expr; 2] {
    [
        Expr::Meta(key),
        Expr::Equal(lo::INDEX.to_ne_bytes().to_vec()),
    ]
}

/// A whole name is compared with the zeros after it, a beginning without.
fn is_interface(key: u32, name: &InterfaceName) -> [Expr; 2] {
    let bytes = match name.prefix() {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(INTERFACE_NAME_LEN, 0);
            bytes
        }
    };
    [Expr::Meta(key), Expr::Equal(bytes)]
}

/// `IFNAMSIZ`.
pub(crate) const INTERFACE_NAME_LEN: usize = 16;

fn is_state(bits: u32) -> [Expr; 3] {
    [
        Expr::Connection(abi::CT_STATE),
        Expr::And(bits),
        Expr::NotEqual(vec![0; 4]),
    ]
}

/// The kernel loads an id in host byte order, but intervals are compared byte by byte. That `nft`
/// shows the elements right without being told their byte order rests on this, too.
fn encode_owner(key: u32, lookup: Expr, list: &mut Vec<Expr>) {
    list.extend([Expr::Meta(key), Expr::HostToNetwork, lookup]);
}

/// Which address or port of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Source, Self::Destination];
}

/// Offset of a port in TCP and UDP headers; it is two bytes long.
pub(crate) fn port_offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

fn encode_port(protocol: Protocol, test: &PortTest, side: Side, list: &mut Vec<Expr>) {
    list.extend(is_protocol(protocol));
    list.push(Expr::Payload {
        base: abi::BASE_TRANSPORT,
        offset: port_offset(side),
        len: 2,
    });
    list.push(match test {
        PortTest::Is(port) => Expr::Equal(port.to_be_bytes().to_vec()),
        PortTest::IsNot(port) => Expr::NotEqual(port.to_be_bytes().to_vec()),
        PortTest::In(set) => Expr::Lookup(set.clone()),
        PortTest::NotIn(set) => Expr::NotLookup(set.clone()),
    });
}

/// Offset and length of an address in the network header.
pub(crate) fn address_field(family: Family, side: Side) -> (u32, u32) {
    match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    }
}

fn encode_address(test: &AddressTest, side: Side, list: &mut Vec<Expr>) {
    let (family, last) = match test {
        AddressTest::Is(address) => (family_of(*address), Expr::Equal(octets(*address))),
        AddressTest::IsNot(address) => (family_of(*address), Expr::NotEqual(octets(*address))),
        AddressTest::In(family, set) => (*family, Expr::Lookup(set.clone())),
        AddressTest::NotIn(family, set) => (*family, Expr::NotLookup(set.clone())),
    };
    let (offset, len) = address_field(family, side);
    list.extend(is_family(family));
    list.push(Expr::Payload {
        base: abi::BASE_NETWORK,
        offset,
        len,
    });
    list.push(last);
}

fn is_family(family: Family) -> [Expr; 2] {
    let number = match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    };
    [Expr::Meta(abi::META_NFPROTO), Expr::Equal(vec![number])]
}

fn is_protocol(protocol: Protocol) -> [Expr; 2] {
    [
        Expr::Meta(abi::META_L4PROTO),
        Expr::Equal(vec![protocol_number(protocol)]),
    ]
}

/// Number of a protocol in the IP header (IANA).
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
