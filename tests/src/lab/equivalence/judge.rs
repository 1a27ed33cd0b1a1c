//! One case: a policy carried out by each engine, the same flows through each, the evaluator's
//! word, and what to make of a difference.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use proptest::strategy::{Strategy as _, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shunt_redirect::capture::InboundMode;
use shunt_redirect::{CaptureConfig, PodFacts, plan};

use super::predict::Paper;
use super::{Engine, Settings, Totals, policy};
use crate::lab::matrix::Shares;
use crate::lab::{Bench, Edges, Lab, Observation, Outcome, PATIENCE, Protocol, Proxy, Trial};
use crate::net::Family;

/// The pod's `/etc/resolv.conf`.
const NAMESERVERS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10)),
];

/// With which a disagreement is looked at again: long enough for any machine.
const LONG_PATIENCE: Duration = Duration::from_millis(600);

/// What each said of each trial, or of each flow of one; the evaluator first.
type Said<T> = Vec<(String, Vec<T>)>;

/// A lab for each engine.
pub struct Judge<'b> {
    bench: &'b Bench,
    labs: Vec<(Engine, Lab<'b>)>,
}

/// A trial on which not all agree, and the smallest policy under which they do not.
#[derive(Debug)]
pub struct Disagreement {
    seed: u64,
    when: &'static str,
    policy: CaptureConfig,
    trial: Trial,
    said: Said<Observation>,
}

/// What became of a case.
pub(super) struct Case {
    pub(super) totals: Totals,
    pub(super) disagreement: Option<Disagreement>,
}

impl<'b> Judge<'b> {
    /// Makes the labs.
    ///
    /// # Errors
    /// As for [`Lab::new`].
    pub fn new(bench: &'b Bench, engines: &[Engine]) -> Result<Self> {
        bench.set_nameservers(&NAMESERVERS)?;
        let labs = engines.iter().map(|engine| Ok((*engine, Lab::new(bench)?)));
        Ok(Self {
            bench,
            labs: labs.collect::<Result<_>>()?,
        })
    }

    /// The policy and the flows of this number.
    pub(super) fn case(&mut self, seed: u64, settings: &Settings) -> Result<Case> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut tree = policy::policy(self.bench.cgroups()?)?
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("making a policy: {reason}"))?;
        let policy = tree.current();
        let edges = Edges::of(&policy, &NAMESERVERS);
        let trials = edges.trials(settings.flows, Shares::default(), &mut Rng::with_seed(seed));
        let said = self.ask(&policy, &trials)?;
        let mut totals = totals(&policy, &trials, &said);
        let first = suspects(&trials, &said);
        let mut disagreement = None;
        if !first.is_empty() {
            let again = self.ask_patiently(&policy, &trials)?;
            let second = suspects(&trials, &again);
            let gone: Vec<usize> = first
                .into_iter()
                .filter(|at| !second.contains(at))
                .collect();
            let told = |when, at: usize, said: &Said<Vec<Observation>>| Disagreement {
                seed,
                when,
                policy: policy.clone(),
                trial: trials[at].clone(),
                said: of_one(said, at),
            };
            // A slow machine can make silence of an answer, and nothing else.
            let (late, odd): (Vec<_>, Vec<_>) =
                gone.into_iter().partition(|at| is_silent(&said, *at));
            totals.late = u64::try_from(late.len())?;
            if let Some(at) = second.first() {
                let alone = self.alone(&policy, &trials[*at])?;
                disagreement = Some(match alone {
                    Some(said) => {
                        let trial = trials[*at].clone();
                        self.shrink(seed, settings.shrinking, &mut tree, trial, said)?
                    }
                    None => told("among the other flows only", *at, &again),
                });
            } else if let Some(at) = odd.first() {
                disagreement = Some(told("once of two times", *at, &said));
            }
        }
        Ok(Case {
            totals,
            disagreement,
        })
    }

    /// What the evaluator and each engine say to each trial.
    fn ask(&mut self, policy: &CaptureConfig, trials: &[Trial]) -> Result<Said<Vec<Observation>>> {
        let mut said = Vec::new();
        let proxy = Proxy::of(policy);
        let cgroups = self.bench.cgroups()?;
        for (engine, lab) in &mut self.labs {
            engine
                .carry_out(lab, policy)
                .with_context(|| format!("{policy:#?}"))?;
            if said.is_empty() {
                let facts = lab.in_pod(|_| Ok(PodFacts::read(policy)?))?;
                let paper = Paper::new(policy, &plan(policy, &facts), cgroups);
                let predicted = trials.iter().map(|trial| {
                    let predicted = paper.predict(trial);
                    predicted.with_context(|| format!("{trial}\n{policy:#?}"))
                });
                let predicted = predicted.collect::<Result<Vec<_>>>()?;
                said.push(("the evaluator".to_owned(), predicted));
            }
            said.push((engine.to_string(), lab.run(&proxy, trials)?));
        }
        Ok(said)
    }

    /// As [`Self::ask`], with time enough for any machine.
    fn ask_patiently(
        &mut self,
        policy: &CaptureConfig,
        trials: &[Trial],
    ) -> Result<Said<Vec<Observation>>> {
        self.set_patience(LONG_PATIENCE);
        let said = self.ask(policy, trials);
        self.set_patience(PATIENCE);
        said
    }

    /// Asks for one trial alone: what was said, if they do not agree.
    fn alone(
        &mut self,
        policy: &CaptureConfig,
        trial: &Trial,
    ) -> Result<Option<Said<Observation>>> {
        let trials = std::slice::from_ref(trial);
        let said = self.ask_patiently(policy, trials)?;
        let disagree = !suspects(trials, &said).is_empty();
        Ok(disagree.then(|| of_one(&said, 0)))
    }

    fn set_patience(&mut self, patience: Duration) {
        for (_, lab) in &mut self.labs {
            lab.set_patience(patience);
        }
    }

    /// The smallest policy under which the trial disagrees, as far as patience goes.
    fn shrink(
        &mut self,
        seed: u64,
        times: usize,
        tree: &mut impl ValueTree<Value = CaptureConfig>,
        trial: Trial,
        said: Said<Observation>,
    ) -> Result<Disagreement> {
        let mut smallest = (tree.current(), said);
        let mut more = tree.simplify();
        for _ in 0..times {
            if !more {
                break;
            }
            let policy = tree.current();
            more = match self.alone(&policy, &trial)? {
                Some(said) => {
                    smallest = (policy, said);
                    tree.simplify()
                }
                None => tree.complicate(),
            };
        }
        let (policy, said) = smallest;
        Ok(Disagreement {
            seed,
            when: "always",
            policy,
            trial,
            said,
        })
    }
}

