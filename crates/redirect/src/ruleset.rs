//! The rules as data: one table, its sets, its chains, each rule with a key.
//!
//! [`crate::plan()`] writes it, [`crate::nft`] carries it into the kernel and reads it back, and two
//! of them compare equal exactly if the kernel decides alike. Only what a plan uses can be said.

use std::net::IpAddr;

use shunt_abi::name::chain;
use shunt_abi::{SCHEMA_VERSION, TableMark};

use crate::capture::{CgroupPath, InterfaceName, Port, Ports};
use crate::ranges::{Ranges, Scalar};

/// The content of the table `inet shunt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sorted by name.
    pub sets: Vec<Set>,
    /// In the order of [`Hook::ALL`], none empty.
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
    /// `ipv4_addr`, with intervals unless there are many addresses, host byte order.
    V4(Ranges<u32>),
    /// `ipv6_addr`, with intervals unless there are many addresses, host byte order.
    V6(Ranges<u128>),
    /// `uid`, with intervals.
    Uids(Ranges<u32>),
    /// `gid`, with intervals.
    Gids(Ranges<u32>),
}

/// A base chain. Its policy is accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it.
    pub hook: Hook,
    /// First match wins.
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain: a stage, and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Arriving packets, before conntrack.
    RawPrerouting,
    /// Sent packets, before conntrack.
    RawOutput,
    /// Arriving packets, with their connection known.
    ManglePrerouting,
    /// Sent packets; routed again if their mark changes.
    MangleOutput,
    /// First packets of arriving connections; never those that came by `lo`, whose connections
    /// went through [`Self::NatOutput`].
    NatPrerouting,
    /// First packets of connections that a local process opens.
    NatOutput,
}

impl Hook {
    /// All, in the order of a packet's way.
    pub const ALL: [Self; 6] = [
        Self::RawPrerouting,
        Self::RawOutput,
        Self::ManglePrerouting,
        Self::MangleOutput,
        Self::NatPrerouting,
        Self::NatOutput,
    ];

    /// Name of the chain that stands there.
    #[must_use]
    pub const fn chain(self) -> &'static str {
        match self {
            Self::RawPrerouting => chain::RAW_PREROUTING,
            Self::RawOutput => chain::RAW_OUTPUT,
            Self::ManglePrerouting => chain::MANGLE_PREROUTING,
            Self::MangleOutput => chain::MANGLE_OUTPUT,
            Self::NatPrerouting => chain::NAT_PREROUTING,
            Self::NatOutput => chain::NAT_OUTPUT,
        }
    }

    /// The stage it belongs to.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::RawPrerouting | Self::RawOutput => Stage::Raw,
            Self::ManglePrerouting | Self::MangleOutput => Stage::Mangle,
            Self::NatPrerouting | Self::NatOutput => Stage::Nat,
        }
    }

    /// Whether packets that a local process sends come here; else those that arrive.
    #[must_use]
    pub const fn is_output(self) -> bool {
        matches!(self, Self::RawOutput | Self::MangleOutput | Self::NatOutput)
    }
}

/// What a chain can do: iptables' table of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before conntrack: zones.
    Raw,
    /// Marks, TPROXY, dropping.
    Mangle,
    /// Redirecting.
    Nat,
}

impl Stage {
    /// Priority of its chains (`NF_IP_PRI_RAW`, `NF_IP_PRI_MANGLE`, `NF_IP_PRI_NAT_DST`).
    #[must_use]
    pub const fn priority(self) -> i32 {
        match self {
            Self::Raw => -300,
            Self::Mangle => -150,
            Self::Nat => -100,
        }
    }
}

