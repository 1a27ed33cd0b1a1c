//! Statistics: dense slabs of counters, one for each worker, summed when they are read.
//!
//! A handle is resolved when configuration is compiled or something is first seen; counting is a
//! load and a store at a known place, without a lock, a hash or a shared cache line.

use http::StatusCode;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Upper bounds of histogram buckets in milliseconds: Envoy's default.
pub const BUCKETS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

const CHUNK: usize = 256;
/// One more bucket for what is beyond the last bound, then the sum.
const HISTOGRAM_SLOTS: usize = BUCKETS_MS.len() + 2;

type Chunk = Arc<[AtomicU64; CHUNK]>;

/// Something that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(u32);

/// Something that grows and shrinks: two places, for what was added and what was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(u32);

/// Durations in milliseconds, by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn slots(self) -> usize {
        match self {
            Self::Counter => 1,
            Self::Gauge => 2,
            Self::Histogram => HISTOGRAM_SLOTS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Every series of the process.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    names: Mutex<Names>,
    /// One for each worker, and the last for all other threads.
    slabs: Vec<Arc<Slab>>,
}

#[derive(Debug, Default)]
struct Names {
    next: usize,
    /// By family, then by rendered labels.
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    series: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Slab {
    chunks: RwLock<Vec<Chunk>>,
}

impl Slab {
    fn grow(&self, slots: usize) {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        while chunks.len() * CHUNK < slots {
            chunks.push(Arc::new([const { AtomicU64::new(0) }; CHUNK]));
        }
    }

