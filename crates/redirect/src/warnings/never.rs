//! Entries of lists that no packet matches.

use ipnet::IpNet;

use super::Warning;
use super::everything::Blocks;
use crate::capture::{CaptureConfig, InboundCapture, OutboundCapture, OwnerGroups, Ports};
use crate::field::{Field, Vocabulary};

/// Why no packet matches an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// It excludes what is not captured in the first place.
    NotIncluded(Field),
    /// It is about IPv6, which is not captured.
    Ipv6Off,
    /// What arrives by this interface counts as outbound.
    Rerouted,
    /// No client on another machine has such an address, and what a pod sends itself does not arrive.
    Loopback,
    /// The proxy's connections pass already.
    Proxy,
}

impl Never {
    pub(super) fn text(self, vocabulary: Vocabulary) -> String {
        match self {
            Self::NotIncluded(field) => format!(
                "nothing of it is among what {} captures; take it out, or capture more",
                field.name(vocabulary)
            ),
            Self::Ipv6Off => format!(
                "IPv6 is not captured in this pod; take it out, or capture IPv6 ({})",
                Field::Ipv6.name(vocabulary)
            ),
            Self::Loopback => {
                "inbound are connections from other machines, which have no loopback \
                               address; take it out"
                    .to_owned()
            }
            Self::Proxy => format!(
                "it is the proxy's own group ({}), whose connections pass already; take it out",
                Field::ProxyGids.name(vocabulary)
            ),
            Self::Rerouted => format!(
                "what arrives by it counts as outbound ({}), and only what leaves by it passes; \
                 take it out of one of the two",
                Field::RerouteInterfaces.name(vocabulary)
            ),
        }
    }
}

/// All such entries of a policy.
pub(super) fn matches(config: &CaptureConfig, ipv6: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let outbound = &config.outbound;
    if !outbound.captures_nothing() {
        excluded_blocks(config, ipv6, &mut warnings);
        included_blocks(config, ipv6, &mut warnings);
        let by_port = matches!(&outbound.capture, OutboundCapture::Only(cidrs) if cidrs.is_empty());
        let excluded = without_dns(config);
        if by_port {
            let (field, include) = (Field::OutboundExcludePorts, Field::OutboundIncludePorts);
            warnings.extend(not_among(
                field,
                &excluded,
                include,
                &outbound.include_ports,
            ));
        }
        warnings.extend(proxys_groups(config));
        warnings.extend(all_excluded(
            (Field::OutboundIncludePorts, &outbound.include_ports),
            (Field::OutboundExcludePorts, &outbound.exclude_ports),
        ));
    }
    let inbound = &config.inbound;
    if !inbound.captures_nothing() {
        if let InboundCapture::Only(ports) = &inbound.capture {
            let (field, include) = (Field::InboundExcludePorts, Field::InboundPorts);
            // The ports that always pass are nobody's wish.
            let own = CaptureConfig::default().inbound.exclude_ports;
            if inbound.exclude_ports != own {
                warnings.extend(not_among(field, &inbound.exclude_ports, include, ports));
            }
            warnings.extend(all_excluded(
                (Field::InboundPorts, ports),
                (Field::InboundExcludePorts, &inbound.exclude_ports),
            ));
            let tunnel = inbound.tunnel.map(|port| (port.get(), port.get()));
            let tunnel: Ports = tunnel.into_iter().collect();
            warnings.extend(all_excluded(
                (Field::InboundPorts, ports),
                (Field::TunnelPort, &tunnel),
            ));
        }
        let field = Field::InboundExcludeSources;
        warnings.extend(of_ipv6_off(field, &inbound.exclude_sources, ipv6));
        let sources = captured_family(&inbound.exclude_sources, ipv6);
        let loopback = sources.filter(|block| is_loopback(block));
        warnings.extend(loopback.map(|block| Warning::NeverMatches {
            field,
            item: block.to_string(),
            why: Never::Loopback,
        }));
    }
    let interfaces = &config.interfaces;
    let both = interfaces.exclude.intersection(&interfaces.reroute);
    warnings.extend(both.map(|interface| Warning::NeverMatches {
        field: Field::ExcludeInterfaces,
        item: interface.to_string(),
        why: Never::Rerouted,
    }));
    warnings
}

