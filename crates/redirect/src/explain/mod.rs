//! What rules do to a packet, and why: evaluated on paper.
//!
//! [`Rules`] come from our own plan, from the kernel, from `iptables-save` or from `nft -j list
//! ruleset`; a [`Flow`] is the question. [`explain`] walks it through raw, conntrack, mangle and nat
//! in the kernel's order and tells what happens to it and which rules decided, each with the policy
//! field that it comes from. It never guesses: where a rule asks for what is not known, the verdict
//! lists what it depends on.

mod boundary;
mod counter_example;
mod eval;
pub mod fields;
mod finding;
mod flow;
mod from_ruleset;
mod iptables;
mod live;
mod model;
mod nft_json;
mod packet;
mod rule;
mod text;
mod trail;
mod verdict;

pub use counter_example::counter_example;
pub use flow::{Flow, Protocol, Sender, Side, State};
pub use model::{Hook, Rules};
pub use text::TextError;
pub use verdict::{
    Case, Explanation, Fate, Matched, NatNotAsked, Outcome, RedirectedTo, RuleStep, Step, Verdict,
};

/// What is assumed, and what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether a process listens where TPROXY sends packets.
    pub listener: bool,
    /// Whether the trace tells of the rules that did not match, too.
    pub all_rules: bool,
}

impl Default for Options {
    /// The proxy listens; only rules that matched are told.
    fn default() -> Self {
        Self {
            listener: true,
            all_rules: false,
        }
    }
}

/// What happens to a packet, and which rules decided.
#[must_use]
pub fn explain(rules: &Rules, flow: &Flow) -> Explanation {
    explain_with(rules, flow, Options::default())
}

/// The same, on other assumptions.
#[must_use]
pub fn explain_with(rules: &Rules, flow: &Flow, options: Options) -> Explanation {
    eval::explain(rules, flow, options)
}
