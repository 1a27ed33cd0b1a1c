//! The cluster's own side: what the program `shunt-test-node` does.
//!
//! Two processes. The *guard* lives in the machine's namespaces; it makes the folder and the
//! cgroups, forwards a port of the machine's loopback to the API server, and takes everything away
//! when it is told to, or when whoever started it is gone. The *init* is process 1 of a mount,
//! process and network namespace of its own; it starts the parts, and when it ends the kernel
//! ends every process and container with it.

pub(super) mod cgroup;
mod config;
mod forward;
mod guard;
mod init;
mod mounts;
mod parts;

use std::ffi::OsString;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

/// The node's name.
pub(super) const NODE: &str = "node1";
/// The node's address, reached by its pods.
pub(super) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The port of the API server.
const API: u16 = 6443;
/// The address that Kubernetes gives its own API as a service.
const SERVICE_API: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const POD_CIDR: &str = "10.244.0.0/24";

/// What a guard says on its standard output, a line each. Anything else is why it failed.
pub(super) mod say {
    /// Followed by the folder.
    pub(in crate::cluster) const HOME: &str = "home ";
    /// Followed by what is being done.
    pub(in crate::cluster) const STEP: &str = "step ";
    /// Pods can be created.
    pub(in crate::cluster) const READY: &str = "ready";
}

/// How the guard is started: `shunt-test-node guard <kind> <keep|rope> <pause program>`.
pub(super) mod word {
    pub(in crate::cluster) const GUARD: &str = "guard";
    pub(super) const INIT: &str = "init";
    /// The cluster stays until the guard gets SIGTERM.
    pub(in crate::cluster) const KEEP: &str = "keep";
    /// The cluster stays until the guard's standard input ends, too.
    pub(in crate::cluster) const ROPE: &str = "rope";
}

/// Is a guard or an init until its end.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(&args.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started the guard reads its standard output up to READY, and no further.
            let words = format!("{error:#}\n");
            if std::io::stdout().write_all(words.as_bytes()).is_err() {
                std::io::stderr().write_all(words.as_bytes()).ok();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<_> = args.iter().map(|word| word.to_str()).collect();
    match words.as_slice() {
        [Some(word::GUARD), Some(kind), Some(until), Some(pause)] => {
            guard::run(kind, *until == word::ROPE, &PathBuf::from(pause))
        }
        [Some(word::INIT), Some(home), Some(pause)] => {
            init::run(&super::Home::at(home.into()), &PathBuf::from(pause))
        }
        _ => bail!("this program is started by the harness of the tests, not by hand"),
    }
}
