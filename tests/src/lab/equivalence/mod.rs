//! Random policies and random flows: the kernel under each backend, and the evaluator, agree.
//!
//! A case is a number: it makes a policy and the flows for it, the same each time. If some disagree,
//! all are sent again with time enough; then one alone, and the policy is made as small as it still
//! disagrees. What does not happen again is a disagreement too, unless there was silence, which a
//! slow machine makes of answers; that is counted.

mod engine;
mod judge;
mod policy;
mod predict;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub use engine::Engine;
pub use judge::{Disagreement, Judge};

use super::Bench;

/// How much is tried.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of policies.
    pub policies: u64,
    /// Flows for each.
    pub flows: usize,
    /// The first case; the next ones follow it.
    pub seed: u64,
    /// Threads, each with a lab for each engine.
    pub workers: usize,
    /// What is compared, beside the evaluator.
    pub engines: Vec<Engine>,
    /// How many smaller policies are tried once a case disagrees.
    pub shrinking: usize,
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Policies.
    pub policies: u64,
    /// Of them by TPROXY.
    pub tproxy: u64,
    /// Of them with DNS capture.
    pub dns: u64,
    /// Of them such that know the proxy by a mark.
    pub mark: u64,
    /// Of them such that know the proxy by a cgroup.
    pub cgroup: u64,
    /// Trials, each counted once, however many engines carried it.
    pub trials: u64,
    /// Of them IPv6.
    pub v6: u64,
    /// Of them pairs of queries from one source port.
    pub pairs: u64,
    /// Of them such that a proxy got them.
    pub captured: u64,
    /// Of them such that somebody got no answer in time, and one when all were sent again.
    pub late: u64,
    /// How long it took.
    pub took: Duration,
}

/// Tries `settings.policies` policies; tells `progress` after each.
///
/// # Errors
/// The lab fails; or a case disagrees, with the smallest policy found and how to see it again.
pub fn run(settings: &Settings, progress: impl Fn(&Totals) + Sync) -> Result<Totals> {
    let start = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    let work = || -> Result<()> {
        Bench::run(|bench| {
            let mut judge = Judge::new(bench, &settings.engines)?;
            while !failed.load(Ordering::Relaxed) {
                let case = next.fetch_add(1, Ordering::Relaxed);
                if case >= settings.policies {
                    break;
                }
                let seed = settings.seed.wrapping_add(case);
                let outcome = judge
                    .case(seed, settings)
                    .with_context(|| format!("case {seed}"))
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                if let Some(disagreement) = outcome.disagreement {
                    failed.store(true, Ordering::Relaxed);
                    bail!("{disagreement}");
                }
                let mut totals = totals.lock().unwrap_or_else(|e| e.into_inner());
                totals.add(&outcome.totals);
                totals.took = start.elapsed();
                progress(&totals);
            }
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..settings.workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let mut totals = *totals.lock().unwrap_or_else(|e| e.into_inner());
    totals.took = start.elapsed();
    Ok(totals)
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.policies += other.policies;
        self.tproxy += other.tproxy;
        self.dns += other.dns;
        self.mark += other.mark;
        self.cgroup += other.cgroup;
        self.trials += other.trials;
        self.v6 += other.v6;
        self.pairs += other.pairs;
        self.captured += other.captured;
        self.late += other.late;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policies,
            tproxy,
            dns,
            mark,
            cgroup,
            trials,
            v6,
            pairs,
            captured,
            late,
            took,
        } = self;
        let seconds = took.as_secs_f64();
        write!(
            f,
            "{policies} policies ({tproxy} TPROXY, {dns} DNS, {mark} by mark, {cgroup} by cgroup), \
             {trials} trials ({v6} IPv6, {pairs} DNS pairs, {captured} captured, {late} late) in \
             {seconds:.0} s"
        )
    }
}
