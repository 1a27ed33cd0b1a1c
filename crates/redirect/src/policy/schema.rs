//! The schema: what a policy file may say, field by field.

use serde::{Deserialize, Serialize};

use super::leaf::{
    Address, Cgroup, Cidr, Id, Interface, Loopback, MarkNumber, PortNumber, PortRange, Selection,
    Servers, Table, Tunnel,
};
use crate::capture;
use crate::capture::CaptureConfig;

/// A policy file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    api_version: ApiVersion,
    kind: Kind,
    #[serde(default)]
    pub(super) spec: Spec,
}

#[derive(Debug, Serialize, Deserialize)]
enum ApiVersion {
    #[serde(rename = "shunt.dev/v1")]
    V1,
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    CapturePolicy,
}

/// [`CaptureConfig`], in words of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    proxy: Proxy,
    inbound: Inbound,
    outbound: Outbound,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
    interfaces: Interfaces,
    loopback_cidr: Loopback,
    drop_invalid: bool,
    ipv6: Ipv6,
}

/// Unlike elsewhere, what is not given here is empty: a proxy that is known by a mark is not known
/// by user 1337 as well.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Proxy {
    #[serde(default)]
    uids: Vec<Id>,
    #[serde(default)]
    gids: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<MarkNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<Cgroup>,
    #[serde(default = "yes")]
    self_calls: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Inbound {
    port: PortNumber,
    tunnel_port: Tunnel,
    #[serde(skip_serializing_if = "Option::is_none")]
    tproxy: Option<Tproxy>,
    capture: Selection<PortRange>,
    exclude_ports: Vec<PortRange>,
    exclude_sources: Vec<Cidr>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Tproxy {
    mark: MarkNumber,
    table: Table,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Outbound {
    port: PortNumber,
    capture: Selection<Cidr>,
    exclude_cidrs: Vec<Cidr>,
    include_ports: Vec<PortRange>,
    exclude_ports: Vec<PortRange>,
    owner_groups: OwnerGroups,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "GivenGroups")]
enum OwnerGroups {
    Except(Vec<Id>),
    Only(Vec<Id>),
}

/// [`OwnerGroups`] as they may be written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenGroups {
    except: Option<Vec<Id>>,
    only: Option<Vec<Id>>,
}

impl TryFrom<GivenGroups> for OwnerGroups {
    type Error = &'static str;

