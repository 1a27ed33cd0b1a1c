//! A thousand changes of configuration under load, wrong ones among them: each is seen, and nobody
//! is disturbed.

mod files;
mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use files::{Bad, CHANGING, Files, GONE, ONE, Part, STEADY, VISITING, Version};
use shunt_tests::expect::eventually::poll;
use shunt_tests::prelude::*;
use traffic::{Controls, InFlight};

/// How often all steps are done: a thousand changes that a client sees, and the wrong ones.
const ROUNDS: usize = 143;
const CHANGES: usize = ROUNDS * STEPS.len();
/// Changes before anything is measured.
const WARM_UP: usize = 5 * STEPS.len();
/// Threads that send requests all the time.
const LOAD: usize = 2;

/// What is done, over and over.
#[derive(Clone, Copy)]
enum Step {
    Change(Part),
    /// A file that is wrong, each time another one.
    Bad,
}

/// The visiting listener comes early and leaves last.
const STEPS: [Step; 8] = [
    Step::Change(Part::Routes),
    Step::Change(Part::Visiting),
    Step::Change(Part::Endpoints),
    Step::Change(Part::Cluster),
    Step::Bad,
    Step::Change(Part::Chain),
    Step::Change(Part::Identity),
    Step::Change(Part::Visiting),
];

/// A client that looks what is served, as fast as it can.
struct Observer<'a> {
    pod: &'a Pod,
    kept: HttpClient,
    /// How long each look took.
    looks: Vec<Duration>,
}

impl<'a> Observer<'a> {
    fn new(pod: &'a Pod) -> Result<Self> {
        Ok(Self {
            pod,
            kept: pod.as_user(User::APP).http(STEADY)?,
            looks: Vec::new(),
        })
    }

    /// What is served now.
    fn look(&mut self, part: Part) -> Result<String> {
        let begun = Instant::now();
        let path = match part {
            Part::Routes => "/routes",
            Part::Endpoints => "/endpoints",
            Part::Cluster => "/cluster",
            Part::Identity => "/identity",
            Part::Chain => return self.new_connection(CHANGING),
            Part::Visiting => match self.new_connection(VISITING) {
                Err(error) if traffic::is_gone(&error) => return Ok(GONE.to_owned()),
                other => return other,
            },
        };
        let told = traffic::text(&mut self.kept, path)?.text();
        self.looks.push(begun.elapsed());
        Ok(told)
    }

    fn new_connection(&self, to: std::net::SocketAddr) -> Result<String> {
        let mut http = self.pod.as_user(User::APP).http(to)?;
        Ok(traffic::text(&mut http, "/")?.text())
    }

    /// Looks until a change is seen, and sees nothing but what was before; returns how long after
    /// the change the answer was there.
    fn see(&mut self, part: Part, moved: Instant, was: &str, is: &str) -> Result<Duration> {
        loop {
            let told = self.look(part)?;
            let after = moved.elapsed();
            if told == is {
                return Ok(after);
            }
            // The two ends of a connection take a new identity one after the other.
            ensure!(told == was || part == Part::Identity, "{told:?} is served");
            ensure!(after < DEADLINE, "{was:?} is still served, not {is:?}");
        }
    }

    /// All is served as it stands there.
    fn expect(&mut self, version: &Version) -> Result<()> {
        for part in Part::ALL {
            let (told, wanted) = (self.look(part)?, part.told(version));
            ensure!(
                told == wanted,
                "{part:?}: {told:?} is served, not {wanted:?}"
            );
        }
        Ok(())
    }
}

/// All changes, and what came of them.
struct Changes<'a> {
    pod: &'a Pod,
    sidecar: &'a Sidecar,
    files: &'a Files,
    controls: &'a Controls,
    version: Version,
    /// How often each counter of what is wrong was to be raised.
    refused: BTreeMap<&'static str, u64>,
    /// How long each change took to be seen.
    seen: Vec<Duration>,
    /// What the sidecar held after the warm-up.
    before: (u64, usize),
}

