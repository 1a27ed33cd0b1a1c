//! Expressions to matches.

use std::net::IpAddr;

use shunt_abi::lo;

use super::mark_of;
use crate::capture::InterfaceName;
use crate::cgroup;
use crate::nft::attr::Malformed;
use crate::nft::encode::{INTERFACE_NAME_LEN, Side, address_field, port_offset, protocol_number};
use crate::nft::expr::Expr;
use crate::nft::uapi::{NFPROTO_IPV4, NFPROTO_IPV6, expr as abi};
use crate::ruleset::{AddressTest, Cgroup, Family, Match, PortTest, Protocol};

const NOT_A_MATCH: Malformed = Malformed("a match that Shunt does not write");

/// One match, and what follows it.
pub(super) fn decode_match(list: &[Expr]) -> Result<(Match, &[Expr]), Malformed> {
    match list {
        [
            Expr::Meta(abi::META_NFPROTO),
            Expr::Equal(number),
            rest @ ..,
        ] => {
            let family = match number.as_slice() {
                [NFPROTO_IPV4] => Family::V4,
                [NFPROTO_IPV6] => Family::V6,
                _ => return Err(NOT_A_MATCH),
            };
            match rest {
                [Expr::Payload { base, offset, len }, test, rest @ ..] => {
                    let side = Side::BOTH.into_iter().find(|side| {
                        *base == abi::BASE_NETWORK
                            && (*offset, *len) == address_field(family, *side)
                    });
                    let test = address_test(family, test)?;
                    match side.ok_or(NOT_A_MATCH)? {
                        Side::Source => Ok((Match::Source(test), rest)),
                        Side::Destination => Ok((Match::Destination(test), rest)),
                    }
                }
                _ => Ok((Match::Family(family), rest)),
            }
        }
        [
            Expr::Meta(abi::META_L4PROTO),
            Expr::Equal(number),
            rest @ ..,
        ] => {
            let protocol = [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .find(|protocol| *number == [protocol_number(*protocol)])
                .ok_or(NOT_A_MATCH)?;
            match rest {
                [
                    Expr::Payload {
                        base: abi::BASE_TRANSPORT,
                        offset,
                        len: 2,
                    },
                    test,
                    rest @ ..,
                ] => {
                    let test = port_test(test)?;
                    let side = Side::BOTH
                        .into_iter()
                        .find(|side| *offset == port_offset(*side));
                    match side.ok_or(NOT_A_MATCH)? {
                        Side::Source => Ok((Match::SourcePort(protocol, test), rest)),
                        Side::Destination => Ok((Match::DestinationPort(protocol, test), rest)),
                    }
                }
                _ => Ok((Match::Protocol(protocol), rest)),
            }
        }
        [
            Expr::Meta(key @ (abi::META_IIF | abi::META_OIF)),
            Expr::Equal(index),
            rest @ ..,
        ] if *index == lo::INDEX.to_ne_bytes() => match *key {
            abi::META_IIF => Ok((Match::InLoopback, rest)),
            _ => Ok((Match::OutLoopback, rest)),
        },
        [
            Expr::Meta(key @ (abi::META_IIFNAME | abi::META_OIFNAME)),
            Expr::Equal(name),
            rest @ ..,
        ] => {
            let name = interface_of(name)?;
            match *key {
                abi::META_IIFNAME => Ok((Match::InInterface(name), rest)),
                _ => Ok((Match::OutInterface(name), rest)),
            }
        }
        [
            Expr::Meta(abi::META_SKUID),
            Expr::HostToNetwork,
            Expr::Lookup(set),
            rest @ ..,
        ] => Ok((Match::OwnerUid(set.clone()), rest)),
        [
            Expr::Meta(abi::META_SKGID),
            Expr::HostToNetwork,
            Expr::Lookup(set),
            rest @ ..,
        ] => Ok((Match::OwnerGid(set.clone()), rest)),
        [
            Expr::Meta(abi::META_SKGID),
            Expr::HostToNetwork,
            Expr::NotLookup(set),
            rest @ ..,
        ] => Ok((Match::NotOwnerGid(set.clone()), rest)),
        [Expr::Cgroup { level }, Expr::Equal(id), rest @ ..] => {
            let id = <[u8; 8]>::try_from(id.as_slice()).map_err(|_length| NOT_A_MATCH)?;
            let id = u64::from_ne_bytes(id);
            let path =
                cgroup::path_of(id, *level).ok_or(Malformed("a match on a cgroup that is gone"))?;
            Ok((Match::Cgroup(Cgroup { path, id }), rest))
        }
        [Expr::Meta(abi::META_MARK), Expr::Equal(mark), rest @ ..] => {
            Ok((Match::Mark(mark_of(mark)?), rest))
        }
        [Expr::Meta(abi::META_MARK), Expr::NotEqual(mark), rest @ ..] => {
            Ok((Match::NotMark(mark_of(mark)?), rest))
        }
        [Expr::Connection(abi::CT_MARK), Expr::Equal(mark), rest @ ..] => {
            Ok((Match::ConnectionMark(mark_of(mark)?), rest))
        }
        [
            Expr::Connection(abi::CT_MARK),
            Expr::NotEqual(mark),
            rest @ ..,
        ] => Ok((Match::NotConnectionMark(mark_of(mark)?), rest)),
        [
            Expr::Connection(abi::CT_DIRECTION),
            Expr::Equal(direction),
            rest @ ..,
        ] if *direction == [abi::DIRECTION_ORIGINAL] => Ok((Match::Original, rest)),
        [
            Expr::Connection(abi::CT_STATE),
            Expr::And(bits),
            Expr::NotEqual(zero),
            rest @ ..,
        ] if *zero == [0; 4] => match *bits {
            abi::STATE_INVALID => Ok((Match::Invalid, rest)),
            ESTABLISHED => Ok((Match::Established, rest)),
            _ => Err(NOT_A_MATCH),
        },
        _ => Err(NOT_A_MATCH),
    }
}

const ESTABLISHED: u32 = abi::STATE_ESTABLISHED | abi::STATE_RELATED;

/// A name with all its zeros, or what names begin with.
fn interface_of(bytes: &[u8]) -> Result<InterfaceName, Malformed> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let name = if bytes.len() == INTERFACE_NAME_LEN {
        let end = bytes.iter().position(|byte| *byte == 0);
        end.and_then(|end| text(&bytes[..end]))
            .filter(|name| !name.ends_with('+'))
    } else {
        text(bytes).map(|prefix| format!("{prefix}+"))
    };
    name.as_deref()
        .and_then(InterfaceName::new)
        .ok_or(Malformed("an interface that Shunt does not name"))
}