/// Excluded ports, but for DNS if that is captured: its exclusion has a warning of its own.
fn without_dns(config: &CaptureConfig) -> Ports {
    let ports = config.outbound.exclude_ports.iter();
    let dns = shunt_abi::port::DNS;
    ports
        .filter(|(first, last)| config.dns.is_none() || !(*first <= dns && dns <= *last))
        .collect()
}

fn excluded_blocks(config: &CaptureConfig, ipv6: bool, warnings: &mut Vec<Warning>) {
    let outbound = &config.outbound;
    let field = Field::OutboundExcludeCidrs;
    warnings.extend(of_ipv6_off(field, &outbound.exclude_cidrs, ipv6));
    let OutboundCapture::Only(included) = &outbound.capture else {
        return;
    };
    if !outbound.include_ports.is_empty() {
        // These are captured whatever the destination, so that each exclusion counts.
        return;
    }
    for excluded in captured_family(&outbound.exclude_cidrs, ipv6) {
        if !included.iter().any(|included| overlap(included, excluded)) {
            warnings.push(Warning::NeverMatches {
                field,
                item: excluded.to_string(),
                why: Never::NotIncluded(Field::OutboundCidrs),
            });
        }
    }
}

fn included_blocks(config: &CaptureConfig, ipv6: bool, warnings: &mut Vec<Warning>) {
    let OutboundCapture::Only(included) = &config.outbound.capture else {
        return;
    };
    let field = Field::OutboundCidrs;
    warnings.extend(of_ipv6_off(field, included, ipv6));
    let excluded = Blocks::of(&config.outbound.exclude_cidrs);
    for included in captured_family(included, ipv6) {
        if excluded.cover(included) {
            warnings.push(Warning::NeverCaptured {
                field,
                item: included.to_string(),
                by: Field::OutboundExcludeCidrs,
            });
        }
    }
}

/// Excluded groups that are the proxy's.
fn proxys_groups(config: &CaptureConfig) -> Vec<Warning> {
    let OwnerGroups::Except(groups) = &config.outbound.owners else {
        return Vec::new();
    };
    let own = groups.intersection(&config.proxy.gids);
    own.map(|group| Warning::NeverMatches {
        field: Field::OwnerGroupsExclude,
        item: group.to_string(),
        why: Never::Proxy,
    })
    .collect()
}

/// Whether all of a block is.
fn is_loopback(block: &IpNet) -> bool {
    match block {
        IpNet::V4(block) => block.network().is_loopback() && block.prefix_len() >= 8,
        IpNet::V6(block) => block.network().is_loopback() && block.prefix_len() == 128,
    }
}

fn captured_family(blocks: &[IpNet], ipv6: bool) -> impl Iterator<Item = &IpNet> {
    blocks
        .iter()
        .filter(move |block| ipv6 || matches!(block, IpNet::V4(_)))
}

fn of_ipv6_off(field: Field, blocks: &[IpNet], ipv6: bool) -> impl Iterator<Item = Warning> {
    blocks
        .iter()
        .filter(move |block| !ipv6 && matches!(block, IpNet::V6(_)))
        .map(move |block| Warning::NeverMatches {
            field,
            item: block.to_string(),
            why: Never::Ipv6Off,
        })
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Excluded ranges of which no port is captured.
fn not_among<'a>(
    field: Field,
    excluded: &'a Ports,
    include: Field,
    included: &'a Ports,
) -> impl Iterator<Item = Warning> + 'a {
    excluded
        .iter()
        .filter(|(first, last)| !included.iter().any(|(a, b)| a <= *last && *first <= b))
        .map(move |range| Warning::NeverMatches {
            field,
            item: range_text(range),
            why: Never::NotIncluded(include),
        })
}

/// Captured ranges of which each port is excluded.
fn all_excluded<'a>(
    (field, included): (Field, &'a Ports),
    (by, excluded): (Field, &'a Ports),
) -> impl Iterator<Item = Warning> + 'a {
    included
        .iter()
        .filter(|(first, last)| excluded.iter().any(|(a, b)| a <= *first && *last <= b))
        .map(move |range| Warning::NeverCaptured {
            field,
            item: range_text(range),
            by,
        })
}

fn range_text((first, last): (u16, u16)) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}