    fn chunks(&self) -> Vec<Chunk> {
        self.chunks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Registry {
    /// A registry for this many workers.
    pub fn new(workers: usize) -> Self {
        let slabs = (0..=workers).map(|_| Arc::default()).collect();
        Self {
            inner: Arc::new(Inner {
                names: Mutex::default(),
                slabs,
            }),
        }
    }

    /// The counter of this family and these labels; the same for the same names.
    pub fn counter(&self, family: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
        Counter(self.allocate(Kind::Counter, family, help, labels))
    }

    /// The gauge of this family and these labels.
    pub fn gauge(&self, family: &'static str, help: &'static str, labels: Labels<'_>) -> Gauge {
        Gauge(self.allocate(Kind::Gauge, family, help, labels))
    }

    /// The histogram of this family and these labels.
    pub fn histogram(
        &self,
        family: &'static str,
        help: &'static str,
        labels: Labels<'_>,
    ) -> Histogram {
        Histogram(self.allocate(Kind::Histogram, family, help, labels))
    }

    fn allocate(
        &self,
        kind: Kind,
        family: &'static str,
        help: &'static str,
        labels: Labels<'_>,
    ) -> u32 {
        let mut names = self
            .inner
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Names { next, families } = &mut *names;
        let family = families.entry(family).or_insert_with(|| Family {
            kind,
            help,
            series: HashMap::new(),
        });
        let at = *family
            .series
            .entry(render_labels(labels))
            .or_insert_with(|| {
                // A histogram lies within one chunk, so that its reader needs only one.
                if *next / CHUNK != (*next + kind.slots() - 1) / CHUNK {
                    *next = next.next_multiple_of(CHUNK);
                }
                let at = *next;
                *next += kind.slots();
                self.inner.slabs.iter().for_each(|slab| slab.grow(*next));
                at
            });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The counters of one worker, `0..workers`. One thread writes them.
    pub fn worker(&self, index: usize) -> WorkerStats {
        let last = self.inner.slabs.len() - 1;
        let slab = Arc::clone(&self.inner.slabs[index.min(last)]);
        WorkerStats {
            known: RefCell::new(slab.chunks()),
            slab,
        }
    }

    /// Count from any thread.
    pub fn inc_shared(&self, counter: Counter, n: u64) {
        let at = counter.0 as usize;
        if let Some(slab) = self.inner.slabs.last()
            && let Some(chunk) = slab.chunks().get(at / CHUNK)
        {
            chunk[at % CHUNK].fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The value of a counter or gauge, summed over all workers; `None` where there is no such
    /// series. For a histogram: how many values it holds.
    pub fn value(&self, family: &str, labels: Labels<'_>) -> Option<u64> {
        let names = self
            .inner
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let family = names.families.get(family)?;
        let at = *family.series.get(&render_labels(labels))?;
        let sum = Sum::of(self.inner.slabs.iter().map(|slab| slab.chunks()).collect());
        Some(match family.kind {
            Kind::Counter => sum.at(at),
            Kind::Gauge => sum.at(at).wrapping_sub(sum.at(at + 1)),
            Kind::Histogram => (at..=at + BUCKETS_MS.len()).map(|at| sum.at(at)).sum(),
        })
    }

    /// Everything that was ever touched, in Prometheus' text format 0.0.4, as Envoy serves it.
    pub fn render(&self) -> String {
        let names = self
            .inner
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sum = Sum::of(self.inner.slabs.iter().map(|slab| slab.chunks()).collect());
        let mut out = String::new();
        for (name, family) in &names.families {
            let touched = |at: usize| (at..at + family.kind.slots()).any(|at| sum.at(at) != 0);
            let mut series: Vec<_> = family
                .series
                .iter()
                .filter(|(_, at)| touched(**at))
                .collect();
            if series.is_empty() {
                continue;
            }
            series.sort();
            let Family { kind, help, .. } = family;
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            for (labels, at) in series {
                render_series(&mut out, *kind, name, labels, *at, &sum);
            }
        }
        out
    }
}

fn render_series(out: &mut String, kind: Kind, name: &str, labels: &str, at: usize, sum: &Sum) {
    let braced = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let _ = match kind {
        Kind::Counter => writeln!(out, "{name}{braced} {}", sum.at(at)),
        Kind::Gauge => {
            let value = sum.at(at).wrapping_sub(sum.at(at + 1)).cast_signed();
            writeln!(out, "{name}{braced} {value}")
        }
        Kind::Histogram => {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0;
            for (index, bound) in BUCKETS_MS.iter().enumerate() {
                count += sum.at(at + index);
                let _ = writeln!(
                    out,
                    "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
                );
            }
            count += sum.at(at + BUCKETS_MS.len());
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let total = sum.at(at + HISTOGRAM_SLOTS - 1);
            writeln!(
                out,
                "{name}_sum{braced} {total}\n{name}_count{braced} {count}"
            )
        }
    };
}

/// Label names and values, in the order in which they are shown.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

fn render_labels(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(out, "{name}=\"{value}\"");
    }
    out
}

/// The chunks of all slabs, read together.
struct Sum(Vec<Vec<Chunk>>);

impl Sum {
    fn of(slabs: Vec<Vec<Chunk>>) -> Self {
        Self(slabs)
    }

    fn at(&self, at: usize) -> u64 {
        let of_slab = |chunks: &Vec<Chunk>| {
            chunks
                .get(at / CHUNK)
                .map_or(0, |chunk| chunk[at % CHUNK].load(Ordering::Relaxed))
        };
        self.0.iter().map(of_slab).fold(0, u64::wrapping_add)
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    slab: Arc<Slab>,
    known: RefCell<Vec<Chunk>>,
}

impl WorkerStats {
    fn add_at(&self, at: usize, n: u64) {
        if self.known.borrow().len() <= at / CHUNK {
            // Allocated since: learn of it once.
            *self.known.borrow_mut() = self.slab.chunks();
        }
        if let Some(chunk) = self.known.borrow().get(at / CHUNK) {
            let place = &chunk[at % CHUNK];
            // This thread alone writes here; others only read.
            place.store(
                place.load(Ordering::Relaxed).wrapping_add(n),
                Ordering::Relaxed,
            );
        }
    }

    /// One more.
    pub fn inc(&self, counter: Counter) {
        self.add_at(counter.0 as usize, 1);
    }

    /// `n` more.
    pub fn add(&self, counter: Counter, n: u64) {
        self.add_at(counter.0 as usize, n);
    }

    /// `delta` more or less.
    pub fn gauge_add(&self, gauge: Gauge, delta: i64) {
        let place = gauge.0 as usize + usize::from(delta < 0);
        self.add_at(place, delta.unsigned_abs());
    }

    /// Record a duration in milliseconds.
    pub fn record(&self, histogram: Histogram, ms: u64) {
        let value = ms as f64;
        let bucket = BUCKETS_MS.iter().position(|bound| value <= *bound);
        let at = histogram.0 as usize;
        self.add_at(at + bucket.unwrap_or(BUCKETS_MS.len()), 1);
        self.add_at(at + HISTOGRAM_SLOTS - 1, ms);
    }
}

/// Responses of one cluster by status, resolved by a worker when it first sees one.
#[derive(Debug)]
pub struct CodeCounters {
    registry: Registry,
    cluster: String,
    seen: RefCell<SmallVec<[(StatusCode, Counter, Counter); 4]>>,
}

impl CodeCounters {
    /// None seen.
    pub fn new(registry: &Registry, cluster: &str) -> Self {
        let (registry, cluster) = (registry.clone(), cluster.to_owned());
        Self {
            registry,
            cluster,
            seen: RefCell::default(),
        }
    }

    /// Count a response.
    pub fn inc(&self, stats: &WorkerStats, status: StatusCode) {
        let known = self
            .seen
            .borrow()
            .iter()
            .find(|(s, ..)| *s == status)
            .copied();
        let (_, code, class) = known.unwrap_or_else(|| {
            let resolved = self.resolve(status);
            self.seen.borrow_mut().push(resolved);
            resolved
        });
        stats.inc(code);
        stats.inc(class);
    }

    fn resolve(&self, status: StatusCode) -> (StatusCode, Counter, Counter) {
        let class = (status.as_u16() / 100).to_string();
        let cluster = ("envoy_cluster_name", self.cluster.as_str());
        let code = self.registry.counter(
            "envoy_cluster_upstream_rq",
            "Responses of the cluster by status code",
            &[("envoy_response_code", status.as_str()), cluster],
        );
        let class = self.registry.counter(
            "envoy_cluster_upstream_rq_xx",
            "Responses of the cluster by class of status code",
            &[("envoy_response_code_class", &class), cluster],
        );
        (status, code, class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Labels<'static> = &[("name", "a")];

    #[test]
    fn workers_and_other_threads_are_summed() {
        let registry = Registry::new(2);
        let counter = registry.counter("c", "help", A);
        registry.worker(0).inc(counter);
        registry.worker(1).add(counter, 2);
        registry.inc_shared(counter, 3);
        assert_eq!(registry.value("c", A), Some(6));
    }

    #[test]
    fn the_same_names_give_the_same_series() {
        let registry = Registry::new(1);
        assert_eq!(registry.counter("c", "", A), registry.counter("c", "", A));
        assert_ne!(
            registry.counter("c", "", A),
            registry.counter("c", "", &[("name", "b")])
        );
    }

    #[test]
    fn a_worker_learns_of_series_that_were_made_after_it() {
        let registry = Registry::new(1);
        let worker = registry.worker(0);
        for index in 0..CHUNK * 3 {
            let counter = registry.counter("c", "", &[("i", &index.to_string())]);
            worker.inc(counter);
        }
        let last = (CHUNK * 3 - 1).to_string();
        assert_eq!(registry.value("c", &[("i", &last)]), Some(1));
    }

    #[test]
    fn an_unused_series_does_not_exist_but_a_gauge_at_zero_again_does() {
        let registry = Registry::new(1);
        registry.counter("unused", "", &[]);
        let gauge = registry.gauge("used", "was used", &[]);
        let worker = registry.worker(0);
        worker.gauge_add(gauge, 1);
        worker.gauge_add(gauge, -1);
        assert_eq!(
            registry.render(),
            "# HELP used was used\n# TYPE used gauge\nused 0\n"
        );
    }

    #[test]
    fn histograms_are_cumulative_and_label_values_escaped() {
        let registry = Registry::new(1);
        let histogram = registry.histogram("h", "", &[("a", "x\"y\\z\n")]);
        let worker = registry.worker(0);
        for ms in [0, 3, 7, 4_000_000] {
            worker.record(histogram, ms);
        }
        let text = registry.render();
        let label = r#"a="x\"y\\z\n""#;
        for line in [
            format!("h_bucket{{{label},le=\"0.5\"}} 1"),
            format!("h_bucket{{{label},le=\"5\"}} 2"),
            format!("h_bucket{{{label},le=\"10\"}} 3"),
            format!("h_bucket{{{label},le=\"3600000\"}} 3"),
            format!("h_bucket{{{label},le=\"+Inf\"}} 4"),
            format!("h_sum{{{label}}} 4000010"),
            format!("h_count{{{label}}} 4"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
