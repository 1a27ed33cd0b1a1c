//! The answer: what happens to the packet, and the rules that decided.

use std::fmt;
use std::net::IpAddr;

use super::fields::Field;
use super::model::Hook;

/// What happens to a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What happens to it.
    pub verdict: Verdict,
    /// The rules that decided, in the order in which it met them; where the verdict is not certain,
    /// those of the first case.
    pub trace: Vec<Step>,
}

/// What happens to a packet, as far as the rules tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This.
    Certain(Outcome),
    /// One of these, and which depends on what is not known.
    Depends {
        /// No two end alike.
        cases: Vec<Case>,
        /// What is not known: each names the rule and what it asks for.
        on: Vec<String>,
        /// Whether no other case is possible. There are too many to follow otherwise.
        exhaustive: bool,
    },
}

/// One way in which it may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How.
    pub outcome: Outcome,
    /// Through these rules.
    pub trace: Vec<Step>,
}

/// What happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it, or its connection, goes.
    pub fate: Fate,
    /// Its mark in the end; `None`: not known.
    pub mark: Option<u32>,
    /// The mark of its connection in the end; `None`: not known. 0 if it has none.
    pub connection_mark: Option<u32>,
    /// The conntrack zone in which it was looked up; 0 is that of all packets which no rule gives
    /// another.
    pub zone: u16,
    /// Whether it ends so only if a process listens where TPROXY sends it.
    pub assumes_listener: bool,
}

/// Where a packet, or its connection, goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Where it was going.
    Passes,
    /// To a port of this machine (REDIRECT).
    Redirected {
        /// The port; `None`: one of a range.
        port: Option<u16>,
        /// At which address.
        to: RedirectedTo,
    },
    /// To the transparent socket that listens on a port (TPROXY), its addresses untouched.
    Tproxy {
        /// The port.
        port: u16,
    },
    /// To another address or port (DNAT); `None`: not known which.
    Translated {
        /// The address.
        address: Option<IpAddr>,
        /// The port.
        port: Option<u16>,
    },
    /// Nowhere.
    Dropped,
    /// Nowhere, and its sender is told.
    Rejected,
    /// A rule that is not understood decides.
    Unknown,
}

/// At which address a redirected connection arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectedTo {
    /// The loopback address of its family: it was opened on this machine.
    Loopback(IpAddr),
    /// The first address of the interface it came by; without one it is dropped.
    PrimaryAddressOf(String),
}

/// A step of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It met a rule.
    Rule(RuleStep),
    /// No rule of this base chain decided on it, and its policy is to drop.
    Policy {
        /// The table.
        table: String,
        /// The chain.
        chain: String,
    },
    /// NAT was not asked at this hook, or no more.
    NatNotAsked(Hook, NatNotAsked),
    /// Its mark makes it one for this machine: it goes to `lo`.
    DeliveredByMark(u32),
    /// It comes in again by `lo`.
    ArrivesOnLoopback,
}

/// A rule that a packet met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStep {
    /// The table as people name it, like `inet shunt` or `iptables nat`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Place in the chain, from 1.
    pub number: usize,
    /// Its comment: for Shunt's rules the key.
    pub comment: Option<String>,
    /// As its source writes it.
    pub text: String,
    /// Whether it matched.
    pub matched: Matched,
    /// The policy field that it comes from, if Shunt wrote it.
    pub field: Option<&'static Field>,
}

/// Whether a rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// It did.
    Yes,
    /// It might, and in this case does.
    Perhaps,
    /// It did not.
    No,
}

/// Why NAT was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatNotAsked {
    /// It decides on first packets only; what it decided then holds.
    NotFirst,
    /// Conntrack has no connection for it.
    NoConnection,
    /// It came by `lo`, and was decided on when it was sent.
    DecidedWhenSent,
}