impl Changes<'_> {
    fn make_all(&mut self, observer: &mut Observer<'_>) -> Result<()> {
        for number in 0..CHANGES {
            if number == WARM_UP {
                self.before = holds(self.sidecar)?;
                observer.looks.clear();
            }
            let done = match STEPS[number % STEPS.len()] {
                Step::Change(part) => self.change(part, number, observer),
                Step::Bad => self.put_bad(number, observer),
            };
            done.with_context(|| format!("change {number}"))?;
        }
        Ok(())
    }

    fn change(&mut self, part: Part, number: usize, observer: &mut Observer<'_>) -> Result<()> {
        let leaves = part == Part::Visiting && self.version.visiting.is_some();
        let in_flight = if leaves {
            Some(InFlight::begin(self.pod, number)?)
        } else {
            None
        };
        let was = part.told(&self.version);
        let moved = self.files.change(part, number, &mut self.version)?;
        let is = part.told(&self.version);
        self.seen.push(observer.see(part, moved, &was, &is)?);
        if let Some(in_flight) = in_flight {
            in_flight.end(self.controls)?;
        }
        Ok(())
    }

    fn put_bad(&mut self, number: usize, observer: &mut Observer<'_>) -> Result<()> {
        let bad = Bad::ALL[number / STEPS.len() % Bad::ALL.len()];
        let family = bad.counted();
        let wanted = self.refused.entry(family).or_default();
        *wanted += 1;
        let wanted = *wanted;
        self.files.put_bad(bad, number, &self.version)?;
        let count = || self.pod.metrics().map(|metrics| metrics.count(family, &[]));
        let mut counted = 0;
        let refused = poll(DEADLINE, || {
            counted = count().ok()?;
            (counted >= wanted).then_some(())
        });
        refused.with_context(|| format!("{bad:?}: {family} is {counted}, not {wanted}"))?;
        observer
            .expect(&self.version)
            .with_context(|| format!("after it was refused: {bad:?}"))
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let joined = thread.join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the sidecar holds, in KiB, and how many files it has open.
fn holds(sidecar: &Sidecar) -> Result<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid()))?;
    let rss = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .context("no VmRSS")?;
    Ok((rss, sidecar.process.open_files()?))
}

/// Median, 99th percentile and greatest.
fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100);
    let at = |percent| at(percent).copied().unwrap_or_default();
    format!("median {:?}, 99 % {:?}, all {:?}", at(50), at(99), at(100))
}

/// The changes, with all traffic across them.
fn run(changes: &mut Changes<'_>) -> Result<()> {
    let (pod, controls) = (changes.pod, changes.controls);
    let mut observer = Observer::new(pod)?;
    thread::scope(|scope| -> Result<()> {
        let stream = scope.spawn(|| traffic::read_stream(pod));
        let pinging = scope.spawn(|| traffic::ping(traffic::tcp_stream(pod)?, controls));
        let upgraded = scope.spawn(|| traffic::ping(traffic::web_socket(pod, STEADY)?, controls));
        let visits = scope.spawn(|| traffic::visit(pod, controls));
        let loads: Vec<_> = (0..LOAD)
            .map(|_| scope.spawn(|| traffic::load(pod, controls)))
            .collect();
        let changed = changes.make_all(&mut observer);
        controls.stop.store(true, Ordering::SeqCst);
        for thread in loads {
            joined(thread).context("a keep-alive connection")?;
        }
        joined(visits).context("a connection of the visiting listener")?;
        let lines = joined(stream).context("the streaming response")?;
        let pings = joined(pinging).context("the TCP stream")?;
        let frames = joined(upgraded).context("the WebSocket")?;
        changed?;
        eprintln!(
            "{lines} lines of one response, {pings} round trips of one TCP stream, {frames} of one \
             WebSocket"
        );
        ensure!(
            lines > 100 && pings > 100 && frames > 100,
            "{lines} lines, {pings} and {frames} round trips are no load"
        );
        Ok(())
    })?;
    let seen = changes.seen.len();
    eprintln!(
        "{seen} changes, seen after: {}",
        quantiles(&mut changes.seen)
    );
    eprintln!("{} wrong ones, refused", CHANGES - seen);
    eprintln!(
        "looks of one round trip: {}",
        quantiles(&mut observer.looks)
    );
    Ok(())
}

