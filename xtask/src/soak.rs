//! `cargo xtask soak`: random cases for as long as a person likes.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use shunt_tests::lab::equivalence::{Engine, Settings, run};

/// What to try.
#[derive(Args)]
pub struct SoakArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Redirect rules: every backend and the evaluator must decide alike (root)
    Redirect {
        /// Number of random policies
        #[arg(long, default_value_t = 2000)]
        policies: u64,
        /// The first case; it and the ones after it are the same each time; random if not given
        #[arg(long)]
        seed: Option<u64>,
        /// Flows for each policy
        #[arg(long, default_value_t = 200)]
        flows: usize,
    },
}

/// Runs it.
///
/// # Errors
/// When a case fails; the error says how to see it again.
pub fn verb(args: &SoakArgs) -> Result<()> {
    match args.what {
        What::Redirect {
            policies,
            seed,
            flows,
        } => redirect(policies, seed, flows),
    }
}

fn redirect(policies: u64, seed: Option<u64>, flows: usize) -> Result<()> {
    let seed = match seed {
        Some(seed) => seed,
        // A number that a person can type again.
        None => u64::from(std::process::id()) * 1_000_000,
    };
    println!("cases from seed {seed}");
    let settings = Settings {
        policies,
        flows,
        seed,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        engines: Engine::ALL.to_vec(),
        shrinking: 100,
    };
    let totals = run(&settings, |totals| {
        print!("\r{totals}\x1b[K");
        // Progress that cannot be shown is no failure of the rules.
        let _shown = std::io::stdout().flush();
    });
    println!();
    let totals = totals.context("not all decide alike")?;
    println!("all agree: {totals}");
    Ok(())
}
