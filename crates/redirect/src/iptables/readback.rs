//! Our part of iptables' tables, compared with a plan rule by rule: which one is it that differs?

use std::collections::BTreeSet;

use shunt_abi::name::iptables;

use super::apply::{Half, difference, halves, read};
use super::detect::Tools;
use super::error::IptablesError;
use super::state::{Chain, State, Table, key, same, words};
use super::{Flavour, render};
use crate::plan::Plan;
use crate::ruleset::{Family, Hook};

/// What the tables hold, and what they should.
pub(crate) struct Readback {
    families: Vec<(Family, State, State)>,
    /// How they differ as a whole.
    whole: Option<String>,
}

impl Readback {
    /// Reads the tables of one flavour.
    ///
    /// # Errors
    /// If a program is missing or fails.
    pub(crate) fn read(flavour: Flavour, plan: &Plan) -> Result<Self, IptablesError> {
        let tools = Tools::of(flavour)?;
        let halves = halves(&tools, plan)?;
        let found = read(&halves)?;
        let whole = difference(&halves, &found).map(|(_, what)| what);
        let families = halves.into_iter().zip(found);
        let families = families.map(|(Half { family, target, .. }, found)| (family, found, target));
        Ok(Self {
            families: families.collect(),
            whole,
        })
    }

    /// How the tables differ from the plan as a whole; `None` if they do not.
    pub(crate) fn whole(&self) -> Option<&str> {
        self.whole.as_deref()
    }

    /// How a planned rule differs from what is there; `None` if it does not.
    pub(crate) fn difference(&self, hook: Hook, wanted: &str, family: Family) -> Option<String> {
        let mut families = self.families.iter();
        let (_, found, planned) = families.find(|(of, ..)| *of == family)?;
        let name = render::chain_name(hook);
        let planned_table = planned.table(hook.stage())?;
        let planned_chain = planned_table.chain(name)?;
        let planned_rules = of_key(planned_chain, wanted);
        let first = planned_rules.first()?;
        let found_table = found.table(hook.stage());
        let Some(found_chain) = found_table.and_then(|table| table.chain(name)) else {
            return Some(format!("there is no chain {name}"));
        };
        let found_rules = of_key(found_chain, wanted);
        if found_rules.is_empty() {
            return Some("the rule is missing".to_owned());
        }
        if let Some(intruder) = intruder(planned_chain, found_chain, wanted) {
            return Some(format!("another rule stands before it: {intruder}"));
        }
        let pairs = planned_rules.iter().zip(&found_rules);
        if let Some((planned, found)) = pairs.into_iter().find(|(one, other)| !same(one, other)) {
            return Some(format!("the rule there is `{found}`, not `{planned}`"));
        }
        if planned_rules.len() != found_rules.len() {
            let (planned, found) = (planned_rules.len(), found_rules.len());
            return Some(format!("{found} rules are there for it, not {planned}"));
        }
        helper(first, planned_table, found_table)
    }
}

fn of_key<'c>(chain: &'c Chain, wanted: &str) -> Vec<&'c str> {
    let rules = chain.rules.iter().map(String::as_str);
    let own = rules.filter(|rule| key(rule).as_deref() == Some(wanted));
    own.collect()
}

/// A rule that stands before the first of this key, and is not planned to.
fn intruder(planned: &Chain, found: &Chain, wanted: &str) -> Option<String> {
    let keys = |chain: &Chain| {
        let keys: Vec<String> = chain
            .rules
            .iter()
            .map(|rule| key(rule).unwrap_or_default())
            .collect();
        keys.into_iter().take_while(|key| key != wanted)
    };
    let earlier: BTreeSet<String> = keys(planned).collect();
    let other = keys(found).find(|key| !earlier.contains(key))?;
    Some(match other.as_str() {
        "" => "one that Shunt did not write".to_owned(),
        _ => other,
    })
}

/// How the helper chain differs that a rule goes to.
fn helper(rule: &str, planned: &Table, found: Option<&Table>) -> Option<String> {
    let words = words(rule);
    let [.., how, name] = words.as_slice() else {
        return None;
    };
    if how != "-g" || !name.starts_with(iptables::PREFIX) {
        return None;
    }
    let planned = planned.chain(name)?;
    let found = found.and_then(|table| table.chain(name));
    let alike = found.is_some_and(|found| {
        let pairs = planned.rules.iter().zip(&found.rules);
        planned.rules.len() == found.rules.len()
            && pairs.into_iter().all(|(one, other)| same(one, other))
    });
    (!alike).then(|| format!("chain {name}, to which it goes, differs"))
}
