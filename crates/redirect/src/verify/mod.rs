//! Proof that the rules in the kernel do what was planned: packets are sent that they decide on.
//!
//! Each rule is a leg, in each family that it decides for. The plan itself tells which flows a rule
//! decides on ([`flows`], [`decide`]); those that this process can make are made ([`live`]), on a
//! link that leads nowhere ([`stage`]), and it is seen where they end and which rule counted them.
//! Every rule is also read back. No packet leaves the pod, and no server in it notices any.

mod counting;
mod decide;
mod flows;
mod held;
mod live;
mod others;
mod readback;
mod report;
mod routing;
mod shown;
mod sockets;
mod stage;
mod text;
mod title;
mod tproxy;
mod unprivileged;
mod values;
mod wire;
mod zone;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_abi::rule as key;

use crate::backend::Backend;
use crate::error::{Cause, KernelError};
use crate::iptables::IptablesError;
use crate::plan::Plan;
use crate::routing::Route;
use crate::ruleset::{AddressTest, Family, Hook, Match, Rule, Ruleset, Verdict};
use counting::Counting;
use decide::{Outcome, Way};
use flows::Probe;
use held::Held;
use live::Watch;
pub use report::{Failure, Leg, Proof, Report};
pub use routing::LO_UP;
use shown::Shown;
pub(crate) use stage::remove_leftovers;
use stage::{Stage, StageError};
use tproxy::Listeners;
pub use unprivileged::unprivileged;
use values::Ability;

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long all of it may take, waiting for another run included. Without a fault it ends much
    /// earlier.
    pub timeout: Duration,
    /// How often probes are made while some of them fail; at least once. A probe may meet what
    /// conntrack remembers, or a machine that is too busy; rules that are wrong fail every time.
    pub attempts: u32,
}

impl Options {
    /// Istio's time limit for its own probe.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// Default of [`Self::attempts`].
    pub const ATTEMPTS: u32 = 3;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Self::TIMEOUT,
            attempts: Self::ATTEMPTS,
        }
    }
}

/// Rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// By the kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// By iptables.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
}

impl VerifyError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Kernel(error) => error.cause(),
            Self::Iptables(error) => error.cause(),
        }
    }
}

/// A packet that does not appear for so long is lost; all of them stay in this machine.
const PATIENCE: Duration = Duration::from_millis(250);

/// Verifies that the network namespace of the calling thread follows `plan`, which this backend has
/// written into it. Needs CAP_NET_ADMIN, and CAP_NET_RAW to send packets; without it rules are read
/// back. The counters of iptables' rules are looked at only where packets are lost.
///
/// # Errors
/// If the rules cannot be read. That they are wrong is no error, but in the report.
pub fn verify(plan: &Plan, backend: Backend, options: &Options) -> Result<Report, VerifyError> {
    let mut report = attempt(plan, backend, options)?;
    for _ in 1..options.attempts {
        if report.failed().next().is_none() {
            break;
        }
        report = attempt(plan, backend, options)?;
    }
    Ok(report)
}

