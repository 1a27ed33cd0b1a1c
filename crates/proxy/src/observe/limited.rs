//! Our own log for what may happen often: once a second for each reason, with a count.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

/// When each reason was last said. Locked only when something went wrong.
static SAID: LazyLock<Mutex<HashMap<&'static str, Said>>> = LazyLock::new(Mutex::default);

/// How often this was kept back since it was last said; `None` = keep it back now.
fn due(said: &mut HashMap<&'static str, Said>, reason: &'static str, now: Instant) -> Option<u64> {
    match said.get_mut(reason) {
        Some(last) if now.saturating_duration_since(last.at) < INTERVAL => {
            last.suppressed += 1;
            None
        }
        Some(last) => {
            last.at = now;
            Some(std::mem::take(&mut last.suppressed))
        }
        None => {
            said.insert(
                reason,
                Said {
                    at: now,
                    suppressed: 0,
                },
            );
            Some(0)
        }
    }
}

fn due_now(reason: &'static str) -> Option<u64> {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    due(&mut said, reason, Instant::now())
}

/// Warn of something that traffic can cause.
pub fn warn(reason: &'static str, detail: &dyn Display) {
    if let Some(suppressed) = due_now(reason) {
        tracing::warn!(reason, suppressed, "{detail}");
    }
}

/// Report a defect that traffic can cause.
pub fn error(reason: &'static str, detail: &dyn Display) {
    if let Some(suppressed) = due_now(reason) {
        tracing::error!(reason, suppressed, "{detail}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_second_with_the_count_of_what_was_kept_back() {
        let mut said = HashMap::new();
        let t0 = Instant::now();
        assert_eq!(due(&mut said, "a", t0), Some(0));
        assert_eq!(due(&mut said, "a", t0 + INTERVAL / 2), None);
        assert_eq!(due(&mut said, "a", t0 + INTERVAL / 2), None);
        assert_eq!(
            due(&mut said, "b", t0 + INTERVAL / 2),
            Some(0),
            "another reason"
        );
        assert_eq!(due(&mut said, "a", t0 + INTERVAL), Some(2));
        assert_eq!(due(&mut said, "a", t0 + INTERVAL * 2), Some(0));
    }
}
