//! Rules of any origin: chains with the hooks at which packets enter them, and rules made of tests
//! and actions.
//!
//! Three sources become this: our own plans, `iptables-save` and `nft -j list ruleset`. What a
//! source says and this cannot hold is kept as text, and decides nothing: it makes the answer
//! depend on it.

use std::net::IpAddr;
use std::sync::Arc;

use super::flow::Protocol;
use crate::ranges::Ranges;
use crate::ruleset::Family;

/// Everything that decides on packets, as far as it was given.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Chains of all tables. Jumps go by place in this list.
    pub(super) chains: Vec<Chain>,
    /// Marks whose packets are for this machine, whatever their destination (`ip rule`).
    pub(super) local_marks: Vec<LocalMark>,
    /// Families of which nothing was given, and what would have to be.
    pub(super) missing: Vec<(Family, String)>,
}

/// Packets of this family with this mark are delivered to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalMark {
    pub(super) mark: u32,
    pub(super) family: Family,
}

/// A chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The table as people name it: `inet shunt`, `iptables nat`.
    pub(super) table: String,
    pub(super) name: String,
    /// The only family it sees; `None`: both.
    pub(super) family: Option<Family>,
    pub(super) dialect: Dialect,
    /// How packets enter it, if not by a jump only.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// What differs between the two rule languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A test for what a packet does not have ends the rule, negated or not.
    Nft,
    /// A test for what a packet does not have fails; negated, it holds.
    Xtables,
}

/// How packets enter a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) kind: Kind,
    pub(super) priority: i32,
    /// Whether what no rule decided on is dropped.
    pub(super) drops: bool,
}

/// A place on a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// It arrives.
    Prerouting,
    /// It arrived, and is for this machine.
    Input,
    /// It arrived, and goes on.
    Forward,
    /// It is sent.
    Output,
    /// It leaves.
    Postrouting,
    /// An interface has received it; before everything else.
    Ingress,
    /// An interface is about to send it; after everything else.
    Egress,
}

impl Hook {
    /// Whether NAT changes destinations here; else it changes sources.
    pub(super) const fn is_destination_nat(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Filter,
    /// A packet whose mark it changes is routed again.
    Route,
    /// It sees the first packets of connections only.
    Nat,
}

impl Base {
    /// All NAT chains run where conntrack's own NAT hook stands, whatever their priority, which
    /// only orders them (`nf_nat_inet_fn`).
    pub(super) const fn order(&self) -> (i32, i32) {
        let at = match self.kind {
            Kind::Nat if self.hook.is_destination_nat() => -100,
            Kind::Nat => 100,
            _ => self.priority,
        };
        (at, self.priority)
    }

    /// Whether packets come here before conntrack has looked them up (`NF_IP_PRI_CONNTRACK`).
    pub(super) const fn is_before_conntrack(&self) -> bool {
        matches!(self.hook, Hook::Ingress) || self.order().0 < -200
    }
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) label: Label,
    /// Done from the first to the last; a test that fails ends it.
    pub(super) clauses: Vec<Clause>,
}

/// What a rule is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) comment: Option<String>,
    pub(super) text: String,
}

/// One step of a rule.
#[derive(Clone, Debug)]
pub(super) enum Clause {
    Test(Condition),
    Act(Action),
}

/// A test, perhaps negated.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) test: Test,
    pub(super) negated: bool,
}

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Incoming or outgoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Family(Family),
    /// One of these names.
    Interface(Way, Vec<NamePattern>),
    /// One of these numbers.
    Protocol(Ranges<u16>),
    /// Absent from packets of the other family.
    V4(End, Arc<Ranges<u32>>),
    V6(End, Arc<Ranges<u128>>),
    /// Absent from packets of another protocol; `None`: of one without ports.
    Port(End, Option<Protocol>, Arc<Ranges<u16>>),
    /// One of the two ports.
    EitherPort(Arc<Ranges<u16>>),
    Uid(Arc<Ranges<u32>>),
    Gid(Arc<Ranges<u32>>),
    Socket,
    Cgroup {
        path: String,
    },
    Mark {
        mask: u32,
        values: Arc<Ranges<u32>>,
    },
    ConnectionMark {
        mask: u32,
        values: Arc<Ranges<u32>>,
    },
    States(Vec<StateBit>),
    /// It goes the way of its connection's first packet.
    Original,
    /// A local address (`addrtype`, `fib`).
    Local(End),
    /// What is not understood.
    Unknown(String),
}

