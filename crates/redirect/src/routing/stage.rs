//! The link that probes come in and go out by while rules are verified: a veth pair of which both
//! ends are in the pod, with an address of its own, from which alone it is routed to.
//!
//! Nobody else's packets ever find it: its routes stand in a table of their own, where only what is
//! sent from its address is sent to.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::errno::Errno;
use shunt_abi::{lo, name, policy_route};

use super::Route;
use super::policy::{address_family, parsed};
use crate::error::{KernelError, Object};
use crate::ruleset::Family;

/// Hardware address of the link.
pub(crate) const LINK_ADDRESS: [u8; 6] = [0x02, 0x53, 0x68, 0x50, 0x72, 0x01];
/// Hardware address of its far end.
pub(crate) const FAR_END_ADDRESS: [u8; 6] = [0x02, 0x53, 0x68, 0x50, 0x72, 0x02];

const CREATE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
const OURS: RouteProtocol = RouteProtocol::Other(policy_route::PROTOCOL);
/// A route's answer to "whenever": `INFINITY_LIFE_TIME`.
const FOR_EVER: u32 = u32::MAX;

impl Route {
    /// Makes the link. Its interface's index is returned.
    pub(crate) fn add_probe_link(&mut self) -> Result<u32, KernelError> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(name::PROBE_FAR_END.to_owned()),
            LinkAttribute::Address(FAR_END_ADDRESS.to_vec()),
        ];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name::PROBE_LINK.to_owned()),
            LinkAttribute::Address(LINK_ADDRESS.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ];
        let operation = format!("make the veth pair {}", name::PROBE_LINK);
        let message = RouteNetlinkMessage::NewLink(link);
        self.request_about(Object::Link, &operation, message, CREATE)?;
        for end in [name::PROBE_FAR_END, name::PROBE_LINK] {
            self.no_addresses_of_its_own(end);
            // There are no neighbours: what is sent goes out at once, to nobody.
            let mut up = named(end);
            up.header.flags = LinkFlags::Up | LinkFlags::Noarp;
            up.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
            let message = RouteNetlinkMessage::SetLink(up);
            self.request_about(Object::Link, &format!("set {end} up"), message, NLM_F_ACK)?;
        }
        self.probe_link()?.ok_or_else(|| KernelError::Refused {
            operation: format!("find {}", name::PROBE_LINK),
            object: Object::Link,
            errno: Errno::ENODEV,
            text: None,
        })
    }

    /// The index of the link, if there is one: of a process that verifies now, or of one that was
    /// killed.
    pub(crate) fn probe_link(&mut self) -> Result<Option<u32>, KernelError> {
        let operation = format!("find {}", name::PROBE_LINK);
        let message = RouteNetlinkMessage::GetLink(named(name::PROBE_LINK));
        let bodies = match self.request_about(Object::Link, &operation, message, NLM_F_ACK) {
            Err(KernelError::Refused {
                errno: Errno::ENODEV,
                ..
            }) => return Ok(None),
            other => other?,
        };
        let Some(body) = bodies.first() else {
            return Ok(None);
        };
        let link: LinkMessage = parsed(&operation, body)?;
        Ok(Some(link.header.index))
    }

    /// Without this the kernel gives it a link-local address and announces it. Where there is no
    /// IPv6 there is nothing to prevent.
    fn no_addresses_of_its_own(&mut self, end: &str) {
        let mut message = named(end);
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![mode],
            )]));
        let operation = format!("keep {end} without addresses");
        let message = RouteNetlinkMessage::SetLink(message);
        let _no_ipv6 = self.request_about(Object::Link, &operation, message, NLM_F_ACK);
    }

    /// Gives the link an address; what is sent from it leaves by the link, unless it is for the pod
    /// itself.
    pub(crate) fn add_probe_address(&mut self, link: u32, own: IpAddr) -> Result<(), KernelError> {
        let address = RouteNetlinkMessage::NewAddress(probe_address(link, own));
        let operation = format!("add address {own} to {}", name::PROBE_LINK);
        self.request_about(Object::Address, &operation, address, CREATE)?;
        let route = RouteNetlinkMessage::NewRoute(probe_route(link, own));
        let operation = format!(
            "add the default route of table {}",
            policy_route::PROBE_TABLE
        );
        self.request_about(Object::Route, &operation, route, CREATE)?;
        let rule = RouteNetlinkMessage::NewRule(probe_rule(own));
        let operation = format!("add the policy rule for what comes from {own}");
        self.request_about(Object::Route, &operation, rule, CREATE)?;
        Ok(())
    }

    /// The interface by which a packet of a probe with this mark would leave.
    pub(crate) fn probe_leaves_by(
        &mut self,
        own: IpAddr,
        destination: IpAddr,
        mark: u32,
    ) -> Result<Option<u32>, KernelError> {
        let mut message = RouteMessage::default();
        message.header.address_family = address_family(Family::of(own));
        message.header.source_prefix_length = whole(own);
        message.header.destination_prefix_length = whole(own);
        message.attributes = vec![
            RouteAttribute::Source(route_address(own)),
            RouteAttribute::Destination(route_address(destination)),
            RouteAttribute::Mark(mark),
        ];
        let operation = format!("find the route from {own} to {destination}");
        let message = RouteNetlinkMessage::GetRoute(message);
        let bodies = self.request_about(Object::Route, &operation, message, NLM_F_ACK)?;
        for body in bodies {
            let route: RouteMessage = parsed(&operation, &body)?;
            for attribute in route.attributes {
                if let RouteAttribute::Oif(index) = attribute {
                    return Ok(Some(index));
                }
            }
        }
        Ok(None)
    }

    /// Removes the link, its addresses and routes, and the rules that lead there: those of this
    /// process, or of one that was killed.
    pub(crate) fn remove_probe_link(&mut self) -> Result<(), KernelError> {
        let operation = "list the policy rules of this network namespace";
        let message = RouteNetlinkMessage::GetRule(RuleMessage::default());
        for body in self.request_about(Object::Route, operation, message, NLM_F_DUMP)? {
            let rule: RuleMessage = parsed(operation, &body)?;
            if is_probe_rule(&rule) {
                let operation = "delete the policy rule of a probe";
                let message = RouteNetlinkMessage::DelRule(rule);
                unless_gone(self.request_about(Object::Route, operation, message, NLM_F_ACK))?;
            }
        }
        // Last: as long as it is there, something may be left.
        let operation = format!("delete {}", name::PROBE_LINK);
        let message = RouteNetlinkMessage::DelLink(named(name::PROBE_LINK));
        unless_gone(self.request_about(Object::Link, &operation, message, NLM_F_ACK))
    }
}

