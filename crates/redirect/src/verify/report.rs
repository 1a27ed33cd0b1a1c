//! What verification found: a leg for each rule and family, and how it was proved.

use std::fmt;

use crate::ruleset::Family;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One for each rule and each family that it decides for, in the order of the plan; then what
    /// is no rule.
    pub legs: Vec<Leg>,
    /// Packets that were sent to find out.
    pub probes: usize,
}

impl Report {
    /// The legs that do not do what they should.
    pub fn failed(&self) -> impl Iterator<Item = &Leg> {
        let legs = self.legs.iter();
        legs.filter(|leg| matches!(leg.proof, Proof::Failed(_)))
    }

    /// Legs that are proved live, read back, not proved, failed.
    #[must_use]
    pub fn count(&self) -> [usize; 4] {
        let mut count = [0; 4];
        for leg in &self.legs {
            count[match leg.proof {
                Proof::Live => 0,
                Proof::ReadBack { .. } => 1,
                Proof::NotProved { .. } => 2,
                Proof::Failed(_) => 3,
            }] += 1;
        }
        count
    }
}

/// Something that the policy sets up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// What it does, for people.
    pub title: String,
    /// The family, if it is one's.
    pub family: Option<Family>,
    /// The key of the rule that decides, or the name of what is no rule.
    pub key: String,
    /// How it was proved.
    pub proof: Proof,
}

/// How a leg was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Packets were sent that it decides on: they ended where they should, its counter rose, and
    /// the kernel holds the rule as planned.
    Live,
    /// The kernel holds what was planned; no packet was sent, or others' rules dropped what this
    /// one had decided on, and counted.
    ReadBack {
        /// Why not.
        why: String,
    },
    /// Nothing is known.
    NotProved {
        /// Why not.
        why: String,
    },
    /// It does not do what it should.
    Failed(Failure),
}

/// How a leg failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What should have happened.
    pub expected: String,
    /// What did.
    pub happened: String,
}

impl Proof {
    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::ReadBack { .. } => "read back",
            Self::NotProved { .. } => "not proved",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}; {}", self.expected, self.happened)
    }
}

impl Leg {
    /// Title and family.
    #[must_use]
    pub fn name(&self) -> String {
        match self.family {
            Some(Family::V4) => format!("{} IPv4", self.title),
            Some(Family::V6) => format!("{} IPv6", self.title),
            None => self.title.clone(),
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {} ({})",
            self.proof.word(),
            self.name(),
            self.key
        )?;
        match &self.proof {
            Proof::Live => Ok(()),
            Proof::ReadBack { why } | Proof::NotProved { why } => write!(f, ": {why}"),
            Proof::Failed(failure) => write!(f, ": {failure}"),
        }
    }
}
