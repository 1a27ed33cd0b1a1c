//! The same traffic through Envoy and through Shunt: what clients and upstreams see is compared.
//!
//! A scenario is a few lines in a file below `tests/data/differential`; its README explains the
//! format. [`scenario`] reads it, [`stage`] plays it with [`wire`] or [`http2`] through one of the proxies,
//! [`transcript`] writes down what happened, as [`message`] understands it, and [`differences`]
//! compares the two.

pub mod differences;
pub mod http2;
pub mod message;
pub mod scenario;
pub mod stage;
pub mod transcript;
pub mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use differences::Differences;
use scenario::{Group, Scenario};
use stage::{Proxy, Stage};
use transcript::Transcript;

/// How often a scenario is run through both while something differs: the machines that run the tests
/// are shared, and what comes late there is slow, or meets a connection that has just ended. A
/// difference that is one is there each time. What an upstream could misunderstand is wrong the first
/// time.
const TRIES: u32 = 12;

/// Up to how many times as long each run waits longer than the one before for what is yet to come.
const LONGER: u32 = 4;

/// Nothing has happened for this long: nothing will.
const QUIET: Duration = Duration::from_millis(200);

/// How many scenarios run at once, each between proxies of its own: mostly they wait.
const LANES: usize = 4;

/// Runs the scenarios of a folder through both proxies; `only` those with this word in the name.
///
/// # Errors
/// Something differs that is not allowed to; or an upstream behind Shunt got what could be
/// understood in two ways; or an allowed difference does not occur.
pub fn run(folder: &str, only: Option<&str>) -> Result<()> {
    let group = Group::read(folder)?;
    let differences = Differences::read()?;
    let wanted = |s: &&Scenario| only.is_none_or(|word| s.name.contains(word));
    let scenarios: Vec<Arc<Scenario>> = group
        .scenarios
        .iter()
        .filter(wanted)
        .map(|scenario| Arc::new(scenario.clone()))
        .collect();
    let wrong = Mutex::new(Vec::new());
    let lanes: Vec<Vec<Arc<Scenario>>> = (0..LANES)
        .map(|lane| {
            scenarios
                .iter()
                .skip(lane)
                .step_by(LANES)
                .cloned()
                .collect()
        })
        .filter(|scenarios: &Vec<_>| !scenarios.is_empty())
        .collect();
    thread::scope(|scope| -> Result<()> {
        let (bootstrap, differences, wrong) = (&group.bootstrap, &differences, &wrong);
        let lanes: Vec<_> = lanes
            .iter()
            .map(|of| scope.spawn(move || lane(bootstrap, of, differences, only, wrong)))
            .collect();
        lanes.into_iter().try_for_each(joined)
    })?;
    let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    if only.is_none() {
        let names: BTreeSet<String> = scenarios.iter().map(|s| s.name.clone()).collect();
        let unused = differences.unused(&names);
        wrong.extend(unused.iter().map(|reason| format!("never met: {reason}")));
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} scenarios in {folder}:\n{}",
        wrong.len(),
        scenarios.len(),
        wrong.join("\n\n")
    );
    Ok(())
}

/// Runs scenarios one after the other through a pair of proxies.
fn lane(
    bootstrap: &str,
    scenarios: &[Arc<Scenario>],
    differences: &Differences,
    only: Option<&str>,
    wrong: &Mutex<Vec<String>>,
) -> Result<()> {
    let (mut envoy, mut shunt) = both(
        || Stage::start(Proxy::Envoy, "envoy", bootstrap),
        || Stage::start(Proxy::Shunt, "shunt", bootstrap),
    )?;
    for scenario in scenarios {
        let mut tries = 0;
        let (different, of_envoy, of_shunt) = loop {
            tries += 1;
            let run = |stage: &mut Stage| stage.run(scenario, QUIET * tries.min(LONGER));
            let (of_envoy, of_shunt) = both(|| run(&mut envoy), || run(&mut shunt))
                .with_context(|| scenario.name.clone())?;
            let mut different = differences.compare(&scenario.name, &of_envoy, &of_shunt);
            let ambiguous = of_shunt.ambiguous.iter();
            different.extend(ambiguous.map(|line| format!("  ambiguous  {line}")));
            let sure = different.is_empty() || !of_shunt.ambiguous.is_empty();
            if sure || tries == TRIES {
                break (different, of_envoy, of_shunt);
            }
        };
        let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if only.is_some() {
            wrong.push(shown(&scenario.name, &of_envoy, &of_shunt));
        }
        if !different.is_empty() {
            wrong.push(format!("{}\n{}", scenario.name, different.join("\n")));
        }
    }
    Ok(())
}

fn shown(name: &str, envoy: &Transcript, shunt: &Transcript) -> String {
    format!(
        "{name}\n--- envoy\n{}\n--- shunt\n{}",
        envoy.lines.join("\n"),
        shunt.lines.join("\n")
    )
}

/// Does two things at once.
fn both<A: Send, B: Send>(
    one: impl FnOnce() -> Result<A> + Send,
    other: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        Ok((joined(one)?, other?))
    })
}

/// What a thread came to; its panic goes on.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
