//! The same in iptables' tables, both flavours.

mod apply;
pub(crate) mod child;
mod failure;
mod switch;

use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::error::ApplyError;
use shunt_redirect::iptables::{Flavour, State, render};
use shunt_redirect::ruleset::Family;
use shunt_redirect::{Applied, Backend, CaptureConfig};

use crate::support::output;

pub(crate) const FLAVOURS: [Flavour; 2] = [Flavour::Legacy, Flavour::Nft];
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(crate) fn choice(flavour: Flavour) -> BackendChoice {
    match flavour {
        Flavour::Legacy => BackendChoice::IptablesLegacy,
        Flavour::Nft => BackendChoice::IptablesNft,
    }
}

/// `iptables-legacy-save` and its like.
pub(crate) fn program(flavour: Flavour, family: Family, what: &str) -> String {
    let stem = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let word = match flavour {
        Flavour::Legacy => "legacy",
        Flavour::Nft => "nft",
    };
    format!("{stem}-{word}{what}")
}

/// All tables of a flavour, both families, without counters and dates.
pub(crate) fn saved(flavour: Flavour) -> String {
    let both = FAMILIES.map(|family| output(&program(flavour, family, "-save"), &[]));
    both.concat()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// What of them is ours, in one family.
pub(crate) fn ours(flavour: Flavour, family: Family) -> State {
    State::parse(&output(&program(flavour, family, "-save"), &[]))
}

/// One command of `iptables`, like `-t nat -F`.
pub(crate) fn iptables(flavour: Flavour, family: Family, arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split(' ').collect();
    output(&program(flavour, family, ""), &arguments)
}

pub(crate) fn apply(config: &CaptureConfig, flavour: Flavour) -> Result<Applied, ApplyError> {
    backend::apply(config, choice(flavour))
}

/// Applies, and holds what `iptables-save` prints against what was meant.
pub(crate) fn applied(config: &CaptureConfig, flavour: Flavour) -> Applied {
    let applied = apply(config, flavour).unwrap();
    assert_eq!(applied.backend, Backend::Iptables(flavour));
    assert_eq!(applied.unchecked, None);
    for family in FAMILIES {
        let planned = if family == Family::V4 || applied.plan.ipv6 {
            render::state(&applied.plan.ruleset, family)
        } else {
            State::default()
        };
        assert_eq!(ours(flavour, family).text(), planned.text());
    }
    applied
}