/// What was said of one trial.
fn of_one(said: &Said<Vec<Observation>>, at: usize) -> Said<Observation> {
    let each = said.iter();
    each.map(|(who, all)| (who.clone(), all[at].clone()))
        .collect()
}

/// The trials of which not all said the same, by number.
fn suspects(trials: &[Trial], said: &Said<Vec<Observation>>) -> Vec<usize> {
    let agreed = |at: usize| {
        let mut all = said.iter().map(|(_, seen)| &seen[at]);
        let first = all.next();
        all.all(|other| first.is_none_or(|first| agree(&trials[at], first, other)))
    };
    (0..trials.len()).filter(|at| !agreed(*at)).collect()
}

/// Whether somebody got no answer to a trial.
fn is_silent(said: &Said<Vec<Observation>>, at: usize) -> bool {
    let mut seen = said.iter().flat_map(|(_, all)| &all[at]);
    seen.any(|seen| matches!(seen.outcome, Outcome::Silent(_)))
}

/// Whether two said the same of a trial. After a connection from its port, another one that leads
/// to the same socket may get another source port; the evaluator does not say when.
fn agree(trial: &Trial, one: &[Observation], other: &[Observation]) -> bool {
    let plain = |at: usize, seen: &Observation| {
        let mut seen = seen.clone();
        if at > 0
            && trial.flows[at].protocol == Protocol::Tcp
            && let Outcome::Answered(arrival) = &mut seen.outcome
        {
            arrival.port_kept = true;
        }
        seen
    };
    one.len() == other.len()
        && (0..one.len()).all(|at| plain(at, &one[at]) == plain(at, &other[at]))
}

fn totals(policy: &CaptureConfig, trials: &[Trial], said: &Said<Vec<Observation>>) -> Totals {
    let count = |wanted: &dyn Fn(&Trial) -> bool| {
        let count = trials.iter().filter(|trial| wanted(trial)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    let proxy = Proxy::of(policy);
    let ports = [Some(proxy.outbound), Some(proxy.inbound), proxy.dns];
    let captured = said.last().map_or(0, |(_, seen)| {
        let seen = seen.iter().flatten().filter_map(Observation::arrival);
        let captured = seen.filter(|arrival| ports.contains(&Some(arrival.listener)));
        u64::try_from(captured.count()).unwrap_or(u64::MAX)
    });
    Totals {
        policies: 1,
        tproxy: u64::from(matches!(policy.inbound.mode, InboundMode::Tproxy { .. })),
        dns: u64::from(policy.dns.is_some()),
        mark: u64::from(policy.proxy.mark.is_some()),
        cgroup: u64::from(policy.proxy.cgroup.is_some()),
        trials: count(&|_| true),
        v6: count(&|trial| trial.flows.iter().any(|flow| flow.family() == Family::V6)),
        pairs: count(&|trial| match trial.flows.as_slice() {
            [one, _] => one.protocol == Protocol::Udp,
            _ => false,
        }),
        captured,
        ..Totals::default()
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            when,
            policy,
            trial,
            said,
        } = self;
        writeln!(f, "not all agree ({when}) on {trial}")?;
        for (who, seen) in said {
            for seen in seen {
                writeln!(f, "  {who}: {seen}")?;
            }
        }
        writeln!(f, "under {policy:#?}")?;
        write!(
            f,
            "again: cargo xtask soak redirect --policies 1 --seed {seed}"
        )
    }
}
