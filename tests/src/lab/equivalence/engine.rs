//! What carries a policy out in a lab's pod.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result};
use shunt_redirect::backend::apply;
use shunt_redirect::nft::render;
use shunt_redirect::{BackendChoice, CaptureConfig, Plan, PodFacts, plan};

use crate::lab::Lab;

/// What carries a policy out.
#[derive(Clone, Copy)]
pub enum Engine {
    /// A backend of ours.
    Backend(BackendChoice),
    /// Our plan with something wrong in it, as text to `nft`.
    Wrong(fn(&mut Plan)),
}

impl Engine {
    /// The three backends.
    pub const ALL: [Self; 3] = [
        Self::Backend(BackendChoice::Nft),
        Self::Backend(BackendChoice::IptablesLegacy),
        Self::Backend(BackendChoice::IptablesNft),
    ];

    pub(super) fn carry_out(self, lab: &Lab<'_>, config: &CaptureConfig) -> Result<()> {
        match self {
            Self::Backend(choice) => lab.in_pod(|_| {
                apply(config, choice).with_context(|| format!("applying by {self}"))?;
                Ok(())
            }),
            Self::Wrong(spoil) => lab.in_pod(|bench| {
                // Routes and `::6` as they ought to be; only the rules are wrong.
                apply(config, BackendChoice::Nft)?;
                let mut wrong = plan(config, &PodFacts::read(config)?);
                spoil(&mut wrong);
                let rules = format!("delete table inet shunt\n{}", render::table(&wrong.ruleset));
                bench
                    .program(Command::new("nft").args(["-f", "-"]), &rules)
                    .map(drop)
            }),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(choice) => write!(f, "{choice:?}"),
            Self::Wrong(_) => f.write_str("a wrong plan"),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
