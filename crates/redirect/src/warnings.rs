//! What a policy says that has no effect, or another than may be meant. Nothing here is an error:
//! the rules are right, but the policy may not be.

mod everything;
mod many;
mod never;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::capture::{CaptureConfig, DnsServers, Ipv6Mode, OutboundCapture, OwnerGroups};
use crate::facts::PodFacts;
use crate::field::{Field, Vocabulary};

pub use everything::Everything;
pub use never::Never;

/// A container of the pod beside the proxy, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `runAsUser`: of the container, else of the pod, else of its image, if that is known.
    pub uid: Option<u32>,
    /// `runAsGroup`, likewise.
    pub gid: Option<u32>,
}

/// Something that may not be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Every connection that the pod opens passes.
    NothingOutbound,
    /// No group's connections are captured.
    Nobody,
    /// An exclude leaves nothing of what is captured.
    Everything {
        /// The exclude.
        field: Field,
        /// What it leaves nothing of.
        what: Everything,
    },
    /// Every connection that arrives passes.
    NothingInbound,
    /// An entry that no packet matches.
    NeverMatches {
        /// Where it stands.
        field: Field,
        /// The entry, perhaps with the number of those that are not named.
        item: String,
        /// Why not.
        why: Never,
    },
    /// An entry that is to be captured, but all of which is excluded.
    NeverCaptured {
        /// Where it stands.
        field: Field,
        /// The entry, perhaps with the number of those that are not named.
        item: String,
        /// Where it is excluded.
        by: Field,
    },
    /// Ports are to be captured that are captured anyway; others are not let pass by it.
    IncludePortsDoNotRestrict,
    /// The pod has an IPv6 address, but only IPv4 is captured.
    Ipv6Open,
    /// DNS is to be captured, but port 53 passes.
    DnsExcluded,
    /// DNS is to be captured, but no server is known whose queries would be.
    DnsWithoutServers,
    /// Queries to this server are captured, though it is among the destinations that pass.
    DnsServerNotExcluded {
        /// The server.
        server: IpAddr,
    },
    /// The connections of the group that most applications have pass.
    RootGroupPasses,
    /// The proxy is to be known by the user or group that most applications have.
    RootPasses {
        /// [`Field::ProxyUids`] or [`Field::ProxyGids`].
        field: Field,
    },
    /// A container that is not the proxy would be taken for it.
    TakenForProxy {
        /// Its name.
        container: String,
        /// [`Field::ProxyUids`] or [`Field::ProxyGids`].
        field: Field,
        /// The id.
        id: u32,
    },
}

/// What may not be meant by `config` in this pod. `containers` are those beside the proxy whose
/// user is known: an init container knows its own; who reads the pod from Kubernetes passes all but
/// the proxy's and those that are meant to pass (Istio's `istio-validation`).
#[must_use]
pub fn warnings(config: &CaptureConfig, pod: &PodFacts, containers: &[Container]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let outbound = &config.outbound;
    let ipv6 = pod.addresses.capture_ipv6(config.ipv6);
    if outbound.captures_nothing() {
        let nobody = matches!(&outbound.owners, OwnerGroups::Only(groups) if groups.is_empty());
        warnings.push(if nobody {
            Warning::Nobody
        } else {
            Warning::NothingOutbound
        });
    }
    if config.inbound.captures_nothing() {
        warnings.push(Warning::NothingInbound);
    }
    if outbound.capture == OutboundCapture::All && !outbound.include_ports.is_empty() {
        warnings.push(Warning::IncludePortsDoNotRestrict);
    }
    let something = !(outbound.captures_nothing() && config.inbound.captures_nothing());
    if something && !ipv6 && pod.addresses.capture_ipv6(Ipv6Mode::Auto) {
        warnings.push(Warning::Ipv6Open);
    }
    let everything = everything::excluded(config, pod, ipv6);
    let told = |warning: &Warning| match warning {
        // Of this, all are.
        Warning::NeverCaptured { field, by, .. } => everything.contains(&Warning::Everything {
            field: *by,
            what: Everything::Of(*field),
        }),
        Warning::DnsExcluded => everything.contains(&Warning::Everything {
            field: Field::OutboundExcludePorts,
            what: Everything::Ports,
        }),
        _ => false,
    };
    let dns = dns(config, pod, ipv6);
    let each = dns.into_iter().chain(never::matches(config, ipv6));
    warnings.extend(each.filter(|warning| !told(warning)));
    warnings.extend(everything);
    if matches!(&outbound.owners, OwnerGroups::Except(groups) if groups.contains(&0)) {
        warnings.push(Warning::RootGroupPasses);
    }
    for (field, ids) in [
        (Field::ProxyUids, &config.proxy.uids),
        (Field::ProxyGids, &config.proxy.gids),
    ] {
        if ids.contains(&0) {
            warnings.push(Warning::RootPasses { field });
        }
        for container in containers {
            let id = match field {
                Field::ProxyGids => container.gid,
                _ => container.uid,
            };
            if let Some(id) = id.filter(|id| ids.contains(id)) {
                let container = container.name.clone();
                warnings.push(Warning::TakenForProxy {
                    container,
                    field,
                    id,
                });
            }
        }
    }
    many::counted(warnings)
}

