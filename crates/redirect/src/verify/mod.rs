//! Proof that the rules in the kernel do what was planned: packets are sent that they decide on.
//!
//! Each rule is a leg, in each family that it decides for. The plan itself tells which flows a rule
//! decides on ([`flows`], [`decide`]); those that this process can make are made ([`live`]), on a
//! link that leads nowhere ([`stage`]), and it is seen where they end and which rule counted them.
//! Every rule is also read back. No packet leaves the pod, and no server in it notices any.

mod decide;
mod flows;
mod live;
mod readback;
mod report;
mod sockets;
mod stage;
mod title;
mod wire;
mod zone;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::KernelError;
use crate::nft::Nft;
use crate::plan::Plan;
use crate::routing::Route;
use crate::ruleset::{AddressTest, Family, Hook, Match, Rule, Ruleset};
use flows::{Ability, Probe};
use live::Watch;
use readback::Readback;
pub use report::{Failure, Leg, Proof, Report};
pub(crate) use stage::remove_leftovers;
use stage::{Stage, StageError};

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long all of it may take, waiting for another run included. Without a fault it ends much
    /// earlier.
    pub timeout: Duration,
    /// Whether the kernel's rules are also compared with the plan. Only tests leave it out, to see
    /// what probes alone find.
    pub read_back: bool,
}

impl Options {
    /// Istio's time limit for its own probe.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Self::TIMEOUT,
            read_back: true,
        }
    }
}

/// A packet that does not appear for so long is lost; all of them stay in this machine.
const PATIENCE: Duration = Duration::from_millis(250);

/// Verifies that the network namespace of the calling thread follows `plan`, which was written into
/// it. Needs CAP_NET_ADMIN, and CAP_NET_RAW to send packets; without it rules are read back.
///
/// # Errors
/// If the rules cannot be read. That they are wrong is no error, but in the report.
pub fn verify(plan: &Plan, options: &Options) -> Result<Report, KernelError> {
    let mut nft = Nft::open()?;
    let rules = &plan.ruleset;
    let readback = options
        .read_back
        .then(|| Readback::read(&mut nft))
        .transpose()?;
    let live = Live::run(rules, &mut nft, options.timeout);
    let mut legs: Vec<Leg> = Vec::new();
    for chain in &rules.chains {
        for rule in &chain.rules {
            for family in families(rule, plan.ipv6) {
                let difference = readback
                    .as_ref()
                    .and_then(|readback| readback.difference(rules, chain.hook, rule));
                legs.push(Leg {
                    title: title::of(&rule.key),
                    family: Some(family),
                    key: rule.key.clone(),
                    proof: proof(&live, chain.hook, rule, family, difference),
                });
            }
        }
    }
    legs.extend(
        live.rest(
            readback
                .as_ref()
                .and_then(|readback| readback.intruder(rules)),
        ),
    );
    Ok(Report {
        legs,
        probes: live.probes,
    })
}

fn proof(
    live: &Live,
    hook: Hook,
    rule: &Rule,
    family: Family,
    difference: Option<String>,
) -> Proof {
    let tested = live.tested.get(&(rule.key.clone(), family));
    match (tested, difference) {
        (Some(Tested::Failed(failure)), difference) => {
            let mut failure = failure.clone();
            if let Some(difference) = difference {
                failure.happened = format!("{}; read back: {difference}", failure.happened);
            }
            Proof::Failed(failure)
        }
        (_, Some(difference)) => Proof::Failed(Failure {
            expected: format!("rule {} in chain {}", rule.key, hook.chain()),
            happened: difference,
        }),
        (Some(Tested::Right), None) => Proof::Live,
        (None, None) => Proof::ReadBack {
            why: live.why_not(rule),
        },
    }
}

/// The families in which a rule can decide.
fn families(rule: &Rule, ipv6: bool) -> Vec<Family> {
    let only = rule.matches.iter().find_map(|test| match test {
        Match::Family(family) => Some(*family),
        Match::Source(test) | Match::Destination(test) => Some(match test {
            AddressTest::Is(address) | AddressTest::IsNot(address) => Family::of(*address),
            AddressTest::In(family, _) | AddressTest::NotIn(family, _) => *family,
        }),
        _ => None,
    });
    match only {
        Some(family) => vec![family],
        None if ipv6 => vec![Family::V4, Family::V6],
        None => vec![Family::V4],
    }
}

