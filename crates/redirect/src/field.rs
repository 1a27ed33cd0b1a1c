//! The parts of a policy, and what each is called in the words in which it was asked for.

/// A part of [`crate::CaptureConfig`] that a person sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Who the proxy is.
    Proxy,
    /// Its user ids.
    ProxyUids,
    /// Its group ids.
    ProxyGids,
    /// Its mark.
    ProxyMark,
    /// Where inbound connections go.
    InboundPort,
    /// The tunnel's port.
    TunnelPort,
    /// Which inbound ports are captured.
    InboundPorts,
    /// Which inbound ports pass.
    InboundExcludePorts,
    /// Which clients pass.
    InboundExcludeSources,
    /// TPROXY's mark.
    TproxyMark,
    /// TPROXY's route table.
    TproxyTable,
    /// Where outbound connections go.
    OutboundPort,
    /// Which destinations are captured.
    OutboundCidrs,
    /// Which destinations pass.
    OutboundExcludeCidrs,
    /// Which outbound ports are captured whatever the destination.
    OutboundIncludePorts,
    /// Which outbound ports pass.
    OutboundExcludePorts,
    /// Whose connections are captured.
    OwnerGroups,
    /// Whose connections pass.
    OwnerGroupsExclude,
    /// Whether DNS is captured.
    Dns,
    /// Where DNS queries go.
    DnsPort,
    /// Interfaces that pass.
    ExcludeInterfaces,
    /// Interfaces whose traffic counts as outbound.
    RerouteInterfaces,
    /// The loopback block.
    Loopback,
    /// Whether IPv6 is captured.
    Ipv6,
}

/// The words in which a policy was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// Flags and variables of `istio-iptables`.
    Istio,
    /// Flags of Linkerd's proxy-init.
    Linkerd,
    /// Istio's annotations of a pod.
    IstioAnnotations,
    /// Linkerd's annotations of a pod.
    LinkerdAnnotations,
    /// Shunt's own policy, as a file.
    Policy,
    /// Flags of `shunt-init apply`, beside a policy file or without one.
    Flags(Flagged),
}

/// The fields of which a person thinks as flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flagged(u32);

impl Flagged {
    /// All: there is no policy file.
    pub const ALL: Self = Self(u32::MAX);

    /// These too.
    #[must_use]
    pub const fn with(self, field: Field) -> Self {
        Self(self.0 | field.bit())
    }

    const fn holds(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }
}

impl Field {
    /// What it is called. Where the words have no name for it, what it is called in a policy file.
    #[must_use]
    pub const fn name(self, vocabulary: Vocabulary) -> &'static str {
        let name = match vocabulary {
            Vocabulary::Istio => self.istio(),
            Vocabulary::Linkerd => self.linkerd(),
            Vocabulary::IstioAnnotations => self.istio_annotation(),
            Vocabulary::LinkerdAnnotations => self.linkerd_annotation(),
            Vocabulary::Flags(flagged) if flagged.holds(self) => self.flag(),
            Vocabulary::Policy | Vocabulary::Flags(_) => None,
        };
        match name {
            Some(name) => name,
            None => self.policy(),
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 24] = [
        Self::Proxy,
        Self::ProxyUids,
        Self::ProxyGids,
        Self::ProxyMark,
        Self::InboundPort,
        Self::TunnelPort,
        Self::InboundPorts,
        Self::InboundExcludePorts,
        Self::InboundExcludeSources,
        Self::TproxyMark,
        Self::TproxyTable,
        Self::OutboundPort,
        Self::OutboundCidrs,
        Self::OutboundExcludeCidrs,
        Self::OutboundIncludePorts,
        Self::OutboundExcludePorts,
        Self::OwnerGroups,
        Self::OwnerGroupsExclude,
        Self::Dns,
        Self::DnsPort,
        Self::ExcludeInterfaces,
        Self::RerouteInterfaces,
        Self::Loopback,
        Self::Ipv6,
    ];

