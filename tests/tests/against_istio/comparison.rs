//! Sets of flags one after the other, and what to make of flows that end differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fastrand::Rng;
use shunt_redirect::CaptureConfig;
use shunt_tests::lab::matrix::Shares;
use shunt_tests::lab::{Bench, Edges, Observation, Outcome, Trial};
use shunt_tests::prelude::*;

use crate::differences::{Case, DIFFERENCES};
use crate::flags::FlagSet;
use crate::programs::{Mismatch, Programs, Told, Way};

/// Flows through each set of flags.
const FLOWS: usize = 150;

/// How often each difference of the document was seen.
type Known = BTreeMap<&'static str, usize>;

/// The programs, and what was found so far.
pub(crate) struct Comparison<'b> {
    programs: Programs<'b>,
    flows: usize,
    known: Known,
    /// What no line of the document explains.
    unknown: Vec<String>,
    /// Flows to which there was no answer in time, and one when they were sent again.
    late: usize,
}

impl<'b> Comparison<'b> {
    pub(crate) fn new(bench: &'b Bench) -> Result<Self> {
        Ok(Self {
            programs: Programs::new(bench)?,
            flows: 0,
            known: Known::new(),
            unknown: Vec::new(),
            late: 0,
        })
    }

    /// Sends flows chosen for these flags through all pods.
    pub(crate) fn compare(&mut self, flags: FlagSet, seed: u64) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        let iptables = match rng.bool() {
            true => Way::Legacy,
            false => Way::IptablesNft,
        };
        let told = Told {
            flags,
            seed,
            ipv6_as_istio: rng.bool(),
        };
        self.compare_told(&told, &[iptables, Way::Nftables], &mut rng)
            .with_context(|| format!("seed {seed}: {}", told.flags))
    }

    fn compare_told(&mut self, told: &Told, ways: &[Way], rng: &mut Rng) -> Result<()> {
        let policy = told.flags.policy()?;
        self.programs.write(told, ways)?;
        let edges = Edges::of(&policy, &self.programs.nameservers);
        let trials = edges.trials(FLOWS, Shares::default(), rng);
        self.flows += trials.len() * ways.len();
        let mut unknown = Vec::new();
        for mismatch in self.programs.send(&policy, ways, &trials)? {
            match explanation(told, &policy, &mismatch) {
                Some(id) => *self.known.entry(id).or_default() += 1,
                None => unknown.push(mismatch),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let again = self.programs.send_patiently(&policy, ways, &trials)?;
        let mut again: Vec<_> = again
            .into_iter()
            .filter(|mismatch| explanation(told, &policy, mismatch).is_none())
            .collect();
        for once in unknown {
            let is_same = |other: &Mismatch| (other.way, &other.trial) == (once.way, &once.trial);
            if again.iter().any(is_same) {
                continue;
            }
            if is_silent(&once.istio) || is_silent(&once.ours) {
                self.late += 1;
            } else {
                self.note(told, "once of two times", &once)?;
            }
        }
        // One tells enough of a set of flags; more of them would only take time.
        again.truncate(1);
        again
            .iter()
            .try_for_each(|mismatch| self.report(told, mismatch))
    }

    /// Finds the fewest flags that a mismatch needs, if it happens without other flows too.
    fn report(&mut self, told: &Told, mismatch: &Mismatch) -> Result<()> {
        let Some(mut mismatch) = self.alone(told, mismatch.way, &mismatch.trial)? else {
            return self.note(told, "among the other flows only", mismatch);
        };
        let mut fewest = told.clone();
        loop {
            let smaller: Vec<FlagSet> = fewest.flags.smaller().collect();
            let found = smaller.into_iter().find_map(|flags| {
                let told = Told { flags, ..fewest };
                // A set that a program refuses is no smaller case of this.
                let same = self.alone(&told, mismatch.way, &mismatch.trial).ok()?;
                Some((told, same?))
            });
            let Some(found) = found else {
                return self.note(&fewest, "always", &mismatch);
            };
            (fewest, mismatch) = found;
        }
    }

    /// One trial with other flags: an unexplained mismatch, if there is one.
    fn alone(&mut self, told: &Told, way: Way, trial: &Trial) -> Result<Option<Mismatch>> {
        let policy = told.flags.policy()?;
        let trials = std::slice::from_ref(trial);
        self.programs.write(told, &[way])?;
        let sent = self.programs.send_patiently(&policy, &[way], trials)?;
        let mut unknown = sent.into_iter();
        Ok(unknown.find(|mismatch| explanation(told, &policy, mismatch).is_none()))
    }

    fn note(&mut self, told: &Told, how_often: &str, mismatch: &Mismatch) -> Result<()> {
        let Mismatch {
            way,
            trial,
            at,
            istio,
            ours,
        } = mismatch;
        let mut text = format!("{} (seed {}; Istio: {way}", told.flags, told.seed);
        if told.ipv6_as_istio {
            text.push_str("; Shunt: --ipv6 istio");
        }
        writeln!(text, "), {how_often}\n  {trial}")?;
        if trial.flows.len() > 1 {
            writeln!(text, "  (flow {} of these)", at + 1)?;
        }
        write!(text, "    Istio: {istio}\n    Shunt: {ours}")?;
        eprintln!("{text}\n");
        self.unknown.push(text);
        Ok(())
    }

    /// The differences of the document that were seen, if there were no others.
    pub(crate) fn finish(self) -> Result<Known> {
        let Self {
            flows,
            known,
            unknown,
            late,
            ..
        } = self;
        eprintln!("{flows} trials, {late} of them late; known differences seen: {known:?}");
        ensure!(
            unknown.is_empty(),
            "{} of {flows} trials end differently, and no line of docs/istio-differences.md says \
             so:\n\n{}",
            unknown.len(),
            unknown.join("\n\n")
        );
        Ok(known)
    }
}

/// The line of the document that explains it.
fn explanation(told: &Told, policy: &CaptureConfig, mismatch: &Mismatch) -> Option<&'static str> {
    let case = Case {
        told,
        policy,
        way: mismatch.way,
        flow: &mismatch.trial.flows[mismatch.at],
        istio: &mismatch.istio,
        ours: &mismatch.ours,
    };
    let found = DIFFERENCES.iter().find(|line| (line.explains)(&case));
    found.map(|line| line.id)
}

/// All that a slow machine can make of an answer.
fn is_silent(seen: &Observation) -> bool {
    matches!(seen.outcome, Outcome::Silent(_))
}