/// What probes showed of a rule in a family.
#[derive(Clone, Debug)]
enum Tested {
    Right,
    Failed(Failure),
}

/// What all probes showed.
#[derive(Default)]
struct Live {
    tested: BTreeMap<(String, Family), Tested>,
    probes: usize,
    /// Whom probes could be.
    any_owner: bool,
    /// Why no probe, or no more of them, could be made.
    stopped: Option<String>,
}

impl Live {
    fn run(rules: &Ruleset, nft: &mut Nft, timeout: Duration) -> Self {
        let mut live = Self {
            any_owner: sockets::can_be_anybody(),
            ..Self::default()
        };
        if let Err(error) = live.try_run(rules, nft, timeout) {
            live.stopped = Some(error.to_string());
        }
        live
    }

    fn try_run(
        &mut self,
        rules: &Ruleset,
        nft: &mut Nft,
        timeout: Duration,
    ) -> Result<(), StageError> {
        let end = Instant::now() + timeout;
        let stage = Stage::new(timeout)?;
        let local: Vec<IpAddr> = Route::open()?.addresses()?.all().collect();
        let ability = Ability {
            own: sockets::whoami(),
            any_owner: self.any_owner,
        };
        let mut watch = Watch::new(&stage, nft, PATIENCE)?;
        for probe in flows::probes(rules, &stage.places, &local, ability, true) {
            if Instant::now() > end {
                return Err(StageError::Slow);
            }
            self.try_one(&mut watch, &probe)?;
        }
        Ok(())
    }

    fn try_one(&mut self, watch: &mut Watch<'_>, probe: &Probe) -> Result<(), StageError> {
        let wrong = watch.probe(probe)?;
        self.probes += 1;
        let family = probe.flow.family();
        for key in &probe.decision.keys {
            let of = (key.clone(), family);
            self.tested.entry(of).or_insert(Tested::Right);
        }
        if probe.decision.keys.is_empty() {
            let of = (String::new(), family);
            self.tested.entry(of).or_insert(Tested::Right);
        }
        for (key, failure) in wrong {
            // The first failure is the plainest.
            let tested = self.tested.entry((key, family));
            let tested = tested.or_insert(Tested::Right);
            if matches!(tested, Tested::Right) {
                *tested = Tested::Failed(failure);
            }
        }
        Ok(())
    }

    /// Legs for flows on which no rule decides.
    fn rest(&self, intruder: Option<String>) -> Vec<Leg> {
        let mut legs = Vec::new();
        for family in [Family::V4, Family::V6] {
            if let Some(tested) = self.tested.get(&(String::new(), family)) {
                legs.push(Leg {
                    title: "whatever no rule is for passes,".to_owned(),
                    family: Some(family),
                    key: title::NO_RULE.to_owned(),
                    proof: match tested {
                        Tested::Right => Proof::Live,
                        Tested::Failed(failure) => Proof::Failed(failure.clone()),
                    },
                });
            }
        }
        if let Some(intruder) = intruder {
            legs.push(Leg {
                title: "no other rule is there".to_owned(),
                family: None,
                key: title::NO_OTHER_RULE.to_owned(),
                proof: Proof::Failed(Failure {
                    expected: "only the planned rules in table inet shunt".to_owned(),
                    happened: intruder,
                }),
            });
        }
        legs
    }

    /// Why no probe has met a rule.
    fn why_not(&self, rule: &Rule) -> String {
        if let Some(why) = &self.stopped {
            return why.clone();
        }
        for test in &rule.matches {
            match test {
                Match::Cgroup(_) => return "a probe cannot be in the proxy's cgroup".to_owned(),
                Match::InInterface(name) | Match::OutInterface(name) => {
                    return format!("a probe cannot use interface {name}");
                }
                Match::OwnerUid(_) | Match::OwnerGid(_) | Match::NotOwnerGid(_)
                    if !self.any_owner =>
                {
                    return "a probe cannot be of another user or group without CAP_SETUID and \
                            CAP_SETGID"
                        .to_owned();
                }
                _ => {}
            }
        }
        "no packet of a probe is decided on by it: other rules come first".to_owned()
    }
}
