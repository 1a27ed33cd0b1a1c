//! What of ours stands in iptables' tables now.

use shunt_abi::name::iptables;

use super::Flavour;
use super::detect::{Pair, Tools, legacy_tables};
use super::error::IptablesError;
use super::state::{STAGES, State, goes_to_us, key, table_name};
use crate::nft::Nft;
use crate::ruleset::Family;

/// Our part of one family's tables, of one flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which kernel interface.
    pub flavour: Flavour,
    /// Which family.
    pub family: Family,
    /// What is there; never empty.
    pub state: State,
    /// Its rules with their counters, in the order of `iptables-save`; none where that stops at
    /// others' rules, and counts nothing.
    pub rules: Vec<Counted>,
}

/// A rule of ours, or one that leads to ours, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// As it stands after `-A CHAIN `.
    pub rule: String,
    /// The key in its comment; empty for a rule that Shunt did not write.
    pub key: String,
    /// Packets that it decided on.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is ours in what `iptables-save -c` printed.
fn counted(saved: &str) -> Vec<Counted> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let ours = STAGES.into_iter().any(|stage| table_name(stage) == table);
        rules.extend(ours.then(|| counted_rule(table, line)).flatten());
    }
    rules
}

/// `[packets:bytes] -A CHAIN …`.
fn counted_rule(table: &str, line: &str) -> Option<Counted> {
    let (counts, rule) = line.strip_prefix('[')?.split_once("] -A ")?;
    let (packets, bytes) = counts.split_once(':')?;
    let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
    let ours = chain.starts_with(iptables::PREFIX) || goes_to_us(rule);
    ours.then_some(Counted {
        table: table.to_owned(),
        chain: chain.to_owned(),
        rule: rule.to_owned(),
        key: key(rule).unwrap_or_default(),
        packets: packets.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

/// Reads what is ours in the tables of both flavours, in the network namespace of the calling
/// thread. No program is run where there is none.
///
/// # Errors
/// If there are tables, but a program to read them is missing or fails.
pub fn list() -> Result<Vec<Listed>, IptablesError> {
    let mut listed = Vec::new();
    let mut add = |flavour, family, pair: &Pair| {
        let state = pair.state()?;
        if !state.is_empty() {
            let saved = pair.saved_with_counters().unwrap_or_default();
            listed.push(Listed {
                flavour,
                family,
                state,
                rules: counted(&saved),
            });
        }
        Ok(())
    };
    // Without nf_tables there is nothing in it.
    let in_nft = Nft::open().and_then(|mut nft| nft.has_iptables_chains());
    if in_nft.unwrap_or(false) {
        let tools = Tools::of(Flavour::Nft)?;
        add(Flavour::Nft, Family::V4, &tools.v4)?;
        if let Some(pair) = &tools.v6 {
            add(Flavour::Nft, Family::V6, pair)?;
        }
    }
    for family in [Family::V4, Family::V6] {
        if legacy_tables(family) {
            add(Flavour::Legacy, family, &Pair::legacy(family)?)?;
        }
    }
    Ok(listed)
}
