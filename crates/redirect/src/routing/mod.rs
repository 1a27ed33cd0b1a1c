//! Addresses and routes: what the pod has, how marked packets find the proxy ([`policy`]), and `::6` on `lo`, which the proxy's inbound connections start
//! from. It precedes the rules, so that no rule ever waits for it.
//!
//! An `::6` that was there before stays when the rules go: ours carries a mark
//! ([`shunt_abi::lo::OWN_ADDRESS_METRIC`]), so even a run that died half-way is told apart.

mod policy;
pub(crate) mod stage;

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, Parseable as _,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use shunt_abi::{addr, lo};

use crate::capture::Ipv6Mode;
use crate::error::{KernelError, Object};
use crate::nft::attr::Malformed;
use crate::nft::socket::{NetlinkSocket, Reply};
use crate::plan::Plan;
use crate::sysctl;
pub(crate) use policy::AddedRouting;

/// An address of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// Index of its interface.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
}

/// The addresses of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAddresses {
    addresses: Vec<PodAddress>,
    inbound_source: Source,
}

/// The state of `::6` on `lo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Absent,
    Foreign,
    Ours,
}

/// What came of the wish for `::6` on `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundSource {
    /// It was added.
    Added,
    /// It was there.
    Present,
    /// IPv6 is disabled on `lo`. Captured connections fail, they do not pass: REDIRECT sends
    /// outbound ones to `::1`, which `lo` then does not have, and inbound ones cannot be handed on
    /// from `::6`.
    Ipv6DisabledOnLo,
}

impl PodAddresses {
    /// Addresses as they would be read, for plans on paper.
    #[must_use]
    pub fn new(addresses: Vec<PodAddress>) -> Self {
        Self {
            addresses,
            inbound_source: Source::Absent,
        }
    }

    /// Reads the addresses of the network namespace of the calling thread. Needs no privilege.
    ///
    /// # Errors
    /// If the kernel's answer is missing or not understood.
    pub fn read() -> Result<Self, KernelError> {
        Route::open()?.addresses()
    }

    /// All addresses, those of `lo` included.
    pub(crate) fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|address| address.address)
    }

    /// Those by which the pod is reached: neither loopback nor link-local.
    pub(crate) fn outward(&self) -> impl Iterator<Item = IpAddr> {
        self.all().filter(|address| is_outward(*address))
    }

    /// Names of the interfaces by which the pod is reached; none if one of them is gone meanwhile.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let outward = self.addresses.iter();
        let outward = outward.filter(|address| is_outward(address.address));
        let indexes: BTreeSet<u32> = outward.map(|address| address.interface).collect();
        let names = indexes.into_iter().map(|index| {
            let name = if_indextoname(index).ok()?;
            name.into_string().ok()
        });
        names.collect::<Option<_>>().unwrap_or_default()
    }

    /// Whether IPv6 is captured in this mode. The address that Shunt adds itself does not count.
    #[must_use]
    pub fn capture_ipv6(&self, mode: Ipv6Mode) -> bool {
        let mut outward: Vec<_> = self
            .addresses
            .iter()
            .filter(|address| is_outward(address.address))
            .collect();
        outward.sort_by_key(|address| address.interface);
        match mode {
            Ipv6Mode::Off => false,
            Ipv6Mode::On => true,
            Ipv6Mode::Auto => outward.iter().any(|address| address.address.is_ipv6()),
            Ipv6Mode::Istio => outward
                .first()
                .is_some_and(|address| address.address.is_ipv6()),
        }
    }
}

/// Neither loopback nor link-local.
fn is_outward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => {
            !address.is_loopback()
                && !address.is_unicast_link_local()
                && address != addr::INBOUND_SOURCE_V6
        }
    }
}

/// What an apply would do beside the rules, a line each: policy routing, and `::6` on `lo`. Nothing
/// if all is as planned. `pod` is what was looked at for the plan.
///
/// # Errors
/// If the kernel's answer is missing or not understood.
pub fn to_do(plan: &Plan, pod: &PodAddresses) -> Result<Vec<String>, KernelError> {
    let routing = Route::open()?.policy_routing_to_do(plan.routing.as_ref())?;
    let mut lines: Vec<_> = routing
        .into_iter()
        .map(|what| format!("policy routing: would {what}"))
        .collect();
    let source = match (plan.ipv6, pod.inbound_source) {
        // An apply cannot add it there, and says so.
        (true, Source::Absent) if !sysctl::ipv6_disabled("lo") => Some("add"),
        (false, Source::Ours) => Some("delete"),
        _ => None,
    };
    lines.extend(source.map(|verb| format!("lo: would {verb} the address ::6/128")));
    Ok(lines)
}

/// A connection to the routing netlink of the calling thread's network namespace.
pub(crate) struct Route(NetlinkSocket);

/// `NETLINK_ROUTE`.
const NETLINK_ROUTE: isize = 0;

impl Route {
    pub(crate) fn open() -> Result<Self, KernelError> {
        NetlinkSocket::open(NETLINK_ROUTE, Object::Address).map(Self)
    }

    pub(crate) fn addresses(&mut self) -> Result<PodAddresses, KernelError> {
        let operation = "list the addresses of this network namespace";
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut pod = PodAddresses::default();
        for body in self.request(operation, message, NLM_F_DUMP)? {
            let message =
                AddressMessage::parse(&body).map_err(|_error| KernelError::Malformed {
                    operation: operation.to_owned(),
                    what: Malformed("an address of another shape"),
                })?;
            if let Some(source) = inbound_source_state(&message) {
                pod.inbound_source = source;
            }
            pod.addresses.extend(address_of(&message));
        }
        Ok(pod)
    }

