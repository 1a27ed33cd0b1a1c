//! The steps that ways have left, told when a way has ended.
//!
//! Ways fork often and are told seldom: they share their beginnings, and what a step says is put
//! together only where it is told.

use std::fmt;

use super::fields;
use super::model::{Chain, Hook, Rule};
use super::verdict::{Matched, NatNotAsked, RuleStep, Step};

/// How many steps of a way are told, the last ones.
const SHOWN: usize = 10_000;

/// The steps of all ways.
#[derive(Default)]
pub(super) struct Trail<'a>(Vec<Trodden<'a>>);

impl<'a> Trail<'a> {
    /// Adds a step behind another, and gives its place.
    pub(super) fn push(&mut self, step: Footprint<'a>, before: Option<usize>) -> usize {
        self.0.push(Trodden { step, before });
        self.0.len() - 1
    }

    /// The step at a place.
    pub(super) fn last(&self, at: Option<usize>) -> Option<Footprint<'a>> {
        self.0.get(at?).map(|trodden| trodden.step)
    }

    /// The steps up to this one.
    pub(super) fn told(&self, last: Option<usize>) -> Vec<Step> {
        let steps = std::iter::successors(last, |at| self.0[*at].before);
        let mut told: Vec<_> = steps.take(SHOWN).map(|at| self.0[at].step.told()).collect();
        told.reverse();
        told
    }
}

/// A step, and the one before it. Ways that fork have the same beginning.
struct Trodden<'a> {
    step: Footprint<'a>,
    before: Option<usize>,
}

/// What a step is made of.
#[derive(Clone, Copy)]
pub(super) enum Footprint<'a> {
    Rule(Here<'a>, Matched),
    Policy(&'a Chain),
    NatNotAsked(Hook, NatNotAsked),
    DeliveredByMark(u32),
    ArrivesOnLoopback,
}

/// Where a way is.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) chain: &'a Chain,
    pub(super) rule: &'a Rule,
    pub(super) number: usize,
    pub(super) depth: usize,
}

impl Footprint<'_> {
    fn told(self) -> Step {
        match self {
            Self::Rule(here, matched) => here.step(matched),
            Self::Policy(chain) => Step::Policy {
                table: chain.table.clone(),
                chain: chain.name.clone(),
            },
            Self::NatNotAsked(hook, why) => Step::NatNotAsked(hook, why),
            Self::DeliveredByMark(mark) => Step::DeliveredByMark(mark),
            Self::ArrivesOnLoopback => Step::ArrivesOnLoopback,
        }
    }
}

impl Here<'_> {
    fn step(&self, matched: Matched) -> Step {
        let label = &self.rule.label;
        Step::Rule(RuleStep {
            table: self.chain.table.clone(),
            chain: self.chain.name.clone(),
            number: self.number,
            comment: label.comment.clone(),
            text: label.text.clone(),
            matched,
            field: label.comment.as_deref().and_then(fields::of),
        })
    }
}

impl fmt::Display for Here<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chain { table, name, .. } = self.chain;
        write!(
            f,
            "{table} {name} rule {}: {}",
            self.number, self.rule.label.text
        )
    }
}
