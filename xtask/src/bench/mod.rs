//! `cargo xtask bench`: measures Shunt beside its peers, in one run, as ratios.
//!
//! Every contestant has a network namespace of its own with an upstream in it; proxies are pinned
//! to one core, load and upstream to another. Rounds are interleaved, so that a noisy minute
//! touches all alike. The table is printed as Markdown; it and every sample go to `target/bench`,
//! and a curve where the cost of a growing number is measured.

mod budget;
mod certificates;
mod chart;
mod configuration;
mod connections;
mod contestant;
mod figures;
mod grpc;
mod http;
mod init;
mod latency;
mod namespace;
mod process;
mod requests;
mod rounds;
mod streams;
mod tcp;
mod tls;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use self::chart::Chart;
use self::rounds::Rounds;
use crate::setup::{self, Purpose};
use crate::workspace::{cargo, root, run as run_command};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// HTTP/1.1 through the sidecar: CPU per request, memory, time to ready
    Http(http::Args),
    /// Unary gRPC through the sidecar: CPU per call
    Grpc(Rounds),
    /// Requests, bytes and handshakes through mutual TLS: CPU of both ends
    Tls(Rounds),
    /// Requests at a fixed rate: what the sidecar adds to the time until an answer
    Latency(Rounds),
    /// Bytes through the sidecar: CPU per gigabyte, throughput, new connections
    Tcp(Rounds),
    /// 1 to 10,000 idle connections: memory
    Connections(Rounds),
    /// The whole process of `shunt-init`, beside iptables and nft
    Init(init::Args),
}

/// Runs a bench.
///
/// # Errors
/// When something is missing, or a contestant gives a wrong answer.
pub fn run(args: BenchArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: the benches make network namespaces; run with sudo");
    }
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("one core only: proxies and load need a core each");
    }
    setup::install(Purpose::Test)?;
    setup::install(Purpose::Bench)?;
    println!("building as it is shipped: release profile, static (minutes on a fresh tree)");
    run_command(
        cargo(&[
            "build",
            "--release",
            "--target",
            TARGET,
            "--package=shunt-bench",
            "--package=shunt-agent",
            "--package=shunt-init",
        ])
        .env("RUSTFLAGS", STATIC),
    )?;
    match args.what {
        What::Http(args) => http::run(&args),
        What::Grpc(rounds) => grpc::run(&rounds),
        What::Tls(rounds) => tls::run(&rounds),
        What::Latency(rounds) => latency::run(&rounds),
        What::Tcp(rounds) => tcp::run(&rounds),
        What::Connections(rounds) => connections::run(&rounds),
        What::Init(args) => init::run(&args),
    }
}

/// Named, so that build scripts and macros are built for the host as usual: they cannot be static.
const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// Static, as in the images. getrandom would look for its system call with the dynamic linker.
const STATIC: &str = "-C force-frame-pointers=yes -C target-feature=+crt-static \
                      --cfg getrandom_backend=\"linux_getrandom\"";

/// A program of this workspace, as it was built above.
fn program(name: &str) -> PathBuf {
    target_dir().join(TARGET).join("release").join(name)
}

/// The build folder: absolute, because programs are started from elsewhere.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where configurations, logs and results of a bench go.
fn folder() -> Result<PathBuf> {
    let folder = target_dir().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("finding {}", folder.display()))
}

/// Prints a table and writes it beside its samples.
fn publish(name: &str, table: &str, samples: &impl Serialize) -> Result<()> {
    let folder = folder()?;
    let json = serde_json::to_string_pretty(samples).context("writing the samples as JSON")?;
    for (ending, text) in [("md", table), ("json", &json)] {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!(
        "\n{table}\nsamples: {}",
        folder.join(name).with_extension("json").display()
    );
    Ok(())
}

/// Draws a curve beside its table.
fn draw(name: &str, chart: &Chart) -> Result<()> {
    let path = folder()?.join(format!("{name}.svg"));
    std::fs::write(&path, chart.svg()).with_context(|| format!("writing {}", path.display()))?;
    println!("curve: {}", path.display());
    Ok(())
}
