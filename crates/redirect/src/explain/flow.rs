//! The question: a packet, as far as rules can tell one from another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::ruleset::Family;

/// A packet. Of a connection, ask for the first one: nat decides on no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the rules meet it.
    pub side: Side,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Source address and port; the port is 0 where the protocol has none.
    pub source: SocketAddr,
    /// Destination address and port, of the source's family.
    pub destination: SocketAddr,
    /// What conntrack will say of it.
    pub state: State,
    /// Whether it goes against the way of its connection's first packet.
    pub answers: bool,
    /// Its mark: when sent, that of the socket (`SO_MARK`).
    pub mark: u32,
    /// The mark of its connection.
    pub connection_mark: u32,
}

/// Where the rules meet a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// It arrives.
    Arrives {
        /// Name of the interface it arrives by.
        interface: String,
        /// Name of the interface it would be forwarded by, had no rule redirected it. `None`: it is
        /// addressed to this machine.
        forwarded_by: Option<String>,
    },
    /// A process of this machine sends it, or the kernel for one.
    Sent {
        /// Name of the interface that routing has chosen for its destination; `lo` for the
        /// machine's own addresses.
        interface: String,
        /// Who sends it.
        sender: Sender,
    },
}

/// Who sends a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// No socket: the kernel answers for a connection that no process holds any more.
    NoSocket,
    /// A socket. What is not known of it is `None`; rules that ask for it then might match.
    Socket {
        /// User id with which it was made.
        uid: Option<u32>,
        /// Group id with which it was made.
        gid: Option<u32>,
        /// Path of the cgroup (version 2) in which it was made; that of the root is empty.
        cgroup: Option<String>,
    },
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// The protocol of this number (IANA), which has no ports.
    Other(u8),
}

/// What conntrack says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The first packet of a connection.
    New,
    /// A packet of a connection that has seen both directions.
    Established,
    /// The first packet of a connection that another one announced; or an ICMP error.
    Related,
    /// It cannot be placed.
    Invalid,
    /// It is not looked up.
    Untracked,
}

impl Flow {
    /// The first packet of a connection that arrives by `interface`, addressed to this machine.
    #[must_use]
    pub fn arriving(
        interface: &str,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let side = Side::Arrives {
            interface: interface.to_owned(),
            forwarded_by: None,
        };
        Self::first(side, protocol, source, destination)
    }

    /// The first packet of a connection that a process with this user and group opens, and that
    /// leaves by `interface`. In what cgroup is not known.
    #[must_use]
    pub fn sent(
        interface: &str,
        (uid, gid): (u32, u32),
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let side = Side::Sent {
            interface: interface.to_owned(),
            sender: Sender::Socket {
                uid: Some(uid),
                gid: Some(gid),
                cgroup: None,
            },
        };
        Self::first(side, protocol, source, destination)
    }

    fn first(side: Side, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            side,
            protocol,
            source,
            destination,
            state: State::New,
            answers: false,
            mark: 0,
            connection_mark: 0,
        }
    }

    /// That of its destination.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.destination {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

impl Protocol {
    /// Its number (IANA).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Other(number) => number,
        }
    }

    /// The protocol of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            other => Self::Other(other),
        }
    }

    /// Whether its packets have ports that rules can ask for.
    pub(super) const fn has_ports(self) -> bool {
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        matches!(self.number(), 6 | 17 | 33 | 132 | 136)
    }
}

/// The loopback address of a family, to which REDIRECT sends what a process of this machine opens.
pub(super) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            source,
            destination,
            ..
        } = self;
        write!(f, "{protocol} {source} -> {destination}")?;
        match &self.side {
            Side::Arrives {
                interface,
                forwarded_by,
            } => {
                write!(f, ", arriving by {interface}")?;
                if let Some(out) = forwarded_by {
                    write!(f, " to be forwarded by {out}")?;
                }
            }
            Side::Sent { interface, sender } => {
                write!(f, ", leaving by {interface}, sent by ")?;
                match sender {
                    Sender::NoSocket => f.write_str("no socket")?,
                    Sender::Socket { uid, gid, cgroup } => {
                        let id =
                            |id: &Option<u32>| id.map_or("any".to_owned(), |id| id.to_string());
                        write!(f, "uid {} gid {}", id(uid), id(gid))?;
                        if let Some(cgroup) = cgroup {
                            write!(f, " in cgroup /{}", cgroup.trim_matches('/'))?;
                        }
                    }
                }
            }
        }
        if self.mark != 0 {
            write!(f, ", mark {:#x}", self.mark)?;
        }
        if self.connection_mark != 0 {
            write!(f, ", connection mark {:#x}", self.connection_mark)?;
        }
        if self.state != State::New {
            write!(f, ", {}", format!("{:?}", self.state).to_lowercase())?;
        }
        if self.answers {
            f.write_str(", an answer")?;
        }
        Ok(())
    }
}
