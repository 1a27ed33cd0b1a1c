//! Policies of which nothing is left, because their excludes cover all that they capture.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::Warning;
use crate::capture::{
    CaptureConfig, InboundCapture, InterfaceName, OutboundCapture, OwnerGroups, Ports,
};
use crate::facts::PodFacts;
use crate::field::{Field, Vocabulary};
use crate::ranges::{Ranges, v4_block, v6_block};

/// What an exclude leaves nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Everything {
    /// All ports.
    Ports,
    /// All addresses of IPv4.
    Ipv4,
    /// All addresses of IPv6.
    Ipv6,
    /// All that another field captures.
    Of(Field),
    /// Every interface of the pod that has an address: these.
    Interfaces(Vec<String>),
}

impl Everything {
    /// To be read as a sentence, with the remedy.
    pub(super) fn text(&self, field: Field, vocabulary: Vocabulary) -> String {
        let name = field.name(vocabulary);
        let side = match field {
            Field::InboundExcludePorts | Field::InboundExcludeSources => "that arrives",
            _ => "that the pod opens",
        };
        let all = |what: &str, of: &str| {
            format!(
                "{name} excludes every {what}: every {of}connection {side} passes the proxy by; \
                 take out what is to be captured"
            )
        };
        match self {
            Self::Ports => all("port", ""),
            Self::Ipv4 => all("IPv4 address", "IPv4 "),
            Self::Ipv6 => all("IPv6 address", "IPv6 "),
            Self::Of(Field::OwnerGroups) => format!(
                "{} names no group but the proxy's own ({name}), whose connections pass: every \
                 connection {side} passes the proxy by; name the application's group",
                Field::OwnerGroups.name(vocabulary)
            ),
            Self::Of(included) => format!(
                "{name} excludes all that {} captures: every connection {side} passes the proxy \
                 by; take out of it what is to be captured",
                included.name(vocabulary)
            ),
            Self::Interfaces(names) if field == Field::RerouteInterfaces => format!(
                "{name} names every interface of the pod that has an address ({}): what arrives \
                 counts as outbound, and nothing of it reaches the application through the proxy; \
                 name the interfaces of virtual machines alone",
                names.join(", ")
            ),
            Self::Interfaces(names) => format!(
                "{name} names every interface of the pod that has an address ({}): every connection \
                 to and from other machines passes the proxy by; take out those that are to be \
                 captured, and write a name with `+` longer",
                names.join(", ")
            ),
        }
    }
}

/// Excludes that leave nothing, each side of the proxy by itself.
pub(super) fn excluded(config: &CaptureConfig, pod: &PodFacts, ipv6: bool) -> Vec<Warning> {
    let mut found = Vec::new();
    if !config.outbound.captures_nothing() {
        found.extend(outbound(config, ipv6));
    }
    let inbound = &config.inbound;
    if !inbound.captures_nothing() {
        let field = Field::InboundExcludePorts;
        found.extend(match &inbound.capture {
            InboundCapture::Only(ports) if covers(&inbound.exclude_ports, ports) => {
                Some(nothing_of(Field::InboundPorts, field))
            }
            _ => ports(field, &inbound.exclude_ports),
        });
        let field = Field::InboundExcludeSources;
        found.extend(families(field, &inbound.exclude_sources, ipv6));
    }
    let interfaces = &config.interfaces;
    for (field, names) in [
        (Field::ExcludeInterfaces, &interfaces.exclude),
        (Field::RerouteInterfaces, &interfaces.reroute),
    ] {
        found.extend(all_interfaces(field, names, &pod.interfaces));
    }
    found
}

fn outbound(config: &CaptureConfig, ipv6: bool) -> Vec<Warning> {
    let outbound = &config.outbound;
    let mut found = Vec::new();
    let (by_port, by_block) = (Field::OutboundExcludePorts, Field::OutboundExcludeCidrs);
    let included = &outbound.include_ports;
    match &outbound.capture {
        OutboundCapture::Only(blocks)
            if blocks.is_empty() && covers(&outbound.exclude_ports, included) =>
        {
            found.push(nothing_of(Field::OutboundIncludePorts, by_port));
        }
        _ => found.extend(ports(by_port, &outbound.exclude_ports)),
    }
    match &outbound.capture {
        OutboundCapture::Only(blocks) if included.is_empty() => {
            let excluded = Blocks::of(&outbound.exclude_cidrs);
            let mut captured = blocks.iter().filter(|block| ipv6 || block.addr().is_ipv4());
            if captured.all(|block| excluded.cover(block)) {
                found.push(nothing_of(Field::OutboundCidrs, by_block));
            }
        }
        _ => found.extend(families(by_block, &outbound.exclude_cidrs, ipv6)),
    }
    if let OwnerGroups::Only(groups) = &outbound.owners
        && groups.is_subset(&config.proxy.gids)
    {
        found.push(nothing_of(Field::OwnerGroups, Field::ProxyGids));
    }
    found
}

fn nothing_of(included: Field, field: Field) -> Warning {
    let what = Everything::Of(included);
    Warning::Everything { field, what }
}

fn ports(field: Field, excluded: &Ports) -> Option<Warning> {
    let all = excluded.contains_all((1, u16::MAX));
    let what = Everything::Ports;
    all.then_some(Warning::Everything { field, what })
}

fn covers(excluded: &Ports, included: &Ports) -> bool {
    included.iter().all(|range| excluded.contains_all(range))
}

fn families(field: Field, excluded: &[IpNet], ipv6: bool) -> impl Iterator<Item = Warning> {
    let excluded = Blocks::of(excluded);
    let v4 = excluded.v4.contains_all((0, u32::MAX));
    let v6 = ipv6 && excluded.v6.contains_all((0, u128::MAX));
    [(v4, Everything::Ipv4), (v6, Everything::Ipv6)]
        .into_iter()
        .filter(|(all, _)| *all)
        .map(move |(_, what)| Warning::Everything { field, what })
}

fn all_interfaces(
    field: Field,
    named: &BTreeSet<InterfaceName>,
    interfaces: &[String],
) -> Option<Warning> {
    let is_named = |interface: &String| named.iter().any(|name| name.matches(interface));
    let all = !interfaces.is_empty() && interfaces.iter().all(is_named);
    let what = Everything::Interfaces(interfaces.to_vec());
    all.then_some(Warning::Everything { field, what })
}

/// Blocks as the addresses that they hold, whoever wrote them.
pub(super) struct Blocks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Blocks {
    pub(super) fn of(blocks: &[IpNet]) -> Self {
        let v4 = blocks.iter().filter_map(|block| match block {
            IpNet::V4(block) => Some(v4_block(block)),
            IpNet::V6(_) => None,
        });
        let v6 = blocks.iter().filter_map(|block| match block {
            IpNet::V6(block) => Some(v6_block(block)),
            IpNet::V4(_) => None,
        });
        Self {
            v4: v4.collect(),
            v6: v6.collect(),
        }
    }

    /// Whether each address of a block is among them.
    pub(super) fn cover(&self, block: &IpNet) -> bool {
        match block {
            IpNet::V4(block) => self.v4.contains_all(v4_block(block)),
            IpNet::V6(block) => self.v6.contains_all(v6_block(block)),
        }
    }
}
