//! The end of a filter chain that a new configuration has replaced or removed.
//!
//! Its connections go on: those that speak HTTP are asked to go with the next answer, and all may
//! last until the drain time is over. New connections are served by other chains, or not at all.

use std::sync::OnceLock;
use std::time::Instant;

/// Whether the connections of a chain are to end, and when.
#[derive(Debug, Default)]
pub struct ChainDrain {
    until: OnceLock<Instant>,
}

impl ChainDrain {
    /// The chain is no longer part of the configuration. The first end stands.
    pub fn begin(&self, until: Instant) {
        let _begun_already = self.until.set(until);
    }

    /// Whether clients are asked to go.
    pub fn has_begun(&self) -> bool {
        self.until.get().is_some()
    }

    /// Whether what is still there is to be cut.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::ChainDrain;
    use std::time::{Duration, Instant};

    #[test]
    fn a_drain_begins_once_and_is_over_at_its_end() {
        let t0 = Instant::now();
        let second = Duration::from_secs(1);
        let drain = ChainDrain::default();
        assert!(!drain.has_begun() && !drain.is_over(t0 + 1000 * second));
        drain.begin(t0 + second);
        drain.begin(t0 + 5 * second);
        assert!(drain.has_begun() && !drain.is_over(t0));
        assert!(drain.is_over(t0 + second));
    }
}
