//! Istio's own `istio-iptables` in one pod, `shunt-init istio-iptables` with the same arguments in
//! another, the same flows through both: each must end alike.

mod differences;
mod flags;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use shunt_redirect::CaptureConfig;
use shunt_tests::lab::matrix::Shares;
use shunt_tests::lab::{Bench, Edges, Lab, Observation, Proxy, Trial};
use shunt_tests::prelude::*;

use crate::differences::{Case, DIFFERENCES};
use crate::flags::FlagSet;

/// Flows through each set of flags.
const FLOWS: usize = 150;

/// Random sets of flags.
const SETS: u64 = 150;

/// Where the random sets begin; another one tries others.
const SEED: u64 = 20_261_125;

/// The pod's DNS servers.
const NAMESERVERS: [&str; 3] = ["10.96.0.10", "fd00:96::10", "127.0.0.53"];

/// Two labs on one thread.
struct Pair<'b> {
    istio: Lab<'b>,
    ours: Lab<'b>,
    nameservers: Vec<IpAddr>,
}

/// A flow that ended differently.
struct Mismatch {
    trial: Trial,
    at: usize,
    istio: Observation,
    ours: Observation,
}

/// What the comparisons found so far.
#[derive(Default)]
struct Found {
    flows: usize,
    /// How often each difference of the document was seen.
    known: BTreeMap<&'static str, usize>,
    /// What no line of the document explains.
    unknown: Vec<String>,
}

impl<'b> Pair<'b> {
    fn new(bench: &'b Bench) -> Result<Self> {
        let nameservers: Vec<IpAddr> = NAMESERVERS
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, _>>()?;
        bench.set_nameservers(&nameservers)?;
        Ok(Self {
            istio: Lab::new(bench)?,
            ours: Lab::new(bench)?,
            nameservers,
        })
    }

    /// Lets both programs write their rules.
    fn write(&mut self, flags: &FlagSet, flavour: &str) -> Result<()> {
        self.istio.clear()?;
        let force = ["--force-iptables-binary", flavour];
        run(&self.istio, &programs::istio_iptables()?, &force, flags)?;
        run(
            &self.ours,
            &programs::shunt_init()?,
            &["istio-iptables"],
            flags,
        )
    }

    fn send(&mut self, policy: &CaptureConfig, trials: &[Trial]) -> Result<Vec<Mismatch>> {
        let proxy = Proxy::of(policy);
        let istio = self.istio.run(&proxy, trials)?;
        let ours = self.ours.run(&proxy, trials)?;
        let mut mismatches = Vec::new();
        for ((trial, istio), ours) in trials.iter().zip(istio).zip(ours) {
            let different = istio.iter().zip(&ours).position(|(a, b)| a != b);
            if let Some(at) = different {
                mismatches.push(Mismatch {
                    trial: trial.clone(),
                    at,
                    istio: istio[at].clone(),
                    ours: ours[at].clone(),
                });
            }
        }
        Ok(mismatches)
    }

    /// Sends flows chosen for these flags through both pods.
    fn compare(&mut self, flags: &FlagSet, seed: u64, found: &mut Found) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        let flavour = if rng.bool() { "legacy" } else { "nft" };
        let policy = flags.policy()?;
        self.write(flags, flavour)?;
        let edges = Edges::of(&policy, &self.nameservers);
        let trials = edges.trials(FLOWS, Shares::default(), &mut rng);
        found.flows += trials.len();
        let mut unknown = Vec::new();
        for mismatch in self.send(&policy, &trials)? {
            match explanation(flags, &policy, &mismatch) {
                Some(id) => *found.known.entry(id).or_default() += 1,
                None => unknown.push(mismatch),
            }
        }
        // One tells enough of a set of flags; more of them would only take time.
        match unknown.into_iter().next() {
            Some(mismatch) => self.report(flags, flavour, seed, mismatch, found),
            None => Ok(()),
        }
    }

    /// Makes sure that it happens again, with time enough, and finds the fewest flags it needs.
    fn report(
        &mut self,
        flags: &FlagSet,
        flavour: &str,
        seed: u64,
        mismatch: Mismatch,
        found: &mut Found,
    ) -> Result<()> {
        let Some(mut mismatch) = self.again(flags, flavour, &mismatch.trial)? else {
            return Ok(());
        };
        let mut fewest = flags.clone();
        loop {
            let smaller: Vec<FlagSet> = fewest.smaller().collect();
            let Some((flags, same)) = smaller.into_iter().find_map(|smaller| {
                // A set that a program refuses is no smaller case of this.
                let again = self.again(&smaller, flavour, &mismatch.trial).ok()?;
                Some((smaller, again?))
            }) else {
                break;
            };
            (fewest, mismatch) = (flags, same);
        }
        let mut text = String::new();
        let Mismatch {
            trial,
            at,
            istio,
            ours,
        } = mismatch;
        writeln!(text, "{fewest} ({flavour}; seed {seed})\n  {trial}")?;
        if at > 0 {
            writeln!(text, "  (the last but {})", trial.flows.len() - 1 - at)?;
        }
        write!(text, "    Istio: {istio}\n    Shunt: {ours}")?;
        eprintln!("{text}\n");
        found.unknown.push(text);
        Ok(())
    }

    /// One trial with other flags and time enough: an unexplained mismatch, if there is one.
    fn again(&mut self, flags: &FlagSet, flavour: &str, trial: &Trial) -> Result<Option<Mismatch>> {
        let policy = flags.policy()?;
        self.write(flags, flavour)?;
        for lab in [&mut self.istio, &mut self.ours] {
            lab.set_patience(Duration::from_millis(600));
        }
        let again = self.send(&policy, std::slice::from_ref(trial))?.pop();
        for lab in [&mut self.istio, &mut self.ours] {
            lab.set_patience(shunt_tests::lab::PATIENCE);
        }
        Ok(again.filter(|mismatch| explanation(flags, &policy, mismatch).is_none()))
    }
}