fn unless_gone<T>(outcome: Result<T, KernelError>) -> Result<(), KernelError> {
    match outcome {
        Ok(_)
        | Err(KernelError::Refused {
            errno: Errno::ENOENT | Errno::ESRCH | Errno::ENODEV,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn named(end: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(end.to_owned())];
    message
}

/// Deprecated, so that nobody else's IPv6 connections start from it, and marked like
/// [`super::inbound_source`], so that it is not taken for the pod's.
fn probe_address(link: u32, own: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(own));
    message.header.prefix_len = whole(own);
    message.header.scope = AddressScope::Universe;
    message.header.index = link;
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = FOR_EVER;
    message.attributes = vec![
        AddressAttribute::Local(own),
        AddressAttribute::Address(own),
        AddressAttribute::Flags(AddressFlags::Noprefixroute | AddressFlags::Nodad),
        AddressAttribute::RoutePriority(lo::OWN_ADDRESS_METRIC),
        AddressAttribute::CacheInfo(lifetime),
    ];
    message
}

/// `ip route add default dev shunt-probe table … protocol …`
fn probe_route(link: u32, own: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(own));
    message.header.kind = RouteType::Unicast;
    message.header.scope = match own {
        IpAddr::V4(_) => RouteScope::Link,
        IpAddr::V6(_) => RouteScope::Universe,
    };
    message.header.protocol = OURS;
    message.attributes = vec![
        RouteAttribute::Table(policy_route::PROBE_TABLE),
        RouteAttribute::Oif(link),
    ];
    message
}

/// `ip rule add from 192.0.2.1 lookup … pref … protocol …`
fn probe_rule(own: IpAddr) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(Family::of(own));
    message.header.src_len = whole(own);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(own),
        RuleAttribute::Priority(policy_route::PROBE_PREFERENCE),
        RuleAttribute::Table(policy_route::PROBE_TABLE),
        RuleAttribute::Protocol(OURS),
    ];
    message
}

fn is_probe_rule(rule: &RuleMessage) -> bool {
    let has = |attribute| rule.attributes.contains(&attribute);
    has(RuleAttribute::Table(policy_route::PROBE_TABLE)) && has(RuleAttribute::Protocol(OURS))
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// Length of the prefix that is the whole address.
fn whole(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
