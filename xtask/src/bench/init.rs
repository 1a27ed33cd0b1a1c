//! `cargo xtask bench init`: the whole process of `shunt-init`, beside the programs that write
//! equivalent rules. Every run has a fresh namespace that looks like a pod's.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::budget::{self, Budget};
use super::figures::{Samples, table};
use super::namespace::Namespace;
use super::{folder, program, publish};
use crate::workspace::capture;

/// Arguments of `cargo xtask bench init`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Interleaved rounds; the median is reported
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=999))]
    rounds: u32,
}

/// The core that everything runs on.
const CORE: usize = 0;

/// What Istio's injector passes.
const ARGUMENTS: &str =
    "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020";

/// One way of writing the rules: processes run one after the other, each with its input.
struct Way {
    name: &'static str,
    /// Run before, not measured.
    before: Vec<Run>,
    measured: Vec<Run>,
}

#[derive(Clone)]
struct Run {
    program: PathBuf,
    arguments: &'static str,
    input: Option<PathBuf>,
}

/// What `shunt-bench once` prints.
#[derive(Deserialize)]
struct Once {
    wall_us: f64,
    cpu_us: f64,
    max_rss_kb: f64,
}

/// All measurements of one way.
#[derive(Default, Serialize)]
struct Measured {
    name: &'static str,
    wall_us: Samples,
    cpu_us: Samples,
    max_rss_kb: Samples,
}

/// Measures every way and publishes the table.
///
/// # Errors
/// When one of them fails to write its rules.
pub(super) fn run(args: &Args) -> Result<()> {
    let ways = ways()?;
    let mut measured: Vec<_> = ways
        .iter()
        .map(|way| Measured {
            name: way.name,
            ..Measured::default()
        })
        .collect();
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        for (way, measured) in ways.iter().zip(&mut measured) {
            let used = once(way).with_context(|| format!("measuring {}", way.name))?;
            measured.wall_us.push(used.wall_us);
            measured.cpu_us.push(used.cpu_us);
            measured.max_rss_kb.push(used.max_rss_kb);
        }
    }
    let budgets = budgets(&measured)?;
    let text = format!("{}\n{}", shown(&measured)?, budget::shown(&budgets));
    publish("init", &text, &measured)?;
    budget::check(&budgets)
}

fn ways() -> Result<Vec<Way>> {
    let file = |name: &str, text: &str| {
        let path = folder()?.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let rules = |source: &str, loopback: &str| {
        include_str!("data/istio.rules")
            .replace("@INBOUND_SOURCE@", source)
            .replace("@LOOPBACK@", loopback)
    };
    let v4 = file("init-v4.rules", &rules("127.0.0.6/32", "127.0.0.1/32"))?;
    let v6 = file("init-v6.rules", &rules("::6/128", "::1/128"))?;
    // The very rules of `shunt-init`, as it prints them.
    let dry_run = pod()?.run(|| capture(shunt_init().arg("--dry-run")))?;
    let nft = file("init.nft", &dry_run)?;

    let restore = |program: &str, input: &PathBuf| Run {
        program: program.into(),
        arguments: "--noflush",
        input: Some(input.clone()),
    };
    let init = Run {
        program: program("shunt-init"),
        arguments: ARGUMENTS,
        input: None,
    };
    Ok(vec![
        Way {
            name: SHUNT,
            before: vec![],
            measured: vec![init.clone()],
        },
        Way {
            name: "shunt-init, again",
            before: vec![init.clone()],
            measured: vec![init],
        },
        Way {
            name: "nft -f, the same rules",
            before: vec![],
            measured: vec![Run {
                program: "nft".into(),
                arguments: "-f -",
                input: Some(nft),
            }],
        },
        // What no program can be cheaper than on this machine.
        Way {
            name: "true, an empty program",
            before: vec![],
            measured: vec![Run {
                program: "true".into(),
                arguments: "--",
                input: None,
            }],
        },
        Way {
            name: LEGACY,
            before: vec![],
            measured: vec![
                restore("iptables-legacy-restore", &v4),
                restore("ip6tables-legacy-restore", &v6),
            ],
        },
        Way {
            name: "iptables-nft-restore, v4 + v6",
            before: vec![],
            measured: vec![
                restore("iptables-nft-restore", &v4),
                restore("ip6tables-nft-restore", &v6),
            ],
        },
    ])
}

const SHUNT: &str = "shunt-init";
const LEGACY: &str = "iptables-legacy-restore, v4 + v6";

fn shunt_init() -> Command {
    let mut command = Command::new(program("shunt-init"));
    command.args(ARGUMENTS.split(' '));
    command
}

/// A pod with both families.
fn pod() -> Result<Namespace> {
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
            measure(run)?;
        }
        let mut sum = Once {
            wall_us: 0.0,
            cpu_us: 0.0,
            max_rss_kb: 0.0,
        };
        for run in &way.measured {
            let used = measure(run)?;
            sum.wall_us += used.wall_us;
            sum.cpu_us += used.cpu_us;
            sum.max_rss_kb = sum.max_rss_kb.max(used.max_rss_kb);
        }
        Ok(sum)
    })
}

fn measure(run: &Run) -> Result<Once> {
    let mut command = Command::new(program("shunt-bench"));
    command.arg("once");
    if let Some(input) = &run.input {
        command.args([OsStr::new("--input"), input.as_os_str()]);
    }
    command
        .arg("--")
        .arg(&run.program)
        .args(run.arguments.split(' '));
    let text = capture(&mut command)?;
    serde_json::from_str(&text).context("reading what the run used")
}

fn named<'a>(measured: &'a [Measured], name: &str) -> Result<&'a Measured> {
    let found = measured.iter().find(|way| way.name == name);
    found.with_context(|| format!("{name} is not among the ways"))
}

fn budgets(measured: &[Measured]) -> Result<Vec<Budget>> {
    let shunt = named(measured, SHUNT)?;
    let legacy = named(measured, LEGACY)?;
    Ok(vec![
        Budget {
            what: "whole process, x iptables-legacy-restore",
            at_most: 0.35,
            measured: shunt.wall_us.ratio_to(&legacy.wall_us).median(),
        },
        Budget {
            what: "RSS, MB",
            at_most: 6.0,
            measured: shunt.max_rss_kb.median() * 1.024 / 1e3,
        },
    ])
}

fn shown(measured: &[Measured]) -> Result<String> {
    let legacy = named(measured, LEGACY)?;
    let head = ["", "wall ms", "x iptables-legacy", "CPU ms", "RSS MB"];
    let rows: Vec<_> = measured
        .iter()
        .map(|way| {
            vec![
                way.name.to_owned(),
                way.wall_us.shown(1e3, 2),
                way.wall_us.ratio_to(&legacy.wall_us).shown(1.0, 2),
                way.cpu_us.shown(1e3, 2),
                way.max_rss_kb.shown(1e3 / 1.024, 1),
            ]
        })
        .collect();
    Ok(table(&head, &rows))
}