/// The line of the document that explains it.
fn explanation(
    flags: &FlagSet,
    policy: &CaptureConfig,
    mismatch: &Mismatch,
) -> Option<&'static str> {
    let case = Case {
        flags,
        policy,
        flow: &mismatch.trial.flows[mismatch.at],
        istio: &mismatch.istio,
        ours: &mismatch.ours,
    };
    let found = DIFFERENCES.iter().find(|line| (line.explains)(&case));
    found.map(|line| line.id)
}

/// Runs a program that writes rules, in a pod.
fn run(lab: &Lab<'_>, program: &Path, first: &[&str], flags: &FlagSet) -> Result<()> {
    lab.in_pod(|bench| {
        let mut command = Command::new(program);
        command.args(first).args(flags.arguments()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(flags.variables());
        bench.program(&mut command, "").map(drop)
    })
}

impl Found {
    fn check(self) -> Result<Self> {
        let Self {
            flows,
            known,
            unknown,
        } = &self;
        eprintln!("{flows} trials; known differences seen: {known:?}");
        ensure!(
            unknown.is_empty(),
            "{} of {flows} trials end differently, and no line of docs/istio-differences.md says \
             so:\n\n{}",
            unknown.len(),
            unknown.join("\n\n")
        );
        Ok(self)
    }
}

#[test]
fn the_document_names_exactly_the_differences_that_are_known_here() -> Result<()> {
    let document = include_str!("../../../docs/istio-differences.md");
    let (_, flows) = document.split_once("| id |").context("no table of flows")?;
    let (flows, _) = flows.split_once("\n## ").context("no end of that table")?;
    let mut named: Vec<&str> = flows
        .lines()
        .skip(2)
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|id| !id.is_empty() && !id.starts_with('|'))
        .collect();
    let mut known: Vec<&str> = DIFFERENCES.iter().map(|line| line.id).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
    Ok(())
}

#[test]
fn each_flag_alone_does_what_istios_own_program_does() -> Result<()> {
    Bench::run(|bench| {
        let mut pair = Pair::new(bench)?;
        let mut found = Found::default();
        for (seed, flags) in (SEED..).zip(FlagSet::singles()) {
            pair.compare(&flags, seed, &mut found)
                .with_context(|| flags.to_string())?;
        }
        found.check().map(drop)
    })
}

#[test]
fn random_sets_of_flags_do_what_istios_own_program_does() -> Result<()> {
    Bench::run(|bench| {
        let mut pair = Pair::new(bench)?;
        let mut found = Found::default();
        for seed in SEED..SEED + SETS {
            let flags = FlagSet::random(&mut Rng::with_seed(seed));
            pair.compare(&flags, seed, &mut found)
                .with_context(|| format!("seed {seed}: {flags}"))?;
        }
        let found = found.check()?;
        let lines = DIFFERENCES.iter().map(|line| line.id);
        let unseen: Vec<_> = lines.filter(|id| !found.known.contains_key(id)).collect();
        ensure!(
            unseen.is_empty(),
            "docs/istio-differences.md says so, but no flow notices: {unseen:?}"
        );
        Ok(())
    })
}