fn attempt(plan: &Plan, backend: Backend, options: &Options) -> Result<Report, VerifyError> {
    let rules = &plan.ruleset;
    let held = Held::read(plan, backend)?;
    let counting = Counting::new(backend)?;
    // It is told first, and no packet would tell more.
    let mut legs: Vec<Leg> = routing::loopback().into_iter().collect();
    let live = match legs.first() {
        None => Live::run(rules, counting, options.timeout),
        Some(_) => Live::not_run("interface lo is down"),
    };
    let mut told = false;
    for chain in &rules.chains {
        for rule in &chain.rules {
            for family in families(rule, plan.ipv6) {
                let difference = held.difference(rules, chain.hook, rule, family);
                told |= difference.is_some();
                legs.push(Leg {
                    title: title::of(&rule.key),
                    family: Some(family),
                    key: rule.key.clone(),
                    proof: proof(&live, chain.hook, rule, family, difference),
                });
            }
        }
    }
    legs.extend(live.rest(held.intruder(rules, told)));
    legs.extend(routing::legs(plan)?);
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
        (Some(Tested::Hidden(why)), None) => Proof::ReadBack { why: why.clone() },
        (None, None) => Proof::ReadBack {
            why: live.why_not(rule, family),
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
    /// Its packets were decided on as they should be, and then taken away by others' rules.
    Hidden(String),
    Failed(Failure),
}

/// What all probes showed.
#[derive(Default)]
struct Live {
    tested: BTreeMap<(String, Family), Tested>,
    probes: usize,
    /// In which families there could be probes.
    families: Vec<Family>,
    /// Whom probes could be.
    any_owner: bool,
    /// Whether somebody listens where TPROXY's proxy does.
    proxy_listens: bool,
    /// Why no probe, or no more of them, could be made.
    stopped: Option<String>,
}

impl Live {
    fn not_run(why: &str) -> Self {
        Self {
            stopped: Some(why.to_owned()),
            ..Self::default()
        }
    }

    fn run(rules: &Ruleset, counting: Counting, timeout: Duration) -> Self {
        let mut live = Self {
            any_owner: sockets::can_be_anybody(),
            ..Self::default()
        };
        if let Err(error) = live.try_run(rules, counting, timeout) {
            live.stopped = Some(error.to_string());
        }
        live
    }

    fn try_run(
        &mut self,
        rules: &Ruleset,
        counting: Counting,
        timeout: Duration,
    ) -> Result<(), StageError> {
        let end = Instant::now() + timeout;
        let stage = Stage::new(timeout)?;
        let places = stage.places.iter();
        self.families = places.map(|place| Family::of(place.own)).collect();
        let local: Vec<IpAddr> = Route::open()?.addresses()?.all().collect();
        let ability = Ability {
            own: sockets::whoami(),
            any_owner: self.any_owner,
        };
        let zones = rules.chains.iter().flat_map(|chain| &chain.rules);
        let zones = zones
            .into_iter()
            .any(|rule| matches!(rule.verdict, Verdict::Zone(_)));
        let mut watch = Watch::new(&stage, rules, counting, zones, PATIENCE)?;
        let probes = |listening, only: Option<&str>| {
            let mut probes = flows::probes(rules, &stage.places, &local, ability, listening);
            if let Some(only) = only {
                probes.retain(|probe| probe.decision.keys.iter().any(|key| key == only));
            }
            probes
        };
        let Some((port, mark)) = tproxy::capture(rules) else {
            return self.try_all(&mut watch, &probes(true, None), end);
        };
        let listeners = Listeners::open(&stage.places, port)?;
        if let Listeners::Own(_) = listeners {
            drop(listeners);
            let dropped = probes(false, Some(key::TPROXY_NO_LISTENER));
            self.try_all(&mut watch, &dropped, end)?;
        } else {
            self.proxy_listens = true;
        }
        let listeners = Listeners::open(&stage.places, port)?;
        let captured = probes(true, None);
        self.try_all(&mut watch, &captured, end)?;
        for place in &stage.places {
            let family = Family::of(place.own);
            watch.forget().map_err(StageError::watching)?;
            let captured_port = captured.iter().find_map(|probe| {
                let arrives = probe.flow.way == Way::Arrived && probe.flow.family() == family;
                let captured = probe.decision.outcome == Outcome::Transparent;
                (arrives && captured).then_some(probe.flow.ends.destination.1)
            });
            let listener = listeners.arriving(place.own);
            if let (Some(listener), Some(port)) = (listener, captured_port) {
                let shown = tproxy::inbound(&mut watch, place, listener, port)?;
                self.count(&[key::TPROXY_CAPTURED], family, shown);
                let own = ability.own;
                let called = tproxy::self_call(&mut watch, rules, place, &listeners, own, port)?;
                if let Some(shown) = called {
                    self.count(&[key::TPROXY_ESTABLISHED], family, shown);
                }
            }
            let shown = tproxy::upstream(&mut watch, place, mark)?;
            self.count(&[key::TPROXY_FROM_APP], family, shown);
        }
        Ok(())
    }

    fn try_all(
        &mut self,
        watch: &mut Watch<'_>,
        probes: &[Probe],
        end: Instant,
    ) -> Result<(), StageError> {
        for probe in probes {
            if Instant::now() > end {
                return Err(StageError::Slow);
            }
            let shown = watch.probe(probe)?;
            let mut keys: Vec<&str> = probe.decision.keys.iter().map(String::as_str).collect();
            if keys.is_empty() {
                keys.push("");
            }
            self.count(&keys, probe.flow.family(), shown);
        }
        Ok(())
    }

    /// Takes down what a probe showed of the rules that should decide on it.
    fn count(&mut self, keys: &[&str], family: Family, shown: Shown) {
        self.probes += 1;
        for key in keys {
            let of = ((*key).to_owned(), family);
            self.tested.entry(of).or_insert(Tested::Right);
        }
        for (key, why) in shown.hidden {
            let tested = self.tested.entry((key, family)).or_insert(Tested::Right);
            if matches!(tested, Tested::Right) {
                *tested = Tested::Hidden(why);
            }
        }
        for (key, failure) in shown.wrong {
            // The first failure is the plainest.
            let tested = self.tested.entry((key, family)).or_insert(Tested::Right);
            if !matches!(tested, Tested::Failed(_)) {
                *tested = Tested::Failed(failure);
            }
        }
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
                        Tested::Hidden(why) => Proof::NotProved { why: why.clone() },
                        Tested::Failed(failure) => Proof::Failed(failure.clone()),
                    },
                });
            }
        }
        if let Some(intruder) = intruder {
            legs.push(Leg {
                title: "only the planned rules are there".to_owned(),
                family: None,
                key: title::NO_OTHER_RULE.to_owned(),
                proof: Proof::Failed(Failure {
                    expected: "rules as planned, and no others".to_owned(),
                    happened: intruder,
                }),
            });
        }
        legs
    }

    /// Why no probe has met a rule.
    fn why_not(&self, rule: &Rule, family: Family) -> String {
        if let Some(why) = &self.stopped {
            return why.clone();
        }
        if !self.families.contains(&family) {
            return "IPv6 is disabled here (sysctl net.ipv6.conf.default.disable_ipv6): a probe \
                    cannot have an address of it"
                .to_owned();
        }
        if self.proxy_listens && rule.key == key::TPROXY_NO_LISTENER {
            return "the proxy listens already".to_owned();
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
