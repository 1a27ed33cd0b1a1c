//! How one rule set differs from another: in order, by meaning, in words.
//!
//! Rules are the same if they have the same key, wherever they stand; sets differ by elements.
//! [`crate::backend`] tells with it what it replaces, and people see it before they apply.

use std::collections::BTreeSet;
use std::fmt;

use crate::explain::fields;
use crate::hashed;
use crate::nft::render;
use crate::ranges::{Ranges, Scalar};
use crate::ruleset::{Elements, Hook, Rule, Ruleset, Set};

/// What must be done to a rule set to make another of it. Empty if they decide alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Chain by chain in a packet's order, then in that of the new rules; those removed first.
    pub rules: Vec<RuleChange>,
    /// By name.
    pub sets: Vec<SetChange>,
}

/// A rule that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChange {
    /// Its chain's.
    pub hook: Hook,
    /// How.
    pub kind: RuleChangeKind,
}

/// How a rule differs. Places count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleChangeKind {
    /// The new rules have it only.
    Added {
        /// Where.
        place: usize,
        /// The rule.
        rule: Rule,
    },
    /// The old rules have it only.
    Removed {
        /// Where.
        place: usize,
        /// The rule.
        rule: Rule,
        /// The key of the rule that stands after it.
        before: Option<String>,
    },
    /// Both have a rule of this key, with other matches or another verdict.
    Changed {
        /// Where in the new rules.
        place: usize,
        /// The old rule.
        old: Rule,
        /// The new rule.
        new: Rule,
    },
    /// Both have it, in another order.
    Moved {
        /// Where in the old rules.
        from: usize,
        /// Where in the new rules.
        to: usize,
        /// The rule.
        rule: Rule,
    },
}

/// A set that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// Its name.
    pub name: String,
    /// How.
    pub kind: SetChangeKind,
}

/// How a set differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChangeKind {
    /// The new rules have it only.
    Added,
    /// The old rules have it only.
    Removed,
    /// Both have it, with other elements, as nft writes them.
    Changed {
        /// What the new one has more.
        added: Vec<String>,
        /// What the old one has more.
        removed: Vec<String>,
    },
}

/// How `old` differs from `new`.
#[must_use]
pub fn diff(old: &Ruleset, new: &Ruleset) -> Difference {
    let rules = Hook::ALL.into_iter().flat_map(|hook| {
        let rules = |ruleset: &Ruleset| {
            let chain = ruleset.chain(hook);
            chain.map(|chain| chain.rules.clone()).unwrap_or_default()
        };
        let changes = chain(&rules(old), &rules(new));
        changes
            .into_iter()
            .map(move |kind| RuleChange { hook, kind })
    });
    Difference {
        rules: rules.collect(),
        sets: sets(&old.sets, &new.sets),
    }
}

fn chain(old: &[Rule], new: &[Rule]) -> Vec<RuleChangeKind> {
    // The place in the old chain of each new rule. Keys are unique, but for rules that Shunt did not
    // write; of those, equal ones are the same.
    let mut free: Vec<bool> = vec![true; old.len()];
    let mut claim = |same: &dyn Fn(&Rule) -> bool| {
        let mut places = old.iter().enumerate();
        let found = places.find(|(place, rule)| free[*place] && same(rule));
        found.map(|(place, _)| {
            free[place] = false;
            place
        })
    };
    let mut partners: Vec<Option<usize>> = new
        .iter()
        .map(|rule| claim(&|other| other == rule))
        .collect();
    for (rule, partner) in new.iter().zip(&mut partners) {
        if partner.is_none() && !rule.key.is_empty() {
            *partner = claim(&|other| other.key == rule.key);
        }
    }
    let removed = old.iter().enumerate().filter(|(place, _)| free[*place]);
    let mut changes: Vec<_> = removed
        .map(|(place, rule)| RuleChangeKind::Removed {
            place: place + 1,
            rule: rule.clone(),
            before: old.get(place + 1).map(|next| next.key.clone()),
        })
        .collect();
    let staying = longest_ascending(&partners);
    for (place, (rule, partner)) in new.iter().zip(&partners).enumerate() {
        let Some(from) = *partner else {
            changes.push(RuleChangeKind::Added {
                place: place + 1,
                rule: rule.clone(),
            });
            continue;
        };
        if !staying.contains(&from) {
            changes.push(RuleChangeKind::Moved {
                from: from + 1,
                to: place + 1,
                rule: rule.clone(),
            });
        }
        if old[from] != *rule {
            changes.push(RuleChangeKind::Changed {
                place: place + 1,
                old: old[from].clone(),
                new: rule.clone(),
            });
        }
    }
    changes
}

