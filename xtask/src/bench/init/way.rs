//! One way of writing rules: processes run one after the other in a fresh pod, and what they use.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bench::figures::Samples;
use crate::bench::namespace::Namespace;
use crate::bench::program;
use crate::workspace::capture;

/// The core that everything runs on.
pub(super) const CORE: usize = 0;

/// Processes run one after the other, each with its input.
pub(super) struct Way {
    pub(super) name: String,
    /// Run before, not measured.
    pub(super) before: Vec<Run>,
    pub(super) measured: Vec<Run>,
}

impl Way {
    pub(super) fn new(name: impl Into<String>, measured: Vec<Run>) -> Self {
        Self {
            name: name.into(),
            before: Vec::new(),
            measured,
        }
    }
}

#[derive(Clone)]
pub(super) struct Run {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) input: Option<PathBuf>,
}

impl Run {
    pub(super) fn new(program: impl Into<PathBuf>, arguments: &str) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.split(' ').map(OsString::from).collect(),
            input: None,
        }
    }

    pub(super) fn with_input(mut self, input: PathBuf) -> Self {
        self.input = Some(input);
        self
    }
}

/// What `shunt-bench once` prints.
#[derive(Deserialize)]
pub(super) struct Once {
    wall_us: f64,
    cpu_us: f64,
    max_rss_kb: f64,
}

/// All measurements of one way.
#[derive(Default, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) wall_us: Samples,
    pub(super) cpu_us: Samples,
    pub(super) max_rss_kb: Samples,
}

/// Measures all ways, round by round.
///
/// # Errors
/// When one of them fails to write its rules.
pub(super) fn measure(ways: &[Way], rounds: u32) -> Result<Vec<Measured>> {
    let mut measured: Vec<_> = ways
        .iter()
        .map(|way| Measured {
            name: way.name.clone(),
            ..Measured::default()
        })
        .collect();
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for (way, measured) in ways.iter().zip(&mut measured) {
            let used = once(way).with_context(|| format!("measuring {}", way.name))?;
            measured.wall_us.push(used.wall_us);
            measured.cpu_us.push(used.cpu_us);
            measured.max_rss_kb.push(used.max_rss_kb);
        }
    }
    Ok(measured)
}

/// A pod with both families.
pub(super) fn pod() -> Result<Namespace> {
    let pod = Namespace::pod()?;
    pod.run(|| {
        let line = "-6 address add fd00:10:244::2/64 dev eth0 nodad";
        capture(Command::new("ip").args(line.split(' ')))
    })?;
    Ok(pod)
}

/// Runs one way in a fresh pod; its processes' use summed up, memory the highest of them.
fn once(way: &Way) -> Result<Once> {
    pod()?.run_on(CORE, || {
        for run in &way.before {
            used_by(run)?;
        }
        let mut sum = Once {
            wall_us: 0.0,
            cpu_us: 0.0,
            max_rss_kb: 0.0,
        };
        for run in &way.measured {
            let used = used_by(run)?;
            sum.wall_us += used.wall_us;
            sum.cpu_us += used.cpu_us;
            sum.max_rss_kb = sum.max_rss_kb.max(used.max_rss_kb);
        }
        Ok(sum)
    })
}

/// Runs a program in the calling thread's namespace.
///
/// # Errors
/// When it fails.
pub(super) fn used_by(run: &Run) -> Result<Once> {
    let mut command = Command::new(program("shunt-bench"));
    command.arg("once");
    if let Some(input) = &run.input {
        command.args([OsStr::new("--input"), input.as_os_str()]);
    }
    command.arg("--").arg(&run.program).args(&run.arguments);
    let text = capture(&mut command)?;
    serde_json::from_str(&text).context("reading what the run used")
}

/// The measurements of the way of this name.
///
/// # Errors
/// When there is none.
pub(super) fn named<'a>(measured: &'a [Measured], name: &str) -> Result<&'a Measured> {
    let found = measured.iter().find(|way| way.name == name);
    found.with_context(|| format!("{name} is not among the ways"))
}
