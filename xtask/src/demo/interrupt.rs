//! Ctrl-C and SIGTERM: the demonstration removes its traces first.

use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

use super::remains;

/// Takes SIGINT and SIGTERM over for the rest of the process. To be called before any thread is
/// started, since threads inherit which signals they leave to others.
pub(super) fn clean_up_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals
        .thread_block()
        .context("taking over SIGINT and SIGTERM")?;
    thread::spawn(move || {
        let signal = signals.wait().unwrap_or(Signal::SIGTERM);
        eprintln!("\n{signal}: removing what was made");
        if let Err(error) = remains::clean() {
            eprintln!("error: {error:#}\ntry: cargo xtask demo --clean");
        }
        // The processes in the pods are killed by the kernel when this one ends, and the
        // namespaces end with the last that holds them.
        #[expect(clippy::exit, reason = "the main thread may be waiting for anything")]
        std::process::exit(128 + signal as i32);
    });
    Ok(())
}
