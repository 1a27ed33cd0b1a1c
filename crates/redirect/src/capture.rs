//! The capture policy, typed and parsed once: what is taken, and what passes.
//!
//! Every way of asking for capture (Istio's flags today) ends in a [`CaptureConfig`];
//! [`crate::plan::plan`] makes rules of it.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use ipnet::IpNet;
use shunt_abi::{identity, port};

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

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Ports, as disjoint intervals.
pub type Ports = Ranges<u16>;

/// What is captured, and who the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// How the rules recognise the proxy's own packets.
    pub proxy: ProxyIdentity,
    /// Connections that arrive from other machines.
    pub inbound: Inbound,
    /// Connections that processes of the pod open.
    pub outbound: Outbound,
    /// Whether IPv6 is captured.
    pub ipv6: Ipv6Mode,
}

/// How the rules recognise the proxy's own packets: by the credentials its sockets were made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// Numeric user ids.
    pub uids: BTreeSet<u32>,
    /// Numeric group ids.
    pub gids: BTreeSet<u32>,
}

/// Inbound capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where captured connections go, and where the proxy's calls to its own pod go.
    pub port: Port,
    /// The HBONE tunnel, which is never captured.
    pub tunnel: Port,
    /// Which ports are captured.
    pub capture: InboundCapture,
}

/// Which inbound ports are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundCapture {
    /// None (Istio: `-b ''`).
    Nothing,
    /// All but these (Istio: `-b '*' -d …`).
    All {
        /// Ports that pass.
        except: Ports,
    },
    /// These (Istio: `-b 80,443`).
    Only(Ports),
}

/// Outbound capture.
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
}

impl Inbound {
    /// Whether no inbound connection is captured.
    #[must_use]
    pub fn captures_nothing(&self) -> bool {
        self.capture == InboundCapture::Nothing
    }
}

impl Outbound {
    /// Whether no outbound connection is captured: neither by destination nor by port.
    #[must_use]
    pub fn captures_nothing(&self) -> bool {
        let no_destination =
            matches!(&self.capture, OutboundCapture::Only(cidrs) if cidrs.is_empty());
        no_destination && self.include_ports.is_empty()
    }
}

/// Which outbound destinations are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundCapture {
    /// Every destination (Istio: `-i '*'`).
    All,
    /// These blocks; empty captures nothing by address.
    Only(Vec<IpNet>),
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
    /// Never.
    Off,
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
            },
            inbound: Inbound {
                port: INBOUND,
                tunnel: TUNNEL,
                capture: InboundCapture::All {
                    except: own_ports.into_iter().map(|port| (port, port)).collect(),
                },
            },
            outbound: Outbound {
                port: OUTBOUND,
                capture: OutboundCapture::All,
                exclude_cidrs: Vec::new(),
                include_ports: Ports::default(),
                exclude_ports: Ports::default(),
            },
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

#[expect(
    clippy::panic,
    reason = "evaluated only in constants: a zero fails the build"
)]
const fn well_known(port: u16) -> Port {
    match Port::new(port) {
        Some(port) => port,
        None => panic!("a well-known port is zero"),
    }
}
