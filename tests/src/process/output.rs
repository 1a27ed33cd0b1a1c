//! What a program has said so far on one of its outputs.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::DEADLINE;

/// An output of a running program, read as it comes; clones are the same output.
#[derive(Debug, Clone, Default)]
pub struct Output {
    said: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Reads `source` on a thread until it ends.
    pub(super) fn follow(mut source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let output = Self::default();
        let writer = output.clone();
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = source.read(&mut buffer).unwrap_or(0);
                let mut said = writer.lock();
                said.bytes.extend_from_slice(&buffer[..count]);
                said.ended = count == 0;
                writer.said.1.notify_all();
                if said.ended {
                    return;
                }
            }
        });
        (output, thread)
    }

    /// Everything said so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The whole lines said so far.
    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .map(str::to_owned)
            .collect()
    }

    /// Waits for a line that contains `pattern`, one said already or yet to come.
    ///
    /// # Errors
    /// None within [`DEADLINE`], or the output ended without.
    pub fn wait_for(&self, pattern: &str) -> Result<String> {
        let found = self.wait_until(|lines| {
            lines
                .iter()
                .any(|line| line.contains(pattern))
                .then_some(())
        });
        match found {
            Ok(()) => Ok(self
                .lines()
                .into_iter()
                .find(|line| line.contains(pattern))
                .unwrap_or_default()),
            Err(error) => Err(error.context(format!("waiting for a line with `{pattern}`"))),
        }
    }

    /// Waits until the lines said so far satisfy a condition.
    ///
    /// # Errors
    /// Not within [`DEADLINE`], or the output ended without.
    pub fn wait_until<T>(&self, condition: impl Fn(&[String]) -> Option<T>) -> Result<T> {
        let end = Instant::now() + DEADLINE;
        let mut ended = false;
        loop {
            if let Some(found) = condition(&self.lines()) {
                return Ok(found);
            }
            if ended {
                bail!("the output ended; it said:\n{}", self.text());
            }
            let said = self.lock();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(said);
                bail!(
                    "nothing of that within {DEADLINE:?}; so far it said:\n{}",
                    self.text()
                );
            }
            // A line that came between the check and the lock is found a poll later at the most.
            let poll = left.min(std::time::Duration::from_millis(20));
            let (said, _) = self
                .said
                .1
                .wait_timeout(said, poll)
                .unwrap_or_else(PoisonError::into_inner);
            ended = said.ended;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
