//! Ending without losing anybody: from the signal to the last connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long connections may go on after the first signal (Istio's `terminationDrainDuration`).
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long no connection must have been there before the drain ends early: a client that makes
/// one connection after another has none for a moment.
pub const QUIET: Duration = Duration::from_millis(250);

/// How far the end of the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not begun.
    Serving,
    /// Still accepting; answers carry `connection: close`.
    Draining,
    /// Listening sockets are emptied and closed.
    Closing,
    /// What is still there is cut.
    Ended,
}

/// The phase, for all workers.
#[derive(Debug)]
pub struct Drain {
    draining: AtomicBool,
    phase: watch::Sender<Phase>,
}

impl Drain {
    /// Not draining.
    pub fn new() -> Self {
        Self {
            draining: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    /// Whether answers ask clients to go.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Go on to this phase. Never goes back.
    pub fn advance(&self, to: Phase) {
        self.draining.store(true, Ordering::Relaxed);
        self.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
    }

    /// Follow the phase.
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_never_goes_back() {
        let drain = Drain::new();
        assert!(!drain.is_draining());
        drain.advance(Phase::Closing);
        drain.advance(Phase::Draining);
        assert!(drain.is_draining());
        assert_eq!(*drain.subscribe().borrow(), Phase::Closing);
    }
}
