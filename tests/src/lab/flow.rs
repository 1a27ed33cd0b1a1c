//! What is sent: by whom, from where, where to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Cgroup, Place};
use crate::net::Family;

/// Flows that happen one after the other from one source port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// In this order; each ends before the next begins.
    pub flows: Vec<Flow>,
}

impl From<Flow> for Trial {
    fn from(flow: Flow) -> Self {
        Self { flows: vec![flow] }
    }
}

/// One connection, or one datagram and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where the client is.
    pub from: Place,
    /// Whose socket it is.
    pub owner: Owner,
    /// What it binds before it connects.
    pub source: Source,
    /// How it speaks.
    pub protocol: Protocol,
    /// Where it wants to go.
    pub to: SocketAddr,
}

/// Whose a socket is, as the rules can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user id with which it was made.
    pub uid: u32,
    /// The group id with which it was made.
    pub gid: u32,
    /// Its `SO_MARK`.
    pub mark: Option<u32>,
    /// The cgroup in which it was made, if not in the test's own.
    pub cgroup: Option<Cgroup>,
}

impl Owner {
    /// An ordinary application.
    pub const APP: Self = Self {
        uid: 1000,
        gid: 1000,
        mark: None,
        cgroup: None,
    };
}

/// What a client binds before it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing but a port that no other flow has.
    Any,
    /// An address, owned by its namespace or not, and such a port.
    Address(IpAddr),
    /// A certain port.
    Port(u16),
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram, and one back.
    Udp,
    /// A TCP packet that agrees to a connection which nobody asked for, sent from outside. Conntrack
    /// calls it invalid; a reset is what comes back unless it is dropped.
    Stray,
}

impl Flow {
    /// The IP version.
    pub fn family(&self) -> Family {
        match self.to {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            owner,
            source,
            protocol,
            to,
        } = self;
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Stray => "stray tcp",
        };
        write!(f, "{from:?} uid {} gid {}", owner.uid, owner.gid)?;
        if let Some(mark) = owner.mark {
            write!(f, " mark {mark:#x}")?;
        }
        if let Some(cgroup) = owner.cgroup {
            write!(f, " in cgroup {cgroup}")?;
        }
        match source {
            Source::Any => {}
            Source::Address(address) => write!(f, " from {address}")?,
            Source::Port(port) => write!(f, " from port {port}")?,
        }
        write!(f, " -> {protocol} {to}")
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, flow) in self.flows.iter().enumerate() {
            if at > 0 {
                f.write_str(", then from the same port ")?;
            }
            flow.fmt(f)?;
        }
        Ok(())
    }
}
