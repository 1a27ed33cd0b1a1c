//! `cargo xtask bench init`: the whole process of `shunt-init` beside the programs that write
//! equivalent rules, what many excluded blocks cost, and what the rules cost a connection. Every
//! run has a fresh namespace that looks like a pod's.

mod connections;
mod rules;
mod way;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::connections::Cost;
use self::rules::Policy;
use self::way::{Measured, Run, Way, named};
use super::budget::{self, Budget};
use super::chart::{Chart, Curve};
use super::figures::table;
use super::{draw, program, publish};

/// Arguments of `cargo xtask bench init`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Interleaved rounds; the median is reported
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=999))]
    rounds: u32,
}

const SHUNT: &str = "shunt-init";
const NFT: &str = "nft -f, the same rules";
const LEGACY: &str = "iptables-legacy-restore, v4 + v6";

const MIXED: &str = "shunt-init, 10000 excludes, blocks among them";

/// Whose curves are drawn.
const COMPARED: [&str; 3] = [SHUNT, "nft -f", "iptables-legacy-restore"];

/// How many addresses are excluded in the curve.
const CURVE: [u32; 4] = [10, 100, 1_000, 10_000];

#[derive(Serialize)]
struct Results {
    process: Vec<Measured>,
    curve: Vec<Measured>,
    connections: Vec<Cost>,
}

/// Measures everything, and publishes the tables and the curve.
///
/// # Errors
/// When a program fails to write its rules, or a budget is missed.
pub(super) fn run(args: &Args) -> Result<()> {
    let results = Results {
        process: way::measure(&ways()?, args.rounds)?,
        curve: way::measure(&curve()?, args.rounds.div_ceil(3))?,
        connections: connections::measure(args.rounds.div_ceil(3))?,
    };
    let budgets = budgets(&results)?;
    let text = [
        shown(&results.process)?,
        shown(&results.curve)?,
        connections::shown(&results.connections),
        format!("binary: {} kB", binary_size()? / 1000),
        budget::shown(&budgets),
    ]
    .join("\n\n");
    publish("init", &text, &results)?;
    draw("init", &chart(&results.curve)?)?;
    budget::check(&budgets)
}

fn ways() -> Result<Vec<Way>> {
    let policy = Policy::with_excludes(0);
    let istio = shunt_tests::programs::istio_iptables()?;
    Ok(vec![
        Way::new(SHUNT, vec![policy.shunt()]),
        Way {
            before: vec![policy.shunt()],
            ..Way::new("shunt-init, again", vec![policy.shunt()])
        },
        Way::new(NFT, vec![policy.nft()?]),
        // What no program can be cheaper than on this machine.
        Way::new("true, an empty program", vec![Run::new("true", "--")]),
        Way::new(LEGACY, policy.restore("legacy")?),
        Way::new("iptables-nft-restore, v4 + v6", policy.restore("nft")?),
        Way::new("istio-iptables (IPv4 alone)", vec![policy.istio(istio)]),
    ])
}

fn curve() -> Result<Vec<Way>> {
    let mut ways = vec![
        Way::new(SHUNT, vec![Policy::with_excludes(0).shunt()]),
        Way::new(LEGACY, Policy::with_excludes(0).restore("legacy")?),
    ];
    for excludes in CURVE {
        let policy = Policy::with_excludes(excludes);
        for (name, runs) in COMPARED.into_iter().zip([
            vec![policy.shunt()],
            vec![policy.nft()?],
            policy.restore("legacy")?,
        ]) {
            ways.push(Way::new(curve_name(name, excludes), runs));
        }
    }
    ways.push(Way::new(
        MIXED,
        vec![Policy::with_mixed_excludes(10_000).shunt()],
    ));
    Ok(ways)
}

fn curve_name(name: &str, excludes: u32) -> String {
    format!("{name}, {excludes} excludes")
}

fn chart(curve: &[Measured]) -> Result<Chart> {
    let curve_of = |name: &str| -> Result<Curve> {
        let way = |excludes| named(curve, &curve_name(name, excludes));
        let ways: Vec<_> = CURVE.into_iter().map(way).collect::<Result<_>>()?;
        let times = ways.into_iter().map(|way| &way.wall_us);
        Ok(Curve::new(name, CURVE.into_iter().zip(times), 1e3))
    };
    Ok(Chart {
        title: "Wall time of the whole process".into(),
        labels: ["excluded addresses".into(), "ms".into()],
        curves: COMPARED.into_iter().map(curve_of).collect::<Result<_>>()?,
    })
}

fn binary_size() -> Result<u64> {
    let path = program("shunt-init");
    let metadata = std::fs::metadata(&path).with_context(|| format!("reading {path:?}"))?;
    Ok(metadata.len())
}

fn budgets(results: &Results) -> Result<Vec<Budget>> {
    let shunt = named(&results.process, SHUNT)?;
    let over = |name: &str| -> Result<f64> {
        let other = named(&results.process, name)?;
        Ok(shunt.wall_us.ratio_to(&other.wall_us).median())
    };
    let many = named(&results.curve, &curve_name(SHUNT, 10_000))?;
    let none = named(&results.curve, SHUNT)?;
    let mut budgets = vec![
        Budget {
            what: "whole process, x iptables-legacy-restore",
            at_most: 0.35,
            measured: over(LEGACY)?,
        },
        Budget {
            what: "whole process, x nft -f",
            at_most: 0.35,
            measured: over(NFT)?,
        },
        Budget {
            what: "RSS, MB",
            at_most: 6.0,
            measured: shunt.max_rss_kb.median() * 1.024 / 1e3,
        },
        Budget {
            what: "10,000 excludes, x none",
            at_most: 5.0,
            measured: many.wall_us.ratio_to(&none.wall_us).median(),
        },
    ];
    for (excludes, ratio) in connections::ratios(&results.connections) {
        budgets.push(Budget {
            what: match excludes {
                10 => "a connection with 10 excludes, x iptables-legacy",
                _ => "a connection with 1,000 excludes, x iptables-legacy",
            },
            at_most: 1.0,
            measured: ratio.median(),
        });
    }
    Ok(budgets)
}

fn shown(measured: &[Measured]) -> Result<String> {
    let legacy = named(measured, LEGACY)?;
    let head = ["", "wall ms", "x iptables-legacy", "CPU ms", "RSS MB"];
    let rows: Vec<_> = measured
        .iter()
        .map(|way| {
            vec![
                way.name.clone(),
                way.wall_us.shown(1e3, 2),
                way.wall_us.ratio_to(&legacy.wall_us).shown(1.0, 2),
                way.cpu_us.shown(1e3, 2),
                way.max_rss_kb.shown(1e3 / 1.024, 1),
            ]
        })
        .collect();
    Ok(table(&head, &rows))
}