/// A conntrack state that rules can ask for.
pub(super) type StateBit = super::flow::State;

/// A name, or what names begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamePattern {
    pub(super) stem: String,
    pub(super) prefix: bool,
}

impl NamePattern {
    pub(super) fn exact(name: &str) -> Self {
        Self {
            stem: name.to_owned(),
            prefix: false,
        }
    }

    /// With `wildcard` at its end, what names begin with.
    pub(super) fn new(name: &str, wildcard: char) -> Self {
        match name.strip_suffix(wildcard) {
            Some(stem) => Self {
                stem: stem.to_owned(),
                prefix: true,
            },
            None => Self::exact(name),
        }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        if self.prefix {
            name.starts_with(&self.stem)
        } else {
            name == self.stem
        }
    }
}

/// What a rule does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Ends the base chain.
    Accept,
    /// Back to the calling chain; from a base chain, its policy.
    Return,
    Jump(usize),
    /// As a jump, but its return is this chain's.
    Goto(usize),
    Drop,
    Reject,
    SetMark(MarkValue),
    SetConnectionMark(MarkValue),
    Zone(u16),
    NoTrack,
    /// Ports; `None`: its own.
    Redirect(Option<(u16, u16)>),
    DestinationNat(Translation),
    SourceNat(Translation),
    Tproxy(Tproxy),
    /// It changes nothing that a rule could see.
    Nothing,
    /// What is not understood.
    Unknown(String),
}

/// What NAT makes of one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) address: New<IpAddr>,
    pub(super) port: New<u16>,
}

/// A value after translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum New<T> {
    Same,
    Is(T),
    /// One of several.
    Unknown,
}

impl<T> New<T> {
    pub(super) fn of(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Same => old,
            Self::Is(new) => Some(new),
            Self::Unknown => None,
        }
    }
}

/// Where TPROXY sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tproxy {
    /// `None`: the packet's own.
    pub(super) port: Option<u16>,
    /// iptables: value and mask of the mark it sets. The packet is then accepted, and without a
    /// listener dropped; nft does neither.
    pub(super) xtables: Option<(u32, u32)>,
}

/// Where a mark comes from.
#[derive(Clone, Debug)]
pub(super) enum MarkValue {
    Constant(u32),
    Packet,
    Connection,
    And(Box<Self>, u32),
    Or(Box<Self>, u32),
    Xor(Box<Self>, Box<Self>),
}

impl MarkValue {
    pub(super) fn and(self, mask: u32) -> Self {
        match mask {
            u32::MAX => self,
            0 => Self::Constant(0),
            mask => Self::And(Box::new(self), mask),
        }
    }

    /// This with the bits of `mask` cleared, and `value`'s flipped.
    pub(super) fn replaced(self, mask: u32, value: Self) -> Self {
        match self.and(!mask) {
            Self::Constant(0) => value,
            kept => Self::Xor(Box::new(kept), Box::new(value)),
        }
    }
}

impl Condition {
    pub(super) fn new(test: Test) -> Self {
        Self {
            test,
            negated: false,
        }
    }

    pub(super) fn not(test: Test) -> Self {
        Self {
            test,
            negated: true,
        }
    }
}

impl Rules {
    /// Counts packets with this mark as addressed to this machine, as `ip rule add fwmark … lookup`
    /// a table with `local default dev lo` makes them. Rule listings do not say it; a plan does.
    #[must_use]
    pub fn delivering_mark(mut self, mark: u32, family: Family) -> Self {
        self.local_marks.push(LocalMark { mark, family });
        self
    }
}
