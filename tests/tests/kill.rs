//! `shunt-init` killed at each of its system calls in turn: either no rule of ours is there or all
//! of them, and the next run succeeds.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use shunt_tests::init::INJECTED;
use shunt_tests::oracle::Traces;
use shunt_tests::prelude::*;

/// One system call of a run: its name, and which call of that name it is. (strace counts the calls
/// of each name apart.)
#[derive(Debug, Clone)]
struct Moment {
    call: String,
    nth: usize,
}

/// What a run starts from and what it does.
struct Drill {
    name: &'static str,
    /// Runs before it, each with its arguments.
    before: &'static [&'static [&'static str]],
    /// The run that is killed.
    killed: &'static [&'static str],
}

const APPLY: &[&str] = INJECTED;
const APPLY_OTHER: &[&str] = &[
    "istio-iptables",
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-i",
    "10.0.0.0/8",
    "-b",
    "80",
    "-o",
    "25",
];
const APPLY_TPROXY: &[&str] = &[
    "istio-iptables",
    "-u",
    "1337",
    "-m",
    "TPROXY",
    "-i",
    "*",
    "-b",
    "*",
];
const REMOVE: &[&str] = &["remove"];

/// Pods worked on at the same time.
const WORKERS: usize = 3;

impl Drill {
    fn run(&self) -> Result<()> {
        let net = Network::new(self.name)?;
        let pods: Vec<Pod> = (0..WORKERS)
            .map(|n| net.pod(&format!("pod-{n}")).build())
            .collect::<Result<_>>()?;

        // The two states between which there may be nothing.
        let reference = &pods[0];
        let clean = reference.traces()?;
        self.prepare(reference)?;
        let old = reference.traces()?;
        init(reference, self.killed)?;
        let new = reference.traces()?;
        init(reference, REMOVE)?;
        ensure!(reference.traces()? == clean, "removing left something");

        self.prepare(reference)?;
        let moments = moments(reference, self.killed)?;
        ensure!(
            moments.len() > 30,
            "strace saw {} calls only",
            moments.len()
        );
        init(reference, REMOVE)?;

        let next = AtomicUsize::new(0);
        let work = |pod: &Pod| -> Result<()> {
            while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.kill_at(moment, pod, &[&old, &new], &new)
                    .with_context(|| format!("{}, killed at {moment:?}", self.name))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn prepare(&self, pod: &Pod) -> Result<()> {
        self.before.iter().try_for_each(|args| init(pod, args))
    }

    fn kill_at(&self, moment: &Moment, pod: &Pod, states: &[&Traces], new: &Traces) -> Result<()> {
        let clean = pod.traces()?;
        self.prepare(pod)?;
        let inject = format!("inject={}:signal=KILL:when={}", moment.call, moment.nth);
        let killed = pod
            .command("strace")
            .args(["-f", "-o", "/dev/null", "-e", &inject])
            .arg(programs::shunt_init()?)
            .args(self.killed)
            .finish()?;
        ensure!(!killed.status.success(), "it was not killed");
        let found = pod.traces()?;
        let rules = &found.rules;
        let whole = states.iter().find(|state| state.rules == *rules);
        let whole = whole.with_context(|| format!("half of the rules are there:\n{rules}"))?;
        // Rules for TPROXY never wait for their routes.
        let missing = [
            (&whole.policies, &found.policies),
            (&whole.routes, &found.routes),
        ]
        .into_iter()
        .flat_map(|(wanted, there)| wanted.lines().filter(|line| !there.contains(line)))
        .find(|line| line.contains("fwmark") || line.contains("table 133"));
        ensure!(missing.is_none(), "rules without {missing:?}");

        init(pod, self.killed).context("the next run")?;
        ensure!(
            pod.traces()?.rules == new.rules,
            "the next run left other rules"
        );
        init(pod, REMOVE).context("removing afterwards")?;
        let after = pod.traces()?;
        ensure!(
            after == clean,
            "removing afterwards left something:\n{after:?}\ninstead of\n{clean:?}"
        );
        Ok(())
    }
}

/// Runs `shunt-init` to its end.
fn init(pod: &Pod, args: &[&str]) -> Result<()> {
    pod.command(programs::shunt_init()?)
        .args(args)
        .finish()?
        .success()?;
    Ok(())
}

/// Every system call of a run, in order.
fn moments(pod: &Pod, args: &[&str]) -> Result<Vec<Moment>> {
    let log = tempfile::NamedTempFile::new()?;
    pod.command("strace")
        .args(["-f", "-o"])
        .arg(log.path())
        .arg(programs::shunt_init()?)
        .args(args)
        .finish()?
        .success()?;
    let mut seen = HashMap::new();
    let mut moments = Vec::new();
    for line in fs::read_to_string(log.path())?.lines() {
        // "1234 sendmsg(3, ..." ; lines about signals and exits have no call.
        let Some((_, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        // strace's own start of the program is not counted among the calls it may tamper with.
        if call == "execve" || !call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let nth = seen
            .entry(call.to_owned())
            .and_modify(|count| *count += 1)
            .or_insert(1);
        moments.push(Moment {
            call: call.to_owned(),
            nth: *nth,
        });
    }
    Ok(moments)
}

#[test]
fn a_first_run_killed_at_any_system_call_leaves_all_rules_or_none() -> Result<()> {
    Drill {
        name: "apply",
        before: &[],
        killed: APPLY,
    }
    .run()
}

#[test]
fn a_repeated_run_killed_at_any_system_call_leaves_all_rules() -> Result<()> {
    Drill {
        name: "re-apply",
        before: &[APPLY],
        killed: APPLY,
    }
    .run()
}

#[test]
fn a_run_with_another_policy_killed_at_any_system_call_leaves_the_old_rules_or_the_new()
-> Result<()> {
    Drill {
        name: "replace",
        before: &[APPLY],
        killed: APPLY_OTHER,
    }
    .run()
}

#[test]
fn a_removal_killed_at_any_system_call_leaves_all_rules_or_none() -> Result<()> {
    Drill {
        name: "remove",
        before: &[APPLY],
        killed: REMOVE,
    }
    .run()
}

#[test]
fn a_run_from_redirect_to_tproxy_killed_at_any_system_call_leaves_rules_with_their_routes()
-> Result<()> {
    Drill {
        name: "to-tproxy",
        before: &[APPLY],
        killed: APPLY_TPROXY,
    }
    .run()
}

#[test]
fn a_removal_of_tproxy_killed_at_any_system_call_leaves_rules_with_their_routes() -> Result<()> {
    Drill {
        name: "from-tproxy",
        before: &[APPLY_TPROXY],
        killed: REMOVE,
    }
    .run()
}
