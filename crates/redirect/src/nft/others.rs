//! Chains of other programs in nf_tables: where a packet meets them, and whether they do anything.
//!
//! Of their rules only one thing is read: the chain that they jump to. iptables' tables hold jumps
//! to Shunt's own chains, too, and those are nobody else's.

use shunt_abi::name;

use super::Nft;
use super::attr::{Attribute, Attributes, Head, Malformed, Writer};
use super::compat;
use super::request::{attributes, malformed};
use super::socket::Reply;
use super::uapi::{POLICY_ACCEPT, chain, flag, msg, rule};
use crate::error::KernelError;

/// A chain that is not Shunt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherChain {
    /// Number of its family (`NFPROTO_*`).
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Where packets enter it, if they do from a hook.
    pub(crate) base: Option<Base>,
    /// Whether there is a rule of others in it.
    pub(crate) has_rules: bool,
}

/// How a chain hangs on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Number of the hook (`NF_INET_*`; of other families, theirs).
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    /// `filter`, `nat` or `route`.
    pub(crate) kind: String,
    /// Whether what no rule decides on passes.
    pub(crate) accepts: bool,
}

/// A rule, as far as it is looked at.
struct OtherRule {
    family: u8,
    table: String,
    chain: String,
    /// Whether it leads to a chain of Shunt's.
    is_ours: bool,
}

impl Nft {
    /// Every chain but those of our table.
    pub(crate) fn other_chains(&mut self) -> Result<Vec<OtherChain>, KernelError> {
        let mut chains: Vec<OtherChain> = self.all("list the chains", msg::GETCHAIN, read_chain)?;
        let rules = self.all("list the rules", msg::GETRULE, read_rule)?;
        chains.retain(|chain| !chain.is_ours());
        for rule in rules.iter().filter(|rule| !rule.is_ours) {
            let place = |chain: &&mut OtherChain| {
                (chain.family, &chain.table, &chain.name) == (rule.family, &rule.table, &rule.chain)
            };
            if let Some(chain) = chains.iter_mut().find(place) {
                chain.has_rules = true;
            }
        }
        Ok(chains)
    }

    /// All of a kind, of every family.
    fn all<T>(
        &mut self,
        verb: &str,
        kind: u16,
        read: fn(u8, Attributes<'_>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, KernelError> {
        let what = format!("{verb} of this network namespace");
        let mut request = Writer::default();
        let head = Head {
            kind,
            flags: flag::REQUEST | flag::DUMP,
            sequence: self.0.reserve(1),
            // Any.
            family: 0,
            resource: 0,
        };
        request.message(&head, |_attributes| {});
        let mut found = Vec::new();
        for numbered in self.0.ask(&request.into_bytes())?.iter() {
            if let Reply::Message(_, body) = numbered.map_err(malformed(&what))?.reply {
                let family = body.first().copied().unwrap_or_default();
                found.push(read(family, attributes(body)).map_err(malformed(&what))?);
            }
        }
        Ok(found)
    }
}

impl OtherChain {
    fn is_ours(&self) -> bool {
        let inet = self.family == super::uapi::NFPROTO_INET;
        (inet && self.table == name::NFT_TABLE) || self.name.starts_with(name::iptables::PREFIX)
    }
}

fn read_chain(family: u8, attributes: Attributes<'_>) -> Result<OtherChain, Malformed> {
    let mut read = OtherChain {
        family,
        table: String::new(),
        name: String::new(),
        base: None,
        has_rules: false,
    };
    let mut kind = String::new();
    let mut accepts = true;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            chain::TABLE => attribute.string()?.clone_into(&mut read.table),
            chain::NAME => attribute.string()?.clone_into(&mut read.name),
            chain::TYPE => attribute.string()?.clone_into(&mut kind),
            chain::POLICY => accepts = attribute.be32()? == POLICY_ACCEPT,
            chain::HOOK => read.base = read_hook(attribute)?,
            _ => {}
        }
    }
    if let Some(base) = &mut read.base {
        base.kind = kind;
        base.accepts = accepts;
    }
    Ok(read)
}

fn read_hook(attribute: Attribute<'_>) -> Result<Option<Base>, Malformed> {
    let [mut number, mut priority] = [None; 2];
    for attribute in attribute.nested() {
        let attribute = attribute?;
        match attribute.kind {
            chain::HOOK_NUM => number = Some(attribute.be32()?),
            chain::HOOK_PRIORITY => priority = Some(attribute.be32()?),
            _ => {}
        }
    }
    Ok(number.zip(priority).map(|(hook, priority)| Base {
        hook,
        priority: priority.cast_signed(),
        kind: String::new(),
        accepts: true,
    }))
}

fn read_rule(family: u8, attributes: Attributes<'_>) -> Result<OtherRule, Malformed> {
    let mut read = OtherRule {
        family,
        table: String::new(),
        chain: String::new(),
        is_ours: false,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            rule::TABLE => attribute.string()?.clone_into(&mut read.table),
            rule::CHAIN => attribute.string()?.clone_into(&mut read.chain),
            rule::EXPRESSIONS => {
                let to = compat::jump(attribute.nested())?;
                read.is_ours = to.is_some_and(|to| to.starts_with(name::iptables::PREFIX));
            }
            _ => {}
        }
    }
    Ok(read)
}
