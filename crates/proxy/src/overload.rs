//! How many connections this process can serve: each may need two file descriptors.
//!
//! A connection that is accepted without a descriptor left for its upstream would be lost later
//! and for no visible reason. So the count is bounded at the door, and what is beyond is refused
//! with a reset, a counter and a record.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Descriptors kept for the admin interface, log files, configuration.
const HEADROOM: usize = 8;

/// One for the downstream and one for its upstream.
const DESCRIPTORS_EACH: usize = 2;

/// Assumed to be in use where /proc cannot tell.
const ASSUMED_IN_USE: usize = 64;

/// The open downstream connections of the process, and how many there may be.
#[derive(Debug)]
pub struct Overload {
    open: AtomicUsize,
    max: AtomicUsize,
}

impl Overload {
    /// At most `max` connections.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        })
    }

    /// Allow as many as the descriptor limit leaves room for, given what is open now and
    /// `expected` more. Called when everything that the process needs for itself is open.
    pub fn measure(&self, expected: usize) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| {
            usize::try_from(soft).unwrap_or(usize::MAX)
        });
        let in_use = std::fs::read_dir("/proc/self/fd").map_or(ASSUMED_IN_USE, Iterator::count);
        let own = in_use + expected + HEADROOM;
        let max = limit.saturating_sub(own) / DESCRIPTORS_EACH;
        self.max.store(max.max(1), Ordering::Relaxed);
    }

    /// Room for connections is taken by, or given back from, this many listening sockets, each of
    /// which keeps a descriptor in reserve.
    pub fn change(&self, opened: usize, closed: usize) {
        let change = |max: usize| Some(max.saturating_add(closed).saturating_sub(opened).max(1));
        let _always = self
            .max
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// How many connections there may be.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// A place for one more connection, or `None`.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::AcqRel) < self.max() {
            return Some(Place {
                overload: Arc::clone(self),
            });
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
        None
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub struct Place {
    overload: Arc<Overload>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.overload.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Raise the soft limit of file descriptors to the hard one, as a server should (getrlimit(2)).
///
/// # Errors
/// Where the kernel refuses.
pub fn raise_descriptor_limit() -> std::io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_there_is_no_place_until_one_is_free() {
        let overload = Overload::new(1);
        let first = overload.place();
        assert!(first.is_some());
        assert!(overload.place().is_none());
        assert_eq!(overload.open(), 1);
        drop(first);
        assert_eq!(overload.open(), 0);
        assert!(overload.place().is_some());
    }
}