    /// Sees to it that the proxy can start connections from `::6`, in a pod just looked at.
    pub(crate) fn add_inbound_source(
        &mut self,
        pod: &PodAddresses,
    ) -> Result<InboundSource, KernelError> {
        if pod.inbound_source != Source::Absent {
            return Ok(InboundSource::Present);
        }
        let message = RouteNetlinkMessage::NewAddress(inbound_source());
        let added = self.request(
            "add address ::6/128 to lo",
            message,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        );
        match added {
            Ok(_) => Ok(InboundSource::Added),
            Err(KernelError::Refused {
                errno: Errno::EEXIST,
                ..
            }) => Ok(InboundSource::Present),
            Err(KernelError::Refused {
                errno: Errno::EACCES,
                ..
            }) => Ok(InboundSource::Ipv6DisabledOnLo),
            Err(error) => Err(error),
        }
    }

    /// Takes `::6` away if Shunt added it. Says whether it did.
    pub(crate) fn remove_own_inbound_source(&mut self) -> Result<bool, KernelError> {
        if self.addresses()?.inbound_source != Source::Ours {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::DelAddress(inbound_source());
        match self.request("delete address ::6/128 from lo", message, NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(KernelError::Refused {
                errno: Errno::EADDRNOTAVAIL,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One request about addresses and the bodies of its answers.
    fn request(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<Vec<u8>>, KernelError> {
        self.request_about(Object::Address, operation, message, flags)
    }

    /// One request and the bodies of its answers.
    pub(crate) fn request_about(
        &mut self,
        object: Object,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<Vec<u8>>, KernelError> {
        let malformed = |what| KernelError::Malformed {
            operation: operation.to_owned(),
            what,
        };
        let sequence = self.0.reserve(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut request = vec![0; message.buffer_len()];
        message.serialize(&mut request);
        let replies = self.0.ask(&request)?;
        let mut bodies = Vec::new();
        let mut complete = false;
        for numbered in replies.iter() {
            let numbered = numbered.map_err(malformed)?;
            match numbered.reply {
                Reply::Message(_, body) => bodies.push(body.to_vec()),
                Reply::Ack | Reply::Done => complete = true,
                Reply::Error(errno, text) => {
                    return Err(KernelError::Refused {
                        operation: operation.to_owned(),
                        object,
                        errno,
                        text,
                    });
                }
            }
        }
        if complete {
            Ok(bodies)
        } else {
            Err(malformed(Malformed("the list has no end")))
        }
    }
}

/// `ip addr add ::6/128 dev lo metric … noprefixroute nodad`
fn inbound_source() -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message.header.scope = AddressScope::Universe;
    message.header.index = lo::INDEX;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V6(addr::INBOUND_SOURCE_V6)),
        AddressAttribute::Address(IpAddr::V6(addr::INBOUND_SOURCE_V6)),
        AddressAttribute::Flags(AddressFlags::Noprefixroute | AddressFlags::Nodad),
        AddressAttribute::RoutePriority(lo::OWN_ADDRESS_METRIC),
    ];
    message
}

fn address_of(message: &AddressMessage) -> Option<PodAddress> {
    let mark = AddressAttribute::RoutePriority(lo::OWN_ADDRESS_METRIC);
    if message.header.index != lo::INDEX && message.attributes.contains(&mark) {
        // A probe's, while rules are verified; not the pod's.
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link, "address" is the peer's.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    address.map(|address| PodAddress {
        interface: message.header.index,
        address,
    })
}

/// What an address message says of `::6` on `lo`; `None` if it is about another address.
fn inbound_source_state(message: &AddressMessage) -> Option<Source> {
    let found = address_of(message)?;
    if found.interface != lo::INDEX || found.address != IpAddr::V6(addr::INBOUND_SOURCE_V6) {
        return None;
    }
    let mark = AddressAttribute::RoutePriority(lo::OWN_ADDRESS_METRIC);
    if message.attributes.contains(&mark) {
        Some(Source::Ours)
    } else {
        Some(Source::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::{PodAddress, PodAddresses};
    use crate::capture::Ipv6Mode;

    fn pod(addresses: &[(u32, &str)]) -> PodAddresses {
        let addresses = addresses.iter().map(|&(interface, address)| PodAddress {
            interface,
            address: address.parse().unwrap(),
        });
        PodAddresses::new(addresses.collect())
    }

    #[test]
    fn auto_captures_ipv6_if_any_address_can_be_reached_by_it() {
        for (expected, addresses) in [
            (
                true,
                &[(1, "127.0.0.1"), (2, "10.0.0.2"), (2, "fd00::2")][..],
            ),
            (true, &[(1, "2001:db8::1"), (2, "fe80::2")]),
            (
                false,
                &[
                    (1, "127.0.0.1"),
                    (1, "::1"),
                    (2, "10.0.0.2"),
                    (2, "fe80::2"),
                ],
            ),
            (false, &[(1, "::6"), (2, "10.0.0.2")]),
            (false, &[]),
        ] {
            assert_eq!(
                pod(addresses).capture_ipv6(Ipv6Mode::Auto),
                expected,
                "{addresses:?}"
            );
            assert!(!pod(addresses).capture_ipv6(Ipv6Mode::Off));
        }
    }

    #[test]
    fn istio_detection_looks_at_the_first_address_by_interface() {
        for (expected, addresses) in [
            (false, &[(2, "10.0.0.2"), (2, "fd00::2")][..]),
            (true, &[(3, "10.0.0.2"), (2, "fd00::2")]),
            (
                true,
                &[(1, "127.0.0.1"), (2, "169.254.1.1"), (2, "fd00::2")],
            ),
            (false, &[(2, "fe80::2")]),
        ] {
            assert_eq!(
                pod(addresses).capture_ipv6(Ipv6Mode::Istio),
                expected,
                "{addresses:?}"
            );
        }
    }
}
