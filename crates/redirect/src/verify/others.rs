//! Others' rules on a probe's way: a firewall of the pod may drop what ours have decided on, and
//! what stands before ours may keep packets from them.

use super::decide::{Outcome, Way};
use super::flows::Probe;
use crate::iptables::legacy_chains;
use crate::nft::{Base, Nft, OtherChain};
use crate::ruleset::{Family, Hook, Ruleset};

/// Hooks that packets of probes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Prerouting,
    Input,
    Output,
    Postrouting,
}

/// A place on a packet's way: a hook, and the priority there.
pub(super) type Place = (At, i32);

/// What arrives from elsewhere.
pub(super) const ARRIVING: &[At] = &[At::Prerouting, At::Input];
/// What the pod sends to itself, or what goes to the proxy instead.
pub(super) const BY_LOOPBACK: &[At] = &[At::Output, At::Postrouting, At::Prerouting, At::Input];
/// What leaves the pod.
const LEAVING: &[At] = &[At::Output, At::Postrouting];

/// Chains of others that do anything to packets on these hooks.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<Other>);

#[derive(Debug)]
struct Other {
    place: Place,
    /// Whose packets it sees; `None`: those of both.
    family: Option<Family>,
    text: String,
}

impl Others {
    /// Looks for them. What cannot be read explains nothing.
    pub(super) fn read() -> Self {
        let chains = Nft::open().and_then(|mut nft| nft.other_chains());
        let chains = chains.unwrap_or_default();
        let mut others: Vec<Other> = chains.iter().filter_map(Other::of_nft).collect();
        for chain in legacy_chains().unwrap_or_default() {
            let place = legacy_place(&chain.table, &chain.name);
            if let Some(place) = place.filter(|_| chain.has_rules || !chain.accepts) {
                others.push(Other {
                    place,
                    family: Some(chain.family),
                    text: format!(
                        "chain {} of table {} of iptables-legacy",
                        chain.name, chain.table
                    ),
                });
            }
        }
        Self(others)
    }

    /// Those that a packet meets on its way between two places, whose order within one priority is
    /// not known. `None` stands for where it begins, or ends.
    pub(super) fn between(
        &self,
        way: &[At],
        family: Family,
        from: Option<Place>,
        to: Option<Place>,
    ) -> Option<String> {
        let position = |(at, priority): Place| {
            let hook = way.iter().position(|hook| *hook == at)?;
            Some((hook, priority))
        };
        let after = |place| from.and_then(position).is_none_or(|from| from <= place);
        let before = |place| to.and_then(position).is_none_or(|to| place <= to);
        let met: Vec<&str> = self
            .0
            .iter()
            .filter(|other| other.family.is_none_or(|of| of == family))
            .filter(|other| {
                position(other.place).is_some_and(|place| after(place) && before(place))
            })
            .map(|other| other.text.as_str())
            .collect();
        (!met.is_empty()).then(|| met.join(", "))
    }
}

impl Other {
    fn of_nft(chain: &OtherChain) -> Option<Self> {
        let Base {
            hook,
            priority,
            kind,
            accepts,
        } = chain.base.as_ref()?;
        // NFPROTO_INET, _IPV4 and _IPV6; the other families are those of links.
        let (word, family) = match chain.family {
            1 => ("inet", None),
            2 => ("ip", Some(Family::V4)),
            10 => ("ip6", Some(Family::V6)),
            _ => return None,
        };
        // NF_INET_PRE_ROUTING and so on.
        let (at, hook) = match hook {
            0 => (At::Prerouting, "prerouting"),
            1 => (At::Input, "input"),
            3 => (At::Output, "output"),
            4 => (At::Postrouting, "postrouting"),
            _ => return None,
        };
        (chain.has_rules || !accepts).then(|| Self {
            place: (at, *priority),
            family,
            text: format!(
                "chain {} of table {word} {} ({kind}, hook {hook}, priority {priority})",
                chain.name, chain.table
            ),
        })
    }
}

/// Where a built-in chain of a legacy table is (include/uapi/linux/netfilter_ipv4.h).
fn legacy_place(table: &str, chain: &str) -> Option<Place> {
    let at = match chain {
        "PREROUTING" => At::Prerouting,
        "INPUT" => At::Input,
        "OUTPUT" => At::Output,
        "POSTROUTING" => At::Postrouting,
        _ => return None,
    };
    let priority = match (table, at) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", At::Prerouting | At::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    };
    Some((at, priority))
}

/// The way of a probe through the hooks.
pub(super) fn way(probe: &Probe) -> &'static [At] {
    match (probe.flow.way, probe.decision.outcome) {
        (Way::Arrived, _) => ARRIVING,
        (
            Way::Sent {
                by_loopback: false, ..
            },
            Outcome::Passes,
        ) => LEAVING,
        (Way::Sent { .. }, _) => BY_LOOPBACK,
    }
}

/// Where a rule of the plan is.
pub(super) fn place(rules: &Ruleset, key: &str) -> Option<Place> {
    let mut chains = rules.chains.iter();
    let holds = |hook: &Hook| {
        rules
            .chain(*hook)
            .is_some_and(|c| c.rules.iter().any(|r| r.key == key))
    };
    let hook = chains.find_map(|chain| holds(&chain.hook).then_some(chain.hook))?;
    let at = if hook.is_output() {
        At::Output
    } else {
        At::Prerouting
    };
    Some((at, hook.stage().priority()))
}