/// The most places that stand in ascending order: those that need not move.
fn longest_ascending(partners: &[Option<usize>]) -> BTreeSet<usize> {
    let places: Vec<usize> = partners.iter().copied().flatten().collect();
    // For each place, the length of the longest run that ends there, and the place before it.
    let mut runs: Vec<(usize, Option<usize>)> = Vec::with_capacity(places.len());
    for (index, place) in places.iter().enumerate() {
        let before = (0..index)
            .filter(|earlier| places[*earlier] < *place)
            .max_by_key(|earlier| runs[*earlier].0);
        let length = before.map_or(1, |earlier| runs[earlier].0 + 1);
        runs.push((length, before));
    }
    let mut at = (0..runs.len()).max_by_key(|index| runs[*index].0);
    let mut staying = BTreeSet::new();
    while let Some(index) = at {
        staying.insert(places[index]);
        at = runs[index].1;
    }
    staying
}

fn sets(old: &[Set], new: &[Set]) -> Vec<SetChange> {
    let names: BTreeSet<_> = old.iter().chain(new).map(|set| set.name.as_str()).collect();
    let find = |sets: &[Set], name: &str| sets.iter().find(|set| set.name == name).cloned();
    let changes = names.into_iter().filter_map(|name| {
        let kind = match (find(old, name), find(new, name)) {
            (None, _) => SetChangeKind::Added,
            (_, None) => SetChangeKind::Removed,
            (Some(old), Some(new)) if old.elements == new.elements => return None,
            (Some(old), Some(new)) => SetChangeKind::Changed {
                added: more(&new.elements, &old.elements),
                removed: more(&old.elements, &new.elements),
            },
        };
        Some(SetChange {
            name: name.to_owned(),
            kind,
        })
    });
    changes.collect()
}