    fn try_from(given: GivenGroups) -> Result<Self, Self::Error> {
        match (given.except, given.only) {
            (Some(_), Some(_)) => Err("has both `except` and `only`; keep one of them"),
            (_, Some(groups)) => Ok(Self::Only(groups)),
            (groups, None) => Ok(Self::Except(groups.unwrap_or_default())),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Dns {
    port: PortNumber,
    servers: Servers,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Interfaces {
    exclude: Vec<Interface>,
    reroute: Vec<Interface>,
}

/// Not `on` and `off`, which are booleans to half of all YAML programs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Ipv6 {
    Auto,
    Istio,
    Always,
    Never,
}

impl Default for Spec {
    fn default() -> Self {
        Self::from(&CaptureConfig::default())
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::from(&CaptureConfig::default().inbound)
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self::from(&CaptureConfig::default().outbound)
    }
}

impl Default for Tproxy {
    fn default() -> Self {
        Self {
            mark: MarkNumber(capture::TPROXY_MARK),
            table: Table(capture::TPROXY_TABLE),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            port: PortNumber(capture::DNS_PROXY),
            servers: Servers::ResolvConf,
        }
    }
}

impl Document {
    pub(super) fn of(config: &CaptureConfig) -> Self {
        Self {
            api_version: ApiVersion::V1,
            kind: Kind::CapturePolicy,
            spec: Spec::from(config),
        }
    }
}

impl From<&CaptureConfig> for Spec {
    fn from(config: &CaptureConfig) -> Self {
        let proxy = &config.proxy;
        Self {
            proxy: Proxy {
                uids: proxy.uids.iter().copied().map(Id).collect(),
                gids: proxy.gids.iter().copied().map(Id).collect(),
                mark: proxy.mark.map(MarkNumber),
                cgroup: proxy.cgroup.clone().map(Cgroup),
                self_calls: proxy.self_calls,
            },
            inbound: (&config.inbound).into(),
            outbound: (&config.outbound).into(),
            dns: config.dns.as_ref().map(|dns| Dns {
                port: PortNumber(dns.port),
                servers: (&dns.servers).into(),
            }),
            interfaces: Interfaces {
                exclude: config
                    .interfaces
                    .exclude
                    .iter()
                    .cloned()
                    .map(Interface)
                    .collect(),
                reroute: config
                    .interfaces
                    .reroute
                    .iter()
                    .cloned()
                    .map(Interface)
                    .collect(),
            },
            loopback_cidr: Loopback(config.loopback_v4),
            drop_invalid: config.drop_invalid,
            ipv6: match config.ipv6 {
                capture::Ipv6Mode::Auto => Ipv6::Auto,
                capture::Ipv6Mode::Istio => Ipv6::Istio,
                capture::Ipv6Mode::On => Ipv6::Always,
                capture::Ipv6Mode::Off => Ipv6::Never,
            },
        }
    }
}

impl From<&capture::Inbound> for Inbound {
    fn from(inbound: &capture::Inbound) -> Self {
        Self {
            port: PortNumber(inbound.port),
            tunnel_port: Tunnel(inbound.tunnel),
            tproxy: match inbound.mode {
                capture::InboundMode::Redirect => None,
                capture::InboundMode::Tproxy { mark, table } => Some(Tproxy {
                    mark: MarkNumber(mark),
                    table: Table(table),
                }),
            },
            capture: match &inbound.capture {
                capture::InboundCapture::Nothing => Selection::None,
                capture::InboundCapture::All => Selection::All,
                capture::InboundCapture::Only(ports) => Selection::Only(PortRange::list(ports)),
            },
            exclude_ports: PortRange::list(&inbound.exclude_ports),
            exclude_sources: inbound.exclude_sources.iter().copied().map(Cidr).collect(),
        }
    }
}

impl From<&capture::Outbound> for Outbound {
    fn from(outbound: &capture::Outbound) -> Self {
        let ids = |groups: &std::collections::BTreeSet<u32>| {
            groups.iter().copied().map(Id).collect::<Vec<_>>()
        };
        Self {
            port: PortNumber(outbound.port),
            capture: match &outbound.capture {
                capture::OutboundCapture::All => Selection::All,
                capture::OutboundCapture::Only(cidrs) if cidrs.is_empty() => Selection::None,
                capture::OutboundCapture::Only(cidrs) => {
                    Selection::Only(cidrs.iter().copied().map(Cidr).collect())
                }
            },
            exclude_cidrs: outbound.exclude_cidrs.iter().copied().map(Cidr).collect(),
            include_ports: PortRange::list(&outbound.include_ports),
            exclude_ports: PortRange::list(&outbound.exclude_ports),
            owner_groups: match &outbound.owners {
                capture::OwnerGroups::Except(groups) => OwnerGroups::Except(ids(groups)),
                capture::OwnerGroups::Only(groups) => OwnerGroups::Only(ids(groups)),
            },
        }
    }
}

impl From<Spec> for CaptureConfig {
    fn from(spec: Spec) -> Self {
        Self {
            proxy: capture::ProxyIdentity {
                uids: spec.proxy.uids.into_iter().map(|id| id.0).collect(),
                gids: spec.proxy.gids.into_iter().map(|id| id.0).collect(),
                mark: spec.proxy.mark.map(|mark| mark.0),
                cgroup: spec.proxy.cgroup.map(|cgroup| cgroup.0),
                self_calls: spec.proxy.self_calls,
            },
            inbound: spec.inbound.into(),
            outbound: spec.outbound.into(),
            dns: spec.dns.map(|dns| capture::Dns {
                port: dns.port.0,
                servers: dns.servers.into(),
            }),
            interfaces: capture::Interfaces {
                exclude: names(spec.interfaces.exclude),
                reroute: names(spec.interfaces.reroute),
            },
            loopback_v4: spec.loopback_cidr.0,
            drop_invalid: spec.drop_invalid,
            ipv6: match spec.ipv6 {
                Ipv6::Auto => capture::Ipv6Mode::Auto,
                Ipv6::Istio => capture::Ipv6Mode::Istio,
                Ipv6::Always => capture::Ipv6Mode::On,
                Ipv6::Never => capture::Ipv6Mode::Off,
            },
        }
    }
}

impl From<Inbound> for capture::Inbound {
    fn from(inbound: Inbound) -> Self {
        Self {
            port: inbound.port.0,
            tunnel: inbound.tunnel_port.0,
            mode: match inbound.tproxy {
                None => capture::InboundMode::Redirect,
                Some(Tproxy { mark, table }) => capture::InboundMode::Tproxy {
                    mark: mark.0,
                    table: table.0,
                },
            },
            capture: match inbound.capture {
                Selection::All => capture::InboundCapture::All,
                Selection::None => capture::InboundCapture::Nothing,
                Selection::Only(ports) => capture::InboundCapture::Only(PortRange::ports(&ports)),
            },
            exclude_ports: PortRange::ports(&inbound.exclude_ports),
            exclude_sources: blocks(inbound.exclude_sources),
        }
    }
}

impl From<Outbound> for capture::Outbound {
    fn from(outbound: Outbound) -> Self {
        let ids = |ids: Vec<Id>| ids.into_iter().map(|id| id.0).collect();
        Self {
            port: outbound.port.0,
            capture: match outbound.capture {
                Selection::All => capture::OutboundCapture::All,
                Selection::None => capture::OutboundCapture::Only(Vec::new()),
                Selection::Only(cidrs) => capture::OutboundCapture::Only(blocks(cidrs)),
            },
            exclude_cidrs: blocks(outbound.exclude_cidrs),
            include_ports: PortRange::ports(&outbound.include_ports),
            exclude_ports: PortRange::ports(&outbound.exclude_ports),
            owners: match outbound.owner_groups {
                OwnerGroups::Except(groups) => capture::OwnerGroups::Except(ids(groups)),
                OwnerGroups::Only(groups) => capture::OwnerGroups::Only(ids(groups)),
            },
        }
    }
}

impl From<&capture::DnsServers> for Servers {
    fn from(servers: &capture::DnsServers) -> Self {
        match servers {
            capture::DnsServers::ResolvConf => Self::ResolvConf,
            capture::DnsServers::All => Self::All,
            capture::DnsServers::Only(servers) => {
                Self::Only(servers.iter().copied().map(Address).collect())
            }
        }
    }
}

impl From<Servers> for capture::DnsServers {
    fn from(servers: Servers) -> Self {
        match servers {
            Servers::ResolvConf => Self::ResolvConf,
            Servers::All => Self::All,
            Servers::Only(servers) => {
                Self::Only(servers.into_iter().map(|server| server.0).collect())
            }
        }
    }
}

fn names(interfaces: Vec<Interface>) -> std::collections::BTreeSet<capture::InterfaceName> {
    interfaces
        .into_iter()
        .map(|interface| interface.0)
        .collect()
}

fn blocks(cidrs: Vec<Cidr>) -> Vec<ipnet::IpNet> {
    cidrs.into_iter().map(|cidr| cidr.0).collect()
}
