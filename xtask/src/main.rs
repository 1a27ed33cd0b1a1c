//! All automation of the project: `cargo xtask setup | test | ci | demo | cluster | soak | bench`.
//!
//! Nothing here is shipped. What a person or a build machine does with this repository is a verb
//! of this program, so that there is one way of doing it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "this program talks to a person on a terminal"
)]

pub mod bench;
pub mod checks;
pub mod cluster;
pub mod demo;
pub mod preflight;
pub mod report;
pub mod setup;
pub mod soak;
pub mod test;
pub mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// All automation of Shunt.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the tests need; quick when all is there
    Setup(setup::SetupArgs),
    /// Run everything: static checks, unit, in-process, namespace and cluster tests (root)
    Test,
    /// Run the static checks alone: format, clippy, dependency arrows, sizes, docs, licences
    Ci,
    /// Show the main job in namespaces: capture, routing, counting (root)
    Demo(demo::DemoArgs),
    /// Start or end a real Kubernetes of one node to look around in (root)
    Cluster(cluster::ClusterArgs),
    /// Try random cases for as long as you like (root)
    Soak(soak::SoakArgs),
    /// Measure against Envoy, HAProxy, nginx and iptables (root)
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(args) => setup::verb(&args),
        Verb::Test => test::everything(),
        Verb::Ci => test::static_checks(),
        Verb::Demo(args) => demo::run(args),
        Verb::Cluster(args) => cluster::verb(&args),
        Verb::Soak(args) => soak::verb(&args),
        Verb::Bench(args) => bench::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