/// What one set has more than another. Of one of another type, all.
fn more(one: &Elements, other: &Elements) -> Vec<String> {
    fn rest<T: Scalar>(one: &Ranges<T>, other: &Ranges<T>) -> Ranges<T> {
        let other: BTreeSet<_> = other.iter().collect();
        one.iter().filter(|range| !other.contains(range)).collect()
    }
    // Address by address where a set is kept so: neighbours are no interval there.
    fn singles<T: Scalar>(one: &Ranges<T>, other: &Ranges<T>) -> Ranges<T> {
        let values = one.values().filter(|value| !other.contains(*value));
        values.map(|value| (value, value)).collect()
    }
    let hashed = hashed::size(one).is_some();
    let rest = match (one, other) {
        (Elements::Ports(one), Elements::Ports(other)) => Elements::Ports(rest(one, other)),
        (Elements::V4(one), Elements::V4(other)) if hashed => Elements::V4(singles(one, other)),
        (Elements::V6(one), Elements::V6(other)) if hashed => Elements::V6(singles(one, other)),
        (Elements::V4(one), Elements::V4(other)) => Elements::V4(rest(one, other)),
        (Elements::V6(one), Elements::V6(other)) => Elements::V6(rest(one, other)),
        (Elements::Uids(one), Elements::Uids(other)) => Elements::Uids(rest(one, other)),
        (Elements::Gids(one), Elements::Gids(other)) => Elements::Gids(rest(one, other)),
        (one, _) => one.clone(),
    };
    render::elements(&rest)
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.sets.is_empty()
    }

    /// The first difference in a line, and how many more there are. `None` if there is none.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let rule = self.rules.first().map(|change| match &change.kind {
            RuleChangeKind::Added { rule, .. } => format!("rule {} is missing", rule.key),
            RuleChangeKind::Changed { new, .. } => {
                format!("rule {} differs", new.key)
            }
            RuleChangeKind::Moved { rule, .. } => {
                format!("rule {} is not in its place", rule.key)
            }
            RuleChangeKind::Removed {
                rule,
                before: Some(before),
                ..
            } if !before.is_empty() => format!(
                "the way to rule {before} differs: there is one before it, `{}`",
                render::rule(rule)
            ),
            RuleChangeKind::Removed { rule, .. } => format!(
                "there are more rules in {}: `{}`",
                change.hook.chain(),
                render::rule(rule)
            ),
        });
        let set = || {
            let change = self.sets.first()?;
            Some(format!("the sets differ: {}", change.in_short()))
        };
        let first = rule.or_else(set)?;
        Some(match self.rules.len() + self.sets.len() - 1 {
            0 => first,
            1 => format!("{first}, and one more difference"),
            more => format!("{first}, and {more} more differences"),
        })
    }
}

impl fmt::Display for Difference {
    /// A line for each; `-` is what goes, `+` what comes, `>` what moves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = None;
        for change in &self.rules {
            if chain != Some(change.hook) {
                chain = Some(change.hook);
                writeln!(f, "chain {}", change.hook.chain())?;
            }
            change.kind.fmt(f)?;
        }
        for change in &self.sets {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, sign: char, place: &str, rule: &Rule| {
            write!(f, "  {sign} {place}: {}", render::rule(rule))?;
            match fields::of(&rule.key) {
                Some(field) => writeln!(f, " [{field}]"),
                None => writeln!(f),
            }
        };
        match self {
            Self::Added { place, rule } => line(f, '+', &place.to_string(), rule),
            Self::Removed { place, rule, .. } => line(f, '-', &place.to_string(), rule),
            Self::Changed { place, old, new } => {
                line(f, '-', &place.to_string(), old)?;
                line(f, '+', &place.to_string(), new)
            }
            Self::Moved { from, to, rule } => line(f, '>', &format!("{from} to {to}"), rule),
        }
    }
}

impl SetChange {
    /// One element of those that come and of those that go, and how many more.
    fn in_short(&self) -> String {
        let SetChangeKind::Changed { added, removed } = &self.kind else {
            return self.to_string();
        };
        let part = |(verb, elements): (&str, &Vec<String>)| match elements.as_slice() {
            [] => None,
            [only] => Some(format!("{verb} {only}")),
            [first, more @ ..] => Some(format!("{verb} {first} and {} more", more.len())),
        };
        let parts = [("lacks", added), ("has", removed)].into_iter();
        let parts: Vec<_> = parts.filter_map(part).collect();
        format!("set {} {}", self.name, parts.join(", and "))
    }
}

impl fmt::Display for SetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind } = self;
        match kind {
            SetChangeKind::Added => write!(f, "set {name} is missing"),
            SetChangeKind::Removed => write!(f, "set {name} is one too many"),
            SetChangeKind::Changed { added, removed } => {
                write!(f, "set {name}")?;
                for (sign, elements) in [('+', added), ('-', removed)] {
                    for element in elements.iter().take(SHOWN) {
                        write!(f, " {sign}{element}")?;
                    }
                    if let Some(more) = elements.len().checked_sub(SHOWN + 1) {
                        write!(f, " {sign}({} more)", more + 1)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// How many elements of a set are shown: some sets have thousands.
const SHOWN: usize = 20;
