//! What one run of a program uses: wall time, CPU, memory at its height.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Serialize;

/// Arguments of `once`.
#[derive(clap::Args)]
pub struct Args {
    /// A file to give to the program as its standard input
    #[arg(long)]
    input: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What the program used.
#[derive(Serialize)]
struct Outcome {
    /// From before the start to after the end.
    wall_us: u128,
    /// User and system time.
    cpu_us: i64,
    /// The kernel counts the memory of the process that forked until exec: what a program shows
    /// here is never less than this small program's own.
    max_rss_kb: i64,
}

/// Runs the program and prints what it used.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(args: &Args) -> Result<()> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no program given");
    };
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    if let Some(path) = &args.input {
        let input = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        command.stdin(input);
    }
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    let wall = start.elapsed();
    if !status.success() {
        bail!("{} failed: {status}", program.display());
    }
    // The only child there ever was.
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking what the child used")?;
    let outcome = Outcome {
        wall_us: wall.as_micros(),
        cpu_us: used.user_time().num_microseconds() + used.system_time().num_microseconds(),
        max_rss_kb: used.max_rss(),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
