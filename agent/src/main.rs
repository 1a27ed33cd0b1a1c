//! `shunt-agent`: wiring only. Every step lives in a library.

mod logging;
mod sidecar;

use clap::{Parser, Subcommand};
use shunt_abi::SCHEMA_VERSION;
use std::process::ExitCode;
use std::sync::LazyLock;

/// The data plane of a pod.
#[derive(Debug, Parser)]
#[command(name = "shunt-agent", version = VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy of one pod: takes captured connections and routes them.
    Sidecar(sidecar::Args),
}

/// Version, commit, and version of what Shunt writes into the kernel.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("SHUNT_COMMIT"));
    format!("{version} (commit {commit}, schema {SCHEMA_VERSION})")
});

fn main() -> ExitCode {
    if let Some(code) = shunt_xds::convert_child() {
        return code;
    }
    match Cli::try_parse() {
        Ok(Cli {
            command: Command::Sidecar(args),
        }) => sidecar::run(&args),
        Err(error) => {
            // Help and version are asked for, and no error.
            let code = if error.use_stderr() {
                sidecar::exit::USAGE
            } else {
                0
            };
            let _closed = error.print();
            ExitCode::from(code)
        }
    }
}
