//! The rules as data: one table, its sets, its chains, each rule with a key.
//!
//! [`crate::plan()`] writes it, [`crate::nft`] carries it into the kernel and reads it back, and two
//! of them compare equal exactly if the kernel decides alike. Only what a plan uses can be said.

use std::net::IpAddr;

use shunt_abi::{SCHEMA_VERSION, TableMark};

use crate::capture::{Port, Ports};
use crate::ranges::Ranges;

/// The content of the table `inet shunt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sorted by name.
    pub sets: Vec<Set>,
    /// In the order of their hooks on a packet's way.
    pub chains: Vec<Chain>,
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// One of [`shunt_abi::name::set`].
    pub name: String,
    /// Type and content.
    pub elements: Elements,
}

/// Type and content of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements {
    /// `inet_service`, with intervals.
    Ports(Ports),
    /// `ipv4_addr`, with intervals, host byte order.
    V4(Ranges<u32>),
    /// `ipv6_addr`, with intervals, host byte order.
    V6(Ranges<u128>),
    /// `uid`, with intervals.
    Uids(Ranges<u32>),
    /// `gid`, with intervals.
    Gids(Ranges<u32>),
}

/// A base chain of type nat. Its policy is accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// One of [`shunt_abi::name::chain`].
    pub name: String,
    /// Where packets enter it.
    pub hook: Hook,
    /// First match wins.
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain. Both stand at priority dstnat (-100).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets that arrive from an interface.
    Prerouting,
    /// Packets that a local process sends.
    Output,
}

/// `NF_IP_PRI_NAT_DST`.
pub const PRIORITY: i32 = -100;

/// A rule: if all matches hold, it counts the packet and decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// One of [`shunt_abi::rule`]; at most 127 bytes.
    pub key: String,
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then happens.
    pub verdict: Verdict,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The packet is of this IP version.
    Family(Family),
    /// The packet leaves by `lo`.
    OutLoopback,
    /// The packet is of this transport protocol.
    Protocol(Protocol),
    /// The packet is of the address's family, and its source passes the test.
    Source(AddressTest),
    /// The packet is of the address's family, and its destination passes the test.
    Destination(AddressTest),
    /// The packet is of this protocol, and its destination port passes the test.
    DestinationPort(Protocol, PortTest),
    /// The sending socket's uid is in the set.
    OwnerUid(String),
    /// The sending socket's gid is in the set.
    OwnerGid(String),
}

/// A condition on an address. It fails for packets of the other family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressTest {
    /// Equal.
    Is(IpAddr),
    /// Not equal.
    IsNot(IpAddr),
    /// In the set, whose type is that family's.
    In(Family, String),
}

/// A condition on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortTest {
    /// Equal.
    Is(u16),
    /// Not equal.
    IsNot(u16),
    /// In the set.
    In(String),
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves the chain untouched.
    Return,
    /// Its connection goes to this port of the machine.
    Redirect(Port),
}

impl Ruleset {
    /// What the table's comment says when it holds these rules.
    #[must_use]
    pub fn mark(&self) -> TableMark {
        TableMark {
            schema: SCHEMA_VERSION,
            policy: Some(fnv1a(crate::nft::render::body(self).as_bytes())),
        }
    }

    /// Number of rules in all chains.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

/// FNV-1a, 64 bit: a stable name for a policy, not a proof (the rules themselves are compared).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
