//! The rules as the kernel holds them, compared with the plan rule by rule.

use std::collections::BTreeSet;

use crate::error::KernelError;
use crate::nft::{Listing, Nft, Table, render};
use crate::ruleset::{AddressTest, Hook, Match, PortTest, Rule, Ruleset};

/// What the kernel holds.
pub(super) struct Readback {
    listing: Option<Listing>,
    /// How the table as a whole differs from the plan.
    whole: Option<String>,
}

impl Readback {
    pub(super) fn read(nft: &mut Nft, plan: &Ruleset) -> Result<Self, KernelError> {
        let listing = nft.listing()?;
        let whole = match nft.read()?.table {
            Table::Ours(ours) => ours.difference(plan, plan.mark()),
            Table::Absent | Table::Refused(_) => None,
        };
        Ok(Self { listing, whole })
    }

    /// What stands in our table that the plan does not hold, and no rule of it tells.
    /// `told`: a rule does.
    pub(super) fn intruder(&self, plan: &Ruleset, told: bool) -> Option<String> {
        let listing = self.listing.as_ref()?;
        Self::foreign_rule(plan, listing).or_else(|| self.whole.clone().filter(|_| !told))
    }

    fn foreign_rule(plan: &Ruleset, listing: &Listing) -> Option<String> {
        let planned = |chain: &str, key: &str| {
            let mut chains = plan.chains.iter();
            let chain = chains.find(|planned| planned.hook.chain() == chain);
            chain.is_some_and(|chain| chain.rules.iter().any(|rule| rule.key == key))
        };
        let mut rules = listing.rules.iter();
        let other = rules.find(|rule| !planned(&rule.chain, &rule.key))?;
        Some(format!(
            "chain {} holds a rule that is not planned: `{}`",
            other.chain, other.key
        ))
    }

    /// How a planned rule differs from what is there; `None` if it does not.
    pub(super) fn difference(&self, plan: &Ruleset, hook: Hook, rule: &Rule) -> Option<String> {
        let Some(listing) = &self.listing else {
            return Some("there is no table inet shunt".to_owned());
        };
        if !listing.hooks.contains(&hook) {
            return Some(format!(
                "there is no chain {} as Shunt writes it",
                hook.chain()
            ));
        }
        let mut before = listing.rules.iter().filter(|r| r.chain == hook.chain());
        let planned = plan.chain(hook);
        let earlier: BTreeSet<&str> = planned
            .into_iter()
            .flat_map(|chain| &chain.rules)
            .take_while(|other| other.key != rule.key)
            .map(|other| other.key.as_str())
            .collect();
        let mut intruder = None;
        let found = before.find(|other| {
            if other.key != rule.key && !earlier.contains(other.key.as_str()) {
                intruder.get_or_insert(*other);
            }
            other.key == rule.key
        });
        let Some(found) = found else {
            return Some("the rule is missing".to_owned());
        };
        if let Some(intruder) = intruder {
            let name = if intruder.key.is_empty() {
                "one that Shunt did not write"
            } else {
                intruder.key.as_str()
            };
            return Some(format!("another rule stands before it: {name}"));
        }
        match &found.rule {
            Err(what) => Some(format!("the rule there holds {what}")),
            Ok(found) if found != rule => Some(format!(
                "the rule there is `{}`, not `{}`",
                render::rule(found),
                render::rule(rule)
            )),
            Ok(_) => sets(rule)
                .find(|name| plan.set(name) != listing.sets.iter().find(|set| set.name == *name))
                .map(|name| format!("set {name} differs")),
        }
    }
}

/// The sets that a rule looks into.
fn sets(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.matches.iter().filter_map(|test| match test {
        Match::OwnerUid(set) | Match::OwnerGid(set) | Match::NotOwnerGid(set) => Some(set.as_str()),
        Match::Source(test) | Match::Destination(test) => match test {
            AddressTest::In(_, set) | AddressTest::NotIn(_, set) => Some(set.as_str()),
            _ => None,
        },
        Match::SourcePort(_, test) | Match::DestinationPort(_, test) => match test {
            PortTest::In(set) | PortTest::NotIn(set) => Some(set.as_str()),
            _ => None,
        },
        _ => None,
    })
}
