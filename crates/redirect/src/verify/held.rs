//! The rules as they are there, whichever backend has written them.

use super::VerifyError;
use super::readback::Readback;
use crate::backend::Backend;
use crate::iptables;
use crate::nft::Nft;
use crate::plan::Plan;
use crate::ruleset::{Family, Hook, Rule, Ruleset};

/// The rules as they are there.
pub(super) enum Held {
    Nft(Readback),
    Iptables(iptables::Readback),
}

impl Held {
    pub(super) fn read(plan: &Plan, backend: Backend) -> Result<Self, VerifyError> {
        Ok(match backend {
            Backend::Nft => Self::Nft(Readback::read(&mut Nft::open()?, &plan.ruleset)?),
            Backend::Iptables(flavour) => Self::Iptables(iptables::Readback::read(flavour, plan)?),
        })
    }

    /// How a planned rule differs, in a family, from what is there.
    pub(super) fn difference(
        &self,
        plan: &Ruleset,
        hook: Hook,
        rule: &Rule,
        family: Family,
    ) -> Option<String> {
        match self {
            Self::Nft(readback) => readback.difference(plan, hook, rule),
            Self::Iptables(readback) => readback.difference(hook, &rule.key, family),
        }
    }

    /// What is there and not planned. `told`: a rule differs, which says it already.
    pub(super) fn intruder(&self, plan: &Ruleset, told: bool) -> Option<String> {
        match self {
            Self::Nft(readback) => readback.intruder(plan, told),
            Self::Iptables(readback) => {
                let whole = readback.whole().filter(|_| !told);
                whole.map(str::to_owned)
            }
        }
    }
}
