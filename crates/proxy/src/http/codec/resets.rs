//! How many streams a client may reset: a bucket of tokens that fills with time.
//!
//! A client that opens streams and resets them at once makes work and waits for nothing
//! (CVE-2023-44487); who does it often is sent away.

use std::cell::Cell;
use std::time::Instant;

/// The resets that are left to one connection.
#[derive(Debug)]
pub struct Resets {
    burst: u64,
    per_second: u64,
    /// In thousandths, so that a slow rate fills it too.
    left: Cell<u64>,
    filled_at: Cell<Instant>,
    exhausted: Cell<bool>,
}

impl Resets {
    /// A full bucket.
    pub fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self {
            burst,
            per_second,
            left: Cell::new(burst.saturating_mul(1000)),
            filled_at: Cell::new(now),
            exhausted: Cell::new(false),
        }
    }

    /// A stream was reset. Returns whether that was one too many.
    pub fn take(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at.replace(now));
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let left = self.left.get();
        let left = left.saturating_add(passed.saturating_mul(self.per_second));
        let left = left.min(self.burst.saturating_mul(1000));
        match left.checked_sub(1000) {
            Some(left) => self.left.set(left),
            None => self.exhausted.set(true),
        }
        self.exhausted.get()
    }

    /// Whether there was one too many.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_allowed_and_then_a_rate() {
        let t0 = Instant::now();
        let resets = Resets::new(3, 2, t0);
        assert_eq!([0; 3].map(|_| resets.take(t0)), [false; 3]);
        let later = t0 + Duration::from_millis(500);
        assert!(!resets.take(later), "half a second gives one more");
        assert!(resets.take(later));
        assert!(resets.is_exhausted());
    }

    #[test]
    fn time_fills_it_up_to_the_burst_and_no_further() {
        let t0 = Instant::now();
        let resets = Resets::new(2, 1000, t0);
        let later = t0 + Duration::from_secs(3600);
        assert_eq!([0; 3].map(|_| resets.take(later)), [false, false, true]);
    }
}
