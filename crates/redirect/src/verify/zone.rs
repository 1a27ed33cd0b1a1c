//! In which zone conntrack keeps a connection, read by ctnetlink.

use std::net::IpAddr;

use super::wire::Ends;
use crate::error::{KernelError, Object};
use crate::nft::attr::{Attribute, Attributes, Head, NFGENMSG, Writer};
use crate::nft::socket::{NetlinkSocket, Replies, Reply};
use crate::ruleset::Protocol;

/// Where a connection was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Zone(u16),
    /// It is not among the connections that are tracked.
    Nowhere,
    /// The kernel does not list connections (no `nf_conntrack_netlink`).
    Unreadable,
}

/// `NETLINK_NETFILTER`.
const NETLINK_NETFILTER: isize = 12;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x001;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
/// `CTA_TUPLE_ORIG`.
const ORIGINAL: u16 = 1;
/// `CTA_ZONE`; absent for zone 0.
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP` and in it `CTA_IP_V4_SRC`, `CTA_IP_V4_DST`, `CTA_IP_V6_SRC`, `CTA_IP_V6_DST`.
const ADDRESSES: u16 = 1;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
/// `CTA_TUPLE_PROTO` and in it `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT`, `CTA_PROTO_DST_PORT`.
const TRANSPORT: u16 = 2;
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// Looks for the connection that a packet with these ends has opened: where it should be, then
/// everywhere.
pub(super) fn of(ends: &Ends, expected: u16) -> Result<Found, KernelError> {
    let mut socket = NetlinkSocket::open(NETLINK_NETFILTER, Object::Tables)?;
    let there = ask(&mut socket, REQUEST, ends, |attributes| {
        write_tuple(attributes, ends);
        attributes.bytes(ZONE, &expected.to_be_bytes());
    })?;
    for reply in there.iter().flatten() {
        if let Reply::Message(..) = reply.reply {
            return Ok(Found::Zone(expected));
        }
    }
    let everywhere = ask(&mut socket, REQUEST_DUMP, ends, |_attributes| {})?;
    for reply in everywhere.iter().flatten() {
        match reply.reply {
            Reply::Message(_, body) => {
                let attributes = Attributes::new(body.get(NFGENMSG..).unwrap_or_default());
                if let Some(zone) = zone_if(attributes, ends) {
                    return Ok(Found::Zone(zone));
                }
            }
            Reply::Error(..) => return Ok(Found::Unreadable),
            Reply::Ack | Reply::Done => {}
        }
    }
    Ok(Found::Nowhere)
}

/// One request about the family of these ends.
fn ask(
    socket: &mut NetlinkSocket,
    flags: u16,
    ends: &Ends,
    body: impl FnOnce(&mut Writer),
) -> Result<Replies, KernelError> {
    let mut request = Writer::default();
    let head = Head {
        kind: GET,
        flags,
        sequence: socket.reserve(1),
        family: family(ends),
        resource: 0,
    };
    request.message(&head, body);
    socket.ask(&request.into_bytes())
}

/// `AF_INET` or `AF_INET6`.
fn family(ends: &Ends) -> u8 {
    match ends.source.0 {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

fn write_tuple(attributes: &mut Writer, ends: &Ends) {
    attributes.nest(ORIGINAL, |tuple| {
        tuple.nest(ADDRESSES, |addresses| {
            for (v4, v6, address) in [
                (V4_SOURCE, V6_SOURCE, ends.source.0),
                (V4_DESTINATION, V6_DESTINATION, ends.destination.0),
            ] {
                match address {
                    IpAddr::V4(address) => addresses.bytes(v4, &address.octets()),
                    IpAddr::V6(address) => addresses.bytes(v6, &address.octets()),
                }
            }
        });
        tuple.nest(TRANSPORT, |transport| {
            transport.bytes(NUMBER, &[number(ends.protocol)]);
            transport.bytes(SOURCE_PORT, &ends.source.1.to_be_bytes());
            transport.bytes(DESTINATION_PORT, &ends.destination.1.to_be_bytes());
        });
    });
}

/// Number of a protocol in the IP header (IANA).
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// The zone of a connection, if it is this one.
fn zone_if(attributes: Attributes<'_>, ends: &Ends) -> Option<u16> {
    let mut zone = 0;
    let mut found = false;
    for attribute in attributes.flatten() {
        match attribute.kind {
            ORIGINAL => found = is_of(attribute, ends),
            ZONE => zone = number16(attribute)?,
            _ => {}
        }
    }
    found.then_some(zone)
}

/// Whether a tuple has these ends, all of them: others come from the same port.
fn is_of(tuple: Attribute<'_>, ends: &Ends) -> bool {
    let address = |v4, v6, address| {
        let (kind, octets) = match address {
            IpAddr::V4(address) => (v4, address.octets().to_vec()),
            IpAddr::V6(address) => (v6, address.octets().to_vec()),
        };
        has(tuple, ADDRESSES, kind, &octets)
    };
    let port = |kind, port: u16| has(tuple, TRANSPORT, kind, &port.to_be_bytes());
    address(V4_SOURCE, V6_SOURCE, ends.source.0)
        && address(V4_DESTINATION, V6_DESTINATION, ends.destination.0)
        && has(tuple, TRANSPORT, NUMBER, &[number(ends.protocol)])
        && port(SOURCE_PORT, ends.source.1)
        && port(DESTINATION_PORT, ends.destination.1)
}

/// Whether a nested attribute of a nested attribute has this value.
fn has(tuple: Attribute<'_>, outer: u16, inner: u16, value: &[u8]) -> bool {
    let mut nested = tuple.nested().flatten();
    nested.any(|attribute| {
        attribute.kind == outer
            && attribute
                .nested()
                .flatten()
                .any(|field| field.kind == inner && field.value == value)
    })
}

fn number16(attribute: Attribute<'_>) -> Option<u16> {
    attribute.value.try_into().ok().map(u16::from_be_bytes)
}
