//! One clock reading for each turn of a connection's task.
//!
//! Reading the clock costs; a request is worked on in a few turns. Each turn begins with
//! [`Clock::tick`], and everything in it uses [`Clock::now`].

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// A worker's clock.
#[derive(Debug)]
pub struct Clock {
    now: Cell<Instant>,
    origin: Instant,
    origin_wall: Cell<SystemTime>,
}

impl Clock {
    /// A clock that shows the present.
    pub fn new() -> Self {
        let origin = Instant::now();
        Self {
            now: Cell::new(origin),
            origin,
            origin_wall: Cell::new(SystemTime::now()),
        }
    }

    /// Read the time; called once at the beginning of a turn.
    pub fn tick(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The wall-clock time of this turn.
    pub fn now_wall(&self) -> SystemTime {
        self.origin_wall.get() + self.now.get().duration_since(self.origin)
    }

    /// Follow a wall clock that was set; called by the coarse tick of the worker.
    pub fn resynchronise(&self) {
        let now = self.tick();
        let since: Duration = now.duration_since(self.origin);
        if let Some(origin) = SystemTime::now().checked_sub(since) {
            self.origin_wall.set(origin);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