fn dns(config: &CaptureConfig, pod: &PodFacts, ipv6: bool) -> Vec<Warning> {
    let Some(dns) = &config.dns else {
        return Vec::new();
    };
    if config.outbound.exclude_ports.contains(shunt_abi::port::DNS) {
        return vec![Warning::DnsExcluded];
    }
    let servers = match &dns.servers {
        DnsServers::All => return Vec::new(),
        DnsServers::ResolvConf => &pod.nameservers,
        DnsServers::Only(servers) => servers,
    };
    let mut servers = servers.iter().filter(|server| ipv6 || server.is_ipv4());
    let excluded = &config.outbound.exclude_cidrs;
    let Some(first) = servers.next() else {
        return vec![Warning::DnsWithoutServers];
    };
    std::iter::once(first)
        .chain(servers)
        .filter(|server| excluded.contains(&IpNet::from(**server)))
        .map(|server| Warning::DnsServerNotExcluded { server: *server })
        .collect()
}

impl Warning {
    /// What it is and what to do about it, in the words in which the policy was asked for.
    #[must_use]
    pub fn text(&self, vocabulary: Vocabulary) -> String {
        let name = |field: Field| field.name(vocabulary);
        match self {
            Self::NothingOutbound => format!(
                "captures nothing outbound ({}): every connection that the pod opens passes the \
                 proxy by; {} captures all of them",
                without(
                    Field::OutboundCidrs,
                    Field::OutboundIncludePorts,
                    vocabulary
                ),
                all(Field::OutboundCidrs, vocabulary)
            ),
            Self::NothingInbound => format!(
                "captures nothing inbound (no {}): every connection that arrives passes the proxy \
                 by; {} captures all of them",
                name(Field::InboundPorts),
                all(Field::InboundPorts, vocabulary)
            ),
            Self::Nobody => format!(
                "captures nothing outbound ({} names no group): every connection that the pod opens \
                 passes the proxy by; name the application's group, or leave it out",
                name(Field::OwnerGroups)
            ),
            Self::Everything { field, what } => what.text(*field, vocabulary),
            Self::NeverMatches { field, item, why } => {
                format!(
                    "{} {item} never matches: {}",
                    name(*field),
                    why.text(vocabulary)
                )
            }
            Self::NeverCaptured { field, item, by } => format!(
                "{} {item} is never captured: all of it is excluded by {}; take it out of one of \
                 the two",
                name(*field),
                name(*by)
            ),
            Self::IncludePortsDoNotRestrict => format!(
                "{} captures nothing more: all destinations are captured already, and other ports \
                 are captured as well; to capture these ports only, let {} be {}",
                name(Field::OutboundIncludePorts),
                name(Field::OutboundCidrs),
                match vocabulary {
                    Vocabulary::Policy | Vocabulary::Flags(_) => "none",
                    _ => "empty",
                }
            ),
            Self::Ipv6Open => format!(
                "the pod has an IPv6 address, but IPv6 is not captured: every IPv6 connection \
                 passes the proxy by; capture it ({}), or give the pod IPv4 only",
                match vocabulary {
                    Vocabulary::Istio | Vocabulary::Flags(_) => "--ipv6 auto",
                    Vocabulary::Linkerd => "--ipv6=true",
                    _ => "ipv6: auto",
                }
            ),
            Self::DnsExcluded => format!(
                "DNS is not captured: {} lets port 53 pass; take it out there, or leave out {}",
                name(Field::OutboundExcludePorts),
                name(Field::Dns)
            ),
            Self::DnsWithoutServers => format!(
                "DNS is not captured: no server is known whose queries could be (none of a \
                 captured family in /etc/resolv.conf or in the policy); capture queries to any \
                 server ({})",
                match vocabulary {
                    Vocabulary::Istio => "--capture-all-dns",
                    Vocabulary::Flags(_) => "--dns all",
                    _ => "dns.servers: all",
                }
            ),
            Self::DnsServerNotExcluded { server } => format!(
                "{} {server} does not let DNS queries to it pass: {} captures them before; to let \
                 them pass, name the other servers in {}, or let port 53 pass ({})",
                name(Field::OutboundExcludeCidrs),
                name(Field::Dns),
                match vocabulary {
                    Vocabulary::Flags(_) => "--dns",
                    _ => "dns.servers of a policy file",
                },
                name(Field::OutboundExcludePorts)
            ),
            Self::RootGroupPasses => format!(
                "{} 0 is root's group, under which most containers run: all that they send passes \
                 the proxy by; run what is to pass under a group of its own, and name that",
                name(Field::OwnerGroupsExclude)
            ),
            Self::RootPasses { field } => format!(
                "{} 0 is the proxy: every process of root's passes the proxy by; run the proxy \
                 under an id that no other container has",
                name(*field)
            ),
            Self::TakenForProxy {
                container,
                field,
                id,
            } => format!(
                "{container} runs under the proxy's {} {id}: all that it sends passes the proxy \
                 by; run it under another, or the proxy",
                match field {
                    Field::ProxyGids => "group id",
                    _ => "user id",
                }
            ),
        }
    }
}

fn without(one: Field, other: Field, vocabulary: Vocabulary) -> String {
    format!("no {}, no {}", one.name(vocabulary), other.name(vocabulary))
}

/// How to capture all.
fn all(field: Field, vocabulary: Vocabulary) -> String {
    let name = field.name(vocabulary);
    match vocabulary {
        Vocabulary::Istio => format!("`{name} '*'`"),
        Vocabulary::IstioAnnotations => format!("`{name}: \"*\"`"),
        Vocabulary::Linkerd | Vocabulary::LinkerdAnnotations => format!("leaving {name} out"),
        Vocabulary::Flags(_) if name.starts_with('-') => format!("`{name} all`"),
        Vocabulary::Policy | Vocabulary::Flags(_) => format!("`{name}: all`"),
    }
}
