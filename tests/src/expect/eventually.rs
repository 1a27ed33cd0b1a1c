//! Waiting for a condition, with a deadline; the tests' only way to wait.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::DEADLINE;

/// Waits until a condition holds, asking every few milliseconds.
///
/// # Errors
/// It does not hold within [`DEADLINE`]; the error says `what` was awaited.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    match poll(DEADLINE, || condition().then_some(())) {
        Some(()) => Ok(()),
        None => bail!("{what}: not within {DEADLINE:?}"),
    }
}

/// Asks every few milliseconds until there is an answer or the time is over.
pub fn poll<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(3));
    }
}
