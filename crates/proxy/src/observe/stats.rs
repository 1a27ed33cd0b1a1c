//! Statistics: dense slabs of counters, one for each worker, summed when they are read.
//!
//! A handle is resolved when configuration is compiled or something is first seen; counting is a
//! load and a store at a known place, without a lock, a hash or a shared cache line.

mod codes;
mod names;
mod render;
mod slab;

pub use codes::CodeCounters;
pub use names::{Family, Kind};

use names::{BUCKETS, BUCKETS_MS, Names};
use render::Sum;
use slab::Slab;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Label names and values, in the order in which they are shown.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Something that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(u32);

/// Something that grows and shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(u32);

/// Durations in milliseconds, by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram(u32);

/// Every series of the process.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Locked when something is first seen and for the moment in which a reader copies it, never
    /// to count.
    names: Mutex<Names>,
    /// One for each worker, and the last for all other threads.
    slabs: Vec<Arc<Slab>>,
}

impl Registry {
    /// A registry for this many workers.
    pub fn new(workers: usize) -> Self {
        let inner = Inner {
            names: Mutex::default(),
            slabs: (0..=workers).map(|_| Arc::default()).collect(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        let names = self.inner.names.lock();
        names.unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles of all families of a set for these labels; the same for the same names. A
    /// family belongs to one set only.
    pub fn set(&self, families: &'static [Family], labels: Labels<'_>) -> Handles {
        Handles(self.names().place(Cow::Borrowed(families), labels))
    }

    /// The counter of this family and these labels; the same for the same names.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
        self.one(name, help, Kind::Counter, labels).counter()
    }

    /// The gauge of this family and these labels.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Gauge {
        self.one(name, help, Kind::Gauge, labels).gauge()
    }

    /// The histogram of this family and these labels.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
    ) -> Histogram {
        self.one(name, help, Kind::Histogram, labels).histogram()
    }

    fn one(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: Labels<'_>,
    ) -> Handles {
        let family = Family {
            name,
            help,
            kind,
            fixed: None,
        };
        Handles(self.names().place(Cow::Owned(vec![family]), labels))
    }

    /// The counters of one worker, `0..workers`. One thread writes them: ask for an index on one
    /// thread only. An index beyond the workers counts with the other threads.
    pub fn worker(&self, index: usize) -> WorkerStats {
        let others = self.inner.slabs.len() - 1;
        WorkerStats {
            slab: Arc::clone(&self.inner.slabs[index.min(others)]),
            shared: index >= others,
            one_thread: PhantomData,
        }
    }

    /// Count from any thread.
    pub fn inc_shared(&self, counter: Counter, n: u64) {
        if let Some(slab) = self.inner.slabs.last() {
            slab.add_shared(counter.0 as usize, n);
        }
    }

    /// The value of a counter or gauge, summed over all workers; `None` where there is no such
    /// series, or where a gauge is below zero. For a histogram: how many values it holds.
    pub fn value(&self, family: &str, labels: Labels<'_>) -> Option<u64> {
        let (kind, at) = self.names().find(family, labels)?;
        u64::try_from(Sum(&self.inner.slabs).value(kind, at)).ok()
    }

    /// Everything that was ever touched, in Prometheus' text format 0.0.4, as Envoy serves it.
    /// Takes a moment with many clusters, but holds nobody up meanwhile.
    pub fn render(&self) -> String {
        let names = self.names().snapshot();
        render::render(names, &Sum(&self.inner.slabs))
    }
}

/// Handles of a set, taken in the order of its families.
#[derive(Debug)]
pub struct Handles(usize);

impl Handles {
    fn take(&mut self, kind: Kind) -> u32 {
        let at = self.0;
        self.0 += kind.cells();
        // No slab has that many cells: such a handle counts nothing.
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The next family, which is a counter.
    pub fn counter(&mut self) -> Counter {
        Counter(self.take(Kind::Counter))
    }

    /// The next family, which is a gauge.
    pub fn gauge(&mut self) -> Gauge {
        Gauge(self.take(Kind::Gauge))
    }

    /// The next family, which is a histogram.
    pub fn histogram(&mut self) -> Histogram {
        Histogram(self.take(Kind::Histogram))
    }
}

/// The counters of one worker. Stays on the thread that asked for it.
#[derive(Debug)]
pub struct WorkerStats {
    slab: Arc<Slab>,
    shared: bool,
    one_thread: PhantomData<Rc<()>>,
}

impl WorkerStats {
    #[inline]
    fn add_at(&self, at: usize, n: u64) {
        if self.shared {
            self.slab.add_shared(at, n);
        } else {
            self.slab.add(at, n);
        }
    }

    /// One more.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add_at(counter.0 as usize, 1);
    }

    /// `n` more.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        self.add_at(counter.0 as usize, n);
    }

    /// `delta` more or less.
    #[inline]
    pub fn gauge_add(&self, gauge: Gauge, delta: i64) {
        let place = gauge.0 as usize + usize::from(delta < 0);
        self.add_at(place, delta.unsigned_abs());
    }

    /// Record a duration in milliseconds.
    #[inline]
    pub fn record(&self, histogram: Histogram, ms: u64) {
        let bucket = BUCKETS_MS.partition_point(|bound| *bound < ms);
        let at = histogram.0 as usize;
        self.add_at(at + bucket, 1);
        self.add_at(at + BUCKETS.len() + 1, ms);
    }
}

#[cfg(test)]
mod tests;