fn address_test(family: Family, test: &Expr) -> Result<AddressTest, Malformed> {
    match test {
        Expr::Equal(octets) => Ok(AddressTest::Is(address(family, octets)?)),
        Expr::NotEqual(octets) => Ok(AddressTest::IsNot(address(family, octets)?)),
        Expr::Lookup(set) => Ok(AddressTest::In(family, set.clone())),
        Expr::NotLookup(set) => Ok(AddressTest::NotIn(family, set.clone())),
        _ => Err(NOT_A_MATCH),
    }
}

fn address(family: Family, octets: &[u8]) -> Result<IpAddr, Malformed> {
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    };
    address.ok_or(Malformed("an address of another size"))
}

fn port_test(test: &Expr) -> Result<PortTest, Malformed> {
    let port = |octets: &[u8]| {
        <[u8; 2]>::try_from(octets)
            .map(u16::from_be_bytes)
            .map_err(|_length| Malformed("a port of another size"))
    };
    match test {
        Expr::Equal(octets) => Ok(PortTest::Is(port(octets)?)),
        Expr::NotEqual(octets) => Ok(PortTest::IsNot(port(octets)?)),
        Expr::Lookup(set) => Ok(PortTest::In(set.clone())),
        Expr::NotLookup(set) => Ok(PortTest::NotIn(set.clone())),
        _ => Err(NOT_A_MATCH),
    }
}