    /// There are fewer fields than bits.
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The flag of `shunt-init apply` that sets it.
    pub(crate) const fn flag(self) -> Option<&'static str> {
        Some(match self {
            Self::Proxy | Self::ProxyUids => "--proxy-uids",
            Self::ProxyGids => "--proxy-gids",
            Self::InboundPort => "--inbound-port",
            Self::InboundPorts => "--capture-inbound-ports",
            Self::InboundExcludePorts => "--exclude-inbound-ports",
            Self::InboundExcludeSources => "--exclude-inbound-sources",
            Self::OutboundPort => "--outbound-port",
            Self::OutboundCidrs => "--capture-outbound-cidrs",
            Self::OutboundExcludeCidrs => "--exclude-outbound-cidrs",
            Self::OutboundIncludePorts => "--include-outbound-ports",
            Self::OutboundExcludePorts => "--exclude-outbound-ports",
            Self::ExcludeInterfaces => "--exclude-interfaces",
            Self::Dns => "--dns",
            Self::Ipv6 => "--ipv6",
            _ => return None,
        })
    }

    const fn policy(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::ProxyUids => "proxy.uids",
            Self::ProxyGids => "proxy.gids",
            Self::ProxyMark => "proxy.mark",
            Self::InboundPort => "inbound.port",
            Self::TunnelPort => "inbound.tunnelPort",
            Self::InboundPorts => "inbound.capture",
            Self::InboundExcludePorts => "inbound.excludePorts",
            Self::InboundExcludeSources => "inbound.excludeSources",
            Self::TproxyMark => "inbound.tproxy.mark",
            Self::TproxyTable => "inbound.tproxy.table",
            Self::OutboundPort => "outbound.port",
            Self::OutboundCidrs => "outbound.capture",
            Self::OutboundExcludeCidrs => "outbound.excludeCidrs",
            Self::OutboundIncludePorts => "outbound.includePorts",
            Self::OutboundExcludePorts => "outbound.excludePorts",
            Self::OwnerGroups => "outbound.ownerGroups.only",
            Self::OwnerGroupsExclude => "outbound.ownerGroups.except",
            Self::Dns => "dns",
            Self::DnsPort => "dns.port",
            Self::ExcludeInterfaces => "interfaces.exclude",
            Self::RerouteInterfaces => "interfaces.reroute",
            Self::Loopback => "loopbackCidr",
            Self::Ipv6 => "ipv6",
        }
    }

    const fn istio(self) -> Option<&'static str> {
        Some(match self {
            Self::Proxy | Self::ProxyUids => "--proxy-uid",
            Self::ProxyGids => "--proxy-gid",
            Self::InboundPort => "--inbound-capture-port",
            Self::TunnelPort => "--inbound-tunnel-port",
            Self::InboundPorts => "-b",
            Self::InboundExcludePorts => "-d",
            Self::TproxyMark => "--istio-inbound-tproxy-mark",
            Self::TproxyTable => "--istio-inbound-tproxy-route-table",
            Self::OutboundPort => "--envoy-port",
            Self::OutboundCidrs => "-i",
            Self::OutboundExcludeCidrs => "-x",
            Self::OutboundIncludePorts => "-q",
            Self::OutboundExcludePorts => "-o",
            Self::OwnerGroups => "ISTIO_OUTBOUND_OWNER_GROUPS",
            Self::OwnerGroupsExclude => "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
            Self::Dns => "--redirect-dns",
            Self::ExcludeInterfaces => "-c",
            Self::RerouteInterfaces => "-k",
            Self::Loopback => "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
            Self::Ipv6 => "--ipv6",
            Self::DnsPort => "the port of captured DNS queries",
            Self::ProxyMark | Self::InboundExcludeSources => return None,
        })
    }

    const fn linkerd(self) -> Option<&'static str> {
        Some(match self {
            Self::Proxy | Self::ProxyUids => "--proxy-uid",
            Self::ProxyGids => "--proxy-gid",
            Self::InboundPort => "--incoming-proxy-port",
            Self::InboundPorts => "--ports-to-redirect",
            Self::InboundExcludePorts => "--inbound-ports-to-ignore",
            Self::InboundExcludeSources => "--subnets-to-ignore",
            Self::OutboundPort => "--outgoing-proxy-port",
            Self::OutboundExcludePorts => "--outbound-ports-to-ignore",
            Self::Ipv6 => "--ipv6",
            _ => return None,
        })
    }

    const fn istio_annotation(self) -> Option<&'static str> {
        Some(match self {
            Self::InboundPorts => "traffic.sidecar.istio.io/includeInboundPorts",
            Self::InboundExcludePorts => "traffic.sidecar.istio.io/excludeInboundPorts",
            Self::OutboundCidrs => "traffic.sidecar.istio.io/includeOutboundIPRanges",
            Self::OutboundExcludeCidrs => "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            Self::OutboundIncludePorts => "traffic.sidecar.istio.io/includeOutboundPorts",
            Self::OutboundExcludePorts => "traffic.sidecar.istio.io/excludeOutboundPorts",
            Self::ExcludeInterfaces => "traffic.sidecar.istio.io/excludeInterfaces",
            Self::RerouteInterfaces => "istio.io/reroute-virtual-interfaces",
            Self::Proxy | Self::ProxyUids => "runAsUser of the proxy's container",
            Self::ProxyGids => "runAsGroup of the proxy's container",
            Self::Dns => "ISTIO_META_DNS_CAPTURE in proxyMetadata",
            _ => return None,
        })
    }

    const fn linkerd_annotation(self) -> Option<&'static str> {
        Some(match self {
            Self::Proxy | Self::ProxyUids => "config.linkerd.io/proxy-uid",
            Self::ProxyGids => "config.linkerd.io/proxy-gid",
            Self::InboundExcludePorts => "config.linkerd.io/skip-inbound-ports",
            Self::InboundExcludeSources => "config.linkerd.io/skip-subnets",
            Self::OutboundExcludePorts => "config.linkerd.io/skip-outbound-ports",
            _ => return None,
        })
    }
}
