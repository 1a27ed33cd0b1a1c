//! `shunt-agent`: wiring only. Every step lives in a library.

mod exit;
mod logging;
mod sidecar;

use clap::{Parser, Subcommand};
use exit::Exit;
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

/// Arenas of glibc's allocator. It would make one for each thread, and what one thread frees
/// another could not use.
const MAX_ARENAS: nix::libc::c_int = 2;

fn main() -> ExitCode {
    // SAFETY: mallopt(3) takes two integers and changes only the allocator's own settings; no
    // other thread runs yet.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, MAX_ARENAS) };
    if shunt_xds::is_convert_child() {
        return shunt_xds::convert_main();
    }
    match Cli::try_parse() {
        Ok(Cli {
            command: Command::Sidecar(args),
        }) => sidecar::run(&args),
        Err(error) => {
            // Help and version are asked for, and no error.
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            let _closed = error.print();
            code.into()
        }
    }
}