#[test]
fn a_thousand_changes_under_load_are_seen_and_disturb_nobody() -> Result<()> {
    let net = Network::new("reload")?;
    let pod = net.pod("pod").build()?;
    let controls = Arc::new(Controls::default());
    let _applications = traffic::applications(&pod, &controls)?;
    let version = Version {
        routes: CHANGES,
        endpoints: ONE,
        cluster: ONE,
        chain: CHANGES,
        visiting: None,
        identity: CHANGES,
    };
    let files = Files::new(&version)?;
    // Longer than any client may be kept from a connection that drains; all is over in the end.
    let sidecar = pod.sidecar_under(&files.bootstrap(), |command| {
        command.args(["--concurrency", "2", "--drain-time-s", "30"])
    })?;
    let mut changes = Changes {
        pod: &pod,
        sidecar: &sidecar,
        files: &files,
        controls: &controls,
        version,
        refused: BTreeMap::new(),
        seen: Vec::with_capacity(CHANGES),
        before: (0, 0),
    };
    run(&mut changes).with_context(|| said(&sidecar))?;
    let Changes {
        before, refused, ..
    } = changes;
    let answered = controls.answered.load(Ordering::SeqCst);
    ensure!(
        answered > 2 * CHANGES as u64,
        "{answered} requests are no load"
    );
    let visits = controls.visits.load(Ordering::SeqCst);
    let times = ROUNDS as u64;
    ensure!(visits > times / 2, "{visits} visits of {times}");
    eprintln!("{answered} requests besides, and {visits} visits");

    // Every change was taken, none but the wrong ones was refused, each is counted where it belongs.
    let metrics = pod.metrics()?;
    let refused = |bad: Bad| refused.get(bad.counted()).copied().unwrap_or_default();
    for (family, wanted) in [
        ("envoy_http_rds_update_success", times + 1),
        ("envoy_cluster_update_success", times + 1),
        ("envoy_cluster_manager_cds_update_success", times + 1),
        ("envoy_listener_manager_lds_update_success", 3 * times + 1),
        // Of a file with two secrets; the one that is right is taken where the other is not.
        (
            "envoy_sds_update_success",
            2 * (times + 1) + refused(Bad::Secret),
        ),
        ("envoy_listener_manager_listener_modified", times),
        ("envoy_listener_manager_listener_added", 5 + times),
        ("envoy_listener_manager_listener_removed", times),
        ("envoy_cluster_ssl_connection_error", 0),
        ("envoy_listener_ssl_connection_error", 0),
        ("envoy_http_downstream_cx_protocol_error", 0),
    ] {
        assert_eq!(metrics.count(family, &[]), wanted, "{family}");
    }
    for bad in Bad::ALL {
        let family = bad.counted();
        assert_eq!(metrics.count(family, &[]), refused(bad), "{family}");
    }

    // What it took for a version goes with the version.
    let mut after = before;
    let returned = poll(DEADLINE, || {
        after = holds(&sidecar).ok()?;
        (after.1 <= before.1 && after.0 <= before.0 + 4096).then_some(())
    });
    eprintln!("KiB and files: {before:?} after {WARM_UP} changes, {after:?} in the end");
    returned.with_context(|| format!("it held {before:?} (KiB, files) and holds {after:?}"))?;
    Ok(())
}

/// The end of what the sidecar said.
fn said(sidecar: &Sidecar) -> String {
    let lines = sidecar.process.stderr().lines();
    let last = lines.len().saturating_sub(20);
    format!("the sidecar said last:\n{}", lines[last..].join("\n"))
}
