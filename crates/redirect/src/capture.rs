//! The capture policy, typed and parsed once: what is taken, and what passes.
//!
//! Every way of asking for capture (our policy file, Istio's and Linkerd's arguments, annotations)
//! ends in a [`CaptureConfig`]; [`crate::plan::plan`] makes rules of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU32};

use ipnet::{IpNet, Ipv4Net};
use shunt_abi::{identity, mark, policy_route, port};

use crate::ranges::Ranges;

/// A TCP or UDP port that can be listened on: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for port 0.
    #[must_use]
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// Host byte order.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ports, as disjoint intervals.
pub type Ports = Ranges<u16>;

/// A mark of packets (`SO_MARK`). Zero is what unmarked packets have, and none.
pub type Mark = NonZeroU32;

/// Name of a network interface, or with a `+` at its end what names begin with (iptables).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// `IFNAMSIZ` without the closing zero.
    pub const MAX: usize = 15;

    /// `None` if no interface can have such a name: empty, longer than 15 bytes, `.`, `..`, one that
    /// stands for `lo` too (which is never excluded as a whole), or with characters other than letters, digits and
    /// `._-@` before the last one, which may be `+`.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let stem = name.strip_suffix('+').unwrap_or(name);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let known = !stem.is_empty()
            && name.len() <= Self::MAX
            && stem.bytes().all(allowed)
            && !matches!(name, "." | "..");
        let name = Self(name.to_owned());
        (known && !name.matches("lo")).then_some(name)
    }

    /// As iptables writes it, a `+` at the end included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names begin with, if it stands for more than one.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('+')
    }

    /// Whether it stands for this interface.
    #[must_use]
    pub fn matches(&self, interface: &str) -> bool {
        match self.prefix() {
            Some(prefix) => interface.starts_with(prefix),
            None => interface == self.0,
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Path of a cgroup (version 2) below the root of its tree, like `kubepods/pod1/proxy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// `None` if it is empty, longer than 512 bytes or deeper than 255 levels, holds a quote, a
    /// backslash, a blank or a control character, or a step of it is empty, `.` or `..`. A slash
    /// before or after it does not count.
    #[must_use]
    pub fn new(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let step = |step: &str| !matches!(step, "" | "." | "..");
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '"' && c != '\\';
        let known = path.len() <= 512
            && path.split('/').count() <= 255
            && path.split('/').all(step)
            && path.chars().all(plain);
        known.then(|| Self(path.to_owned()))
    }

    /// Without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many steps below the root.
    #[must_use]
    pub fn level(&self) -> u32 {
        let steps = self.0.split('/').count();
        u32::try_from(steps).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is captured, and who the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// How the rules recognise the proxy's own packets.
    pub proxy: ProxyIdentity,
    /// Connections that arrive from other machines.
    pub inbound: Inbound,
    /// Connections that processes of the pod open.
    pub outbound: Outbound,
    /// Queries to DNS servers, if they are captured.
    pub dns: Option<Dns>,
    /// Interfaces that are treated apart.
    pub interfaces: Interfaces,
    /// The IPv4 addresses that count as loopback; in 127.0.0.0/8
    /// (Istio: `ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR`).
    pub loopback_v4: Ipv4Net,
    /// Whether arriving packets that conntrack cannot place are dropped.
    pub drop_invalid: bool,
    /// Whether IPv6 is captured.
    pub ipv6: Ipv6Mode,
}

/// How the rules recognise the proxy's own packets. Any of these does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// Numeric user ids, with which sockets were made.
    pub uids: BTreeSet<u32>,
    /// Numeric group ids, with which sockets were made.
    pub gids: BTreeSet<u32>,
    /// What the proxy marks its packets with. It needs `CAP_NET_ADMIN` for that.
    pub mark: Option<Mark>,
    /// The cgroup whose processes, and those of its children, are the proxy.
    pub cgroup: Option<CgroupPath>,
    /// Whether the proxy's calls to an address of its own pod enter the inbound side (Istio), or
    /// pass (Linkerd).
    pub self_calls: bool,
}

/// Inbound capture. UDP is never captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where captured connections go, and where the proxy's calls to its own pod go.
    pub port: Port,
    /// The HBONE tunnel, which is never captured.
    pub tunnel: Option<Port>,
    /// How connections reach the proxy.
    pub mode: InboundMode,
    /// Which ports are captured.
    pub capture: InboundCapture,
    /// Ports that pass, whatever [`Self::capture`] says.
    pub exclude_ports: Ports,
    /// Clients whose connections pass, by source address.
    pub exclude_sources: Vec<IpNet>,
}

/// How inbound connections reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundMode {
    /// Their destination is rewritten; the proxy asks for the original one (`SO_ORIGINAL_DST`).
    Redirect,
    /// They are handed to the proxy's transparent socket untouched, and the proxy may call the
    /// application from the client's address. It needs `CAP_NET_ADMIN` for both.
    Tproxy {
        /// Marks captured packets, and those that the proxy sends to the application.
        mark: Mark,
        /// Route table in which marked packets find the proxy.
        table: u32,
    },
}

/// Which inbound ports are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundCapture {
    /// None (Istio: `-b ''`).
    Nothing,
    /// All (Istio: `-b '*'`).
    All,
    /// These (Istio: `-b 80,443`).
    Only(Ports),
}

/// Outbound capture. Of UDP only DNS is ever captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where captured connections go.
    pub port: Port,
    /// Which destinations are captured.
    pub capture: OutboundCapture,
    /// Destinations that pass, whatever [`Self::capture`] says.
    pub exclude_cidrs: Vec<IpNet>,
    /// Ports that are captured whatever [`Self::capture`] says, unless excluded.
    pub include_ports: Ports,
    /// Ports, TCP and UDP, that pass before anything else is looked at.
    pub exclude_ports: Ports,
    /// Whose connections are captured.
    pub owners: OwnerGroups,
}

/// Which outbound destinations are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundCapture {
    /// Every destination (Istio: `-i '*'`).
    All,
    /// These blocks; empty captures nothing by address.
    Only(Vec<IpNet>),
}

/// Whose connections are captured, by the group id with which a socket was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerGroups {
    /// Everyone's but these groups'.
    Except(BTreeSet<u32>),
    /// Only these groups'.
    Only(BTreeSet<u32>),
}

/// DNS capture, UDP and TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Where captured queries go.
    pub port: Port,
    /// Queries to which servers are captured.
    pub servers: DnsServers,
}

/// Queries to which servers are captured. Those to others pass, so that a resolver which the proxy
/// itself relies on may run in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsServers {
    /// To those in `/etc/resolv.conf`, when the rules are written.
    ResolvConf,
    /// To these.
    Only(Vec<IpAddr>),
    /// To any.
    All,
}

/// Interfaces that are treated apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// What arrives or leaves by these passes.
    pub exclude: BTreeSet<InterfaceName>,
    /// What arrives by these counts as outbound: it comes from a virtual machine in the pod
    /// (Istio: `istio.io/reroute-virtual-interfaces`).
    pub reroute: BTreeSet<InterfaceName>,
}

/// Whether IPv6 is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6Mode {
    /// Whenever the pod has an IPv6 address that is neither loopback nor link-local.
    #[default]
    Auto,
    /// As Istio decides it: the family of the pod's first address, in the order of its interfaces.
    /// A pod without any address, for which Istio fails, counts as IPv4.
    Istio,
    /// Always: the rules do not wait for an address.
    On,
    /// Never.
    Off,
}

impl ProxyIdentity {
    /// Whether nothing tells the proxy from the application: then its own connections would be
    /// captured, again and again.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty() && self.mark.is_none() && self.cgroup.is_none()
    }
}

impl Inbound {
    /// Whether no inbound connection is captured.
    #[must_use]
    pub fn captures_nothing(&self) -> bool {
        match &self.capture {
            InboundCapture::Nothing => true,
            InboundCapture::All => false,
            InboundCapture::Only(ports) => ports.is_empty(),
        }
    }

    /// Mark and route table, if connections are captured by TPROXY.
    #[must_use]
    pub fn tproxy(&self) -> Option<(Mark, u32)> {
        match self.mode {
            InboundMode::Tproxy { mark, table } if !self.captures_nothing() => Some((mark, table)),
            _ => None,
        }
    }
}

impl Outbound {
    /// Whether no outbound connection is captured: neither by destination nor by port, or nobody's.
    #[must_use]
    pub fn captures_nothing(&self) -> bool {
        let no_destination =
            matches!(&self.capture, OutboundCapture::Only(cidrs) if cidrs.is_empty());
        let nobody = matches!(&self.owners, OwnerGroups::Only(groups) if groups.is_empty());
        (no_destination && self.include_ports.is_empty()) || nobody
    }

    /// Whether a loopback address is among the destinations that are asked for: then `lo` is
    /// captured too.
    #[must_use]
    pub fn asks_for_loopback(&self) -> bool {
        match &self.capture {
            OutboundCapture::All => false,
            OutboundCapture::Only(cidrs) => cidrs.iter().any(|cidr| cidr.network().is_loopback()),
        }
    }
}

impl Default for OwnerGroups {
    fn default() -> Self {
        Self::Except(BTreeSet::new())
    }
}

impl Default for CaptureConfig {
    /// What Istio's injector asks for when nothing is annotated: everything, but the sidecar's own
    /// metrics and health ports.
    fn default() -> Self {
        let own_ports = [port::STATUS, port::READINESS, port::METRICS];
        Self {
            proxy: ProxyIdentity {
                uids: BTreeSet::from([identity::PROXY_UID]),
                gids: BTreeSet::from([identity::PROXY_UID]),
                mark: None,
                cgroup: None,
                self_calls: true,
            },
            inbound: Inbound {
                port: INBOUND,
                tunnel: Some(TUNNEL),
                mode: InboundMode::Redirect,
                capture: InboundCapture::All,
                exclude_ports: own_ports.into_iter().map(|port| (port, port)).collect(),
                exclude_sources: Vec::new(),
            },
            outbound: Outbound {
                port: OUTBOUND,
                capture: OutboundCapture::All,
                exclude_cidrs: Vec::new(),
                include_ports: Ports::default(),
                exclude_ports: Ports::default(),
                owners: OwnerGroups::default(),
            },
            dns: None,
            interfaces: Interfaces::default(),
            loopback_v4: LOOPBACK_V4,
            drop_invalid: false,
            ipv6: Ipv6Mode::Auto,
        }
    }
}

/// Default of [`Outbound::port`].
pub(crate) const OUTBOUND: Port = well_known(port::OUTBOUND);
/// Default of [`Inbound::port`].
pub(crate) const INBOUND: Port = well_known(port::INBOUND);
/// Default of [`Inbound::tunnel`].
pub(crate) const TUNNEL: Port = well_known(port::TUNNEL);
/// Default of [`Dns::port`].
pub(crate) const DNS_PROXY: Port = well_known(port::DNS_PROXY);
/// Default of [`CaptureConfig::loopback_v4`].
pub(crate) const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32);
/// Default of [`InboundMode::Tproxy::table`].
pub(crate) const TPROXY_TABLE: u32 = policy_route::TABLE;
/// Default of [`InboundMode::Tproxy::mark`].
pub(crate) const TPROXY_MARK: Mark = match NonZeroU32::new(mark::TPROXY) {
    Some(mark) => mark,
    None => NonZeroU32::MIN,
};

#[expect(
    clippy::panic,
    reason = "evaluated only in constants: a zero fails the build"
)]
pub(crate) const fn well_known(port: u16) -> Port {
    match Port::new(port) {
        Some(port) => port,
        None => panic!("a well-known port is zero"),
    }
}