/// A rule: if all matches hold, it counts the packet and decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// One of [`shunt_abi::rule`], where need be with an interface after a colon; at most 127
    /// bytes.
    pub key: String,
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then happens.
    pub verdict: Verdict,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The version that an address belongs to.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
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
    /// The packet arrives by `lo`.
    InLoopback,
    /// The packet leaves by `lo`.
    OutLoopback,
    /// The packet arrives by an interface of this name.
    InInterface(InterfaceName),
    /// The packet leaves by an interface of this name.
    OutInterface(InterfaceName),
    /// The packet is of this transport protocol.
    Protocol(Protocol),
    /// The packet is of the address's family, and its source passes the test.
    Source(AddressTest),
    /// The packet is of the address's family, and its destination passes the test.
    Destination(AddressTest),
    /// The packet is of this protocol, and its source port passes the test.
    SourcePort(Protocol, PortTest),
    /// The packet is of this protocol, and its destination port passes the test.
    DestinationPort(Protocol, PortTest),
    /// The sending socket's uid is in the set. Fails for packets without a socket.
    OwnerUid(String),
    /// The sending socket's gid is in the set. Fails for packets without a socket.
    OwnerGid(String),
    /// The sending socket's gid is not in the set. Fails for packets without a socket.
    NotOwnerGid(String),
    /// The sending socket was made in this cgroup, or one below it.
    Cgroup(Cgroup),
    /// The packet's mark is this.
    Mark(u32),
    /// The packet's mark is not this.
    NotMark(u32),
    /// The mark of the packet's connection is this.
    ConnectionMark(u32),
    /// The packet has a connection, and its mark is not this.
    NotConnectionMark(u32),
    /// The packet goes the way of its connection's first one.
    Original,
    /// The packet belongs to a connection that has seen both directions, or is related to one.
    Established,
    /// Conntrack cannot place the packet.
    Invalid,
}

/// A cgroup (version 2) that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path.
    pub path: CgroupPath,
    /// Its number, by which the kernel knows it: the inode of its folder.
    pub id: u64,
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
    /// Not in the set, whose type is that family's.
    NotIn(Family, String),
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
    /// Not in the set.
    NotIn(String),
}

/// What happens to a packet. Each ends its way through the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves the chain untouched.
    Return,
    /// It is gone.
    Drop,
    /// Its connection goes to this port of the machine.
    Redirect(Port),
    /// Its connection is marked [`CAPTURED`](shunt_abi::mark::CAPTURED), and it goes, marked, to
    /// the transparent socket that knows it, or else to the one that listens on this port. If there
    /// is none the rule does not match (nf_tables) or the packet is dropped (iptables).
    Tproxy {
        /// Where the proxy listens.
        port: Port,
        /// The mark it gets.
        mark: u32,
    },
    /// It leaves the chain with this mark.
    SetMark(u32),
    /// It leaves the chain with the mark of its connection.
    RestoreMark,
    /// It leaves the chain, and its connection has its mark.
    SaveMark,
    /// Its connection is looked up, and made, in this conntrack zone.
    Zone(u16),
}

impl Ruleset {
    /// What the table's comment says when it holds these rules.
    #[must_use]
    pub fn mark(&self) -> TableMark {
        TableMark {
            schema: SCHEMA_VERSION,
            policy: Some(self.policy()),
        }
    }

    /// A stable name for what they say, not a proof (the rules themselves are compared).
    fn policy(&self) -> u64 {
        let mut hash = Fnv1a::default();
        for set in &self.sets {
            hash.text(&set.name);
            match &set.elements {
                Elements::Ports(ports) => hash.intervals(ports, u16::to_be_bytes),
                Elements::V4(blocks) => hash.intervals(blocks, u32::to_be_bytes),
                Elements::V6(blocks) => hash.intervals(blocks, u128::to_be_bytes),
                Elements::Uids(ids) | Elements::Gids(ids) => hash.intervals(ids, u32::to_be_bytes),
            }
        }
        for chain in &self.chains {
            hash.text(chain.hook.chain());
            for rule in &chain.rules {
                hash.text(&crate::nft::render::rule(rule));
            }
        }
        hash.0
    }

    /// The chain on this hook.
    #[must_use]
    pub fn chain(&self, hook: Hook) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.hook == hook)
    }

    /// The set of this name.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// Number of rules in all chains.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

/// FNV-1a, 64 bit.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    }

    /// A text, and where it ends.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
    }

    fn intervals<T: Scalar, const N: usize>(
        &mut self,
        intervals: &Ranges<T>,
        bytes: fn(T) -> [u8; N],
    ) {
        for (first, last) in intervals.iter() {
            self.bytes(&bytes(first));
            self.bytes(&bytes(last));
        }
    }
}
