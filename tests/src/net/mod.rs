//! Namespaces, pods, and who a connection belongs to.

mod namespace;
mod netlink;
mod network;
mod pod;
mod user;

pub use namespace::Namespace;
pub use network::{Network, Node};
pub use pod::{AsUser, Pod, PodBuilder};
pub use user::User;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP family, for tests that must hold in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which failures are easiest to read.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// The address that stands for all addresses.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The source of the sidecar's inbound upstream connections.
    pub fn inbound_source(self) -> IpAddr {
        match self {
            Self::V4 => shunt_abi::addr::INBOUND_SOURCE_V4.into(),
            Self::V6 => shunt_abi::addr::INBOUND_SOURCE_V6.into(),
        }
    }
}