impl Verdict {
    /// The outcome, if it is certain.
    #[must_use]
    pub fn certain(&self) -> Option<&Outcome> {
        match self {
            Self::Certain(outcome) => Some(outcome),
            Self::Depends { .. } => None,
        }
    }
}

impl Outcome {
    /// The port on which it reaches a process by capture, if it does.
    #[must_use]
    pub fn captured_by(&self) -> Option<u16> {
        match self.fate {
            Fate::Redirected { port, .. } => port,
            Fate::Tproxy { port } => Some(port),
            _ => None,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |f: &mut fmt::Formatter<'_>, port: &Option<u16>| match port {
            Some(port) => write!(f, "port {port}"),
            None => f.write_str("a port of a range"),
        };
        match self {
            Self::Passes => f.write_str("passes"),
            Self::Redirected { port, to } => {
                f.write_str("redirected to ")?;
                number(f, port)?;
                match to {
                    RedirectedTo::Loopback(address) => write!(f, " of {address}"),
                    RedirectedTo::PrimaryAddressOf(interface) => {
                        write!(f, " of the first address of {interface}")
                    }
                }
            }
            Self::Tproxy { port } => write!(f, "handed to the socket on port {port} (TPROXY)"),
            Self::Translated { address, port } => {
                f.write_str("translated to ")?;
                match address {
                    Some(address) => write!(f, "{address}, ")?,
                    None => f.write_str("an address of several, ")?,
                }
                number(f, port)
            }
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected => f.write_str("rejected"),
            Self::Unknown => f.write_str("decided by a rule that is not understood"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fate.fmt(f)?;
        let mark = |f: &mut fmt::Formatter<'_>, name: &str, mark: Option<u32>| match mark {
            Some(0) => Ok(()),
            Some(mark) => write!(f, ", {name} {mark:#x}"),
            None => write!(f, ", {name} not known"),
        };
        mark(f, "mark", self.mark)?;
        mark(f, "connection mark", self.connection_mark)?;
        if self.zone != 0 {
            write!(f, ", conntrack zone {}", self.zone)?;
        }
        if self.assumes_listener {
            f.write_str(", if a process listens there")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certain(outcome) => outcome.fmt(f),
            Self::Depends {
                cases,
                on,
                exhaustive,
            } => {
                f.write_str("not certain: ")?;
                for (index, case) in cases.iter().enumerate() {
                    let or = if index == 0 { "" } else { "; or " };
                    write!(f, "{or}{}", case.outcome)?;
                }
                if !exhaustive {
                    f.write_str("; or something else")?;
                }
                for what in on {
                    write!(f, "\n  depends on {what}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Policy { table, chain } => write!(f, "{table} {chain}: policy drop"),
            Self::NatNotAsked(hook, why) => {
                let why = match why {
                    NatNotAsked::NotFirst => {
                        "it decides on the first packet of a connection only; that decision holds"
                    }
                    NatNotAsked::NoConnection => "conntrack has no connection for the packet",
                    NatNotAsked::DecidedWhenSent => {
                        "a connection on lo is decided on when it is sent"
                    }
                };
                write!(f, "nat {hook} is not asked: {why}")
            }
            Self::DeliveredByMark(mark) => {
                write!(f, "policy routing delivers mark {mark:#x} to this machine")
            }
            Self::ArrivesOnLoopback => f.write_str("arrives by lo"),
        }
    }
}

impl fmt::Display for RuleStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matched = match self.matched {
            Matched::Yes => "",
            Matched::Perhaps => " (if it matches)",
            Matched::No => " (does not match)",
        };
        let Self {
            table,
            chain,
            number,
            text,
            ..
        } = self;
        write!(f, "{table} {chain} rule {number}{matched}: {text}")?;
        if let Some(field) = self.field {
            write!(f, " [{field}]")?;
        }
        Ok(())
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for Explanation {
    /// The verdict, and the rules that decided, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        for step in &self.trace {
            writeln!(f, "  {step}")?;
        }
        Ok(())
    }
}
