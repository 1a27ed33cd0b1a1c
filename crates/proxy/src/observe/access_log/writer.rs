//! Getting lines out without waiting for anybody.
//!
//! A worker fills a buffer of its own and hands it over when it is large, or when the worker's
//! tick comes. Each sink has a thread that writes. Where the sink does not take them, lines wait
//! up to a limit; beyond it they are dropped and counted.

use super::LogSet;
use super::format::StartTimes;
use crate::model::{AccessLogSink, Invalid};
use crate::observe::limited;
use crate::observe::outcome::Outcome;
use crate::observe::series::SinkSeries;
use crate::observe::stats::{Counter, Registry};
use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that may wait for one sink.
const MAX_WAITING: usize = 1 << 20;

/// A worker's buffer of this size is handed over at once.
const HAND_OVER: usize = 16 * 1024;

/// A buffer that grew beyond this is given back to the allocator.
const KEEP_BUFFER: usize = 4 * HAND_OVER;

/// How long to wait for a sink that is non-blocking and full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// All sinks of the process.
#[derive(Debug, Clone)]
pub struct AccessLogWriter {
    sinks: Arc<Mutex<Vec<Arc<Sink>>>>,
    registry: Registry,
}

/// Records one behind the other.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each ends, so that what a failing sink loses can be counted.
    ends: Vec<usize>,
}

impl Batch {
    fn append(&mut self, more: &mut Self) {
        let before = self.bytes.len();
        self.bytes.append(&mut more.bytes);
        self.ends
            .extend(more.ends.drain(..).map(|end| before + end));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEEP_BUFFER);
    }
}

/// Where lines go, and those that wait to be written.
#[derive(Debug)]
pub(super) struct Sink {
    target: AccessLogSink,
    index: usize,
    /// Bytes handed over and not yet written or dropped.
    waiting: AtomicUsize,
    /// The same in records.
    waiting_records: AtomicUsize,
    handed_over: Mutex<Batch>,
    news: Condvar,
    written: Condvar,
    registry: Registry,
    dropped: Counter,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sink as a metric label and in messages.
struct Shown<'a>(&'a AccessLogSink);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AccessLogSink::Stdout => f.write_str("stdout"),
            AccessLogSink::Stderr => f.write_str("stderr"),
            AccessLogSink::File(path) => path.display().fmt(f),
        }
    }
}

impl AccessLogWriter {
    /// A writer without sinks.
    pub fn new(registry: &Registry) -> Self {
        Self {
            sinks: Arc::default(),
            registry: registry.clone(),
        }
    }

    /// The sink of this target; the same for the same target.
    pub(super) fn sink(&self, target: &AccessLogSink) -> Result<Arc<Sink>, Invalid> {
        let mut sinks = lock(&self.sinks);
        if let Some(sink) = sinks.iter().find(|sink| sink.target == *target) {
            return Ok(Arc::clone(sink));
        }
        let failed = |error: io::Error| {
            Invalid::new(format!(
                "access log {}: cannot be opened: {error}; does its directory exist, and may the \
                 sidecar write there?",
                Shown(target)
            ))
        };
        let file = open(target).map_err(failed)?;
        let sink = Arc::new(Sink::new(target, sinks.len(), &self.registry));
        let of_thread = Arc::clone(&sink);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || of_thread.write_for_ever(file))
            .map_err(failed)?;
        sinks.push(Arc::clone(&sink));
        Ok(sink)
    }

    /// A worker's buffers.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog::default()
    }

    /// Wait until everything handed over is written, but no longer than this; what is not by then
    /// is counted as dropped and reported.
    pub fn shutdown(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let sinks = lock(&self.sinks).clone();
        for sink in sinks {
            if !sink.wait_until_written(deadline) {
                let records = sink.waiting_records.load(Ordering::Acquire);
                sink.count_dropped(records);
                let sink = Shown(&sink.target);
                tracing::warn!(%sink, records, "access log records are lost: nobody takes them");
            }
        }
    }
}

fn open(target: &AccessLogSink) -> io::Result<File> {
    match target {
        AccessLogSink::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        AccessLogSink::Stderr => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        AccessLogSink::File(path) => OpenOptions::new().append(true).create(true).open(path),
    }
}

impl Sink {
    fn new(target: &AccessLogSink, index: usize, registry: &Registry) -> Self {
        let series = SinkSeries::new(registry, &Shown(target).to_string());
        Self {
            target: target.clone(),
            index,
            waiting: AtomicUsize::new(0),
            waiting_records: AtomicUsize::new(0),
            handed_over: Mutex::default(),
            news: Condvar::new(),
            written: Condvar::new(),
            registry: registry.clone(),
            dropped: series.dropped,
        }
    }

    fn count_dropped(&self, records: usize) {
        self.registry.inc_shared(self.dropped, records as u64);
    }

    fn hand_over(&self, batch: &mut Batch) {
        if batch.ends.is_empty() {
            return;
        }
        self.waiting.fetch_add(batch.bytes.len(), Ordering::AcqRel);
        self.waiting_records
            .fetch_add(batch.ends.len(), Ordering::AcqRel);
        let mut handed_over = lock(&self.handed_over);
        if handed_over.ends.is_empty() {
            // The worker gets an empty buffer back that has room already.
            std::mem::swap(&mut *handed_over, batch);
        } else {
            handed_over.append(batch);
        }
        drop(handed_over);
        self.news.notify_one();
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) + bytes < MAX_WAITING
    }

    /// Whether nothing waits any more by the deadline.
    fn wait_until_written(&self, deadline: Instant) -> bool {
        let mut handed_over = lock(&self.handed_over);
        while self.waiting.load(Ordering::Acquire) > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.written.wait_timeout(handed_over, left);
            handed_over = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn write_for_ever(&self, target: impl Write) {
        let mut lines = Lines {
            target,
            torn: false,
        };
        let mut batch = Batch::default();
        loop {
            let mut handed_over = lock(&self.handed_over);
            while handed_over.ends.is_empty() {
                handed_over = self
                    .news
                    .wait(handed_over)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut *handed_over, &mut batch);
            drop(handed_over);
            if let Err(Lost { records, error }) = lines.write(&batch) {
                self.count_dropped(records);
                let sink = Shown(&self.target);
                limited::warn(
                    "access log",
                    &format_args!("{sink}: cannot be written: {error}"),
                );
            }
            self.waiting.fetch_sub(batch.bytes.len(), Ordering::AcqRel);
            self.waiting_records
                .fetch_sub(batch.ends.len(), Ordering::AcqRel);
            batch.clear();
            // Taken and released, so that who waits cannot miss the news.
            drop(lock(&self.handed_over));
            self.written.notify_all();
        }
    }
}

/// What a failing sink did not take.
#[derive(Debug)]
struct Lost {
    records: usize,
    error: io::Error,
}

/// Where whole lines are written to.
struct Lines<W> {
    target: W,
    /// The last write failed in the middle of a record: the next one must not continue its line.
    torn: bool,
}

impl<W: Write> Lines<W> {
    /// Write a batch. On an error the records that were not taken whole are lost.
    fn write(&mut self, batch: &Batch) -> Result<(), Lost> {
        let mut written = 0;
        let result = self.write_from(&batch.bytes, &mut written);
        result.map_err(|error| {
            let whole = batch.ends.partition_point(|end| *end <= written);
            let begin = whole.checked_sub(1).map_or(0, |last| batch.ends[last]);
            self.torn |= written > begin;
            Lost {
                records: batch.ends.len() - whole,
                error,
            }
        })
    }

    fn write_from(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n", &mut 0)?;
            self.torn = false;
        }
        self.write_all(bytes, written)
    }

    /// Write everything; `written` says how far it came.
    fn write_all(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while *written < bytes.len() {
            match self.target.write(&bytes[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else made the pipe non-blocking for all of us.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The lines of one worker that are not handed over yet.
#[derive(Debug, Default)]
pub struct WorkerLog {
    inner: RefCell<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    /// By the index of the sink.
    of_sink: Vec<Option<(Arc<Sink>, Batch)>>,
    times: StartTimes,
}

impl WorkerLog {
    /// Write the record of an outcome to each log of the set.
    pub fn write(&self, logs: &LogSet, outcome: &Outcome, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        let Buffers { of_sink, times } = &mut *inner;
        for log in &logs.logs {
            let index = log.sink.index;
            if of_sink.len() <= index {
                of_sink.resize_with(index + 1, || None);
            }
            let (sink, batch) =
                of_sink[index].get_or_insert_with(|| (Arc::clone(&log.sink), Batch::default()));
            if !sink.has_room_for(batch.bytes.len()) {
                sink.count_dropped(1);
                continue;
            }
            log.format.write(&mut batch.bytes, times, outcome, now);
            batch.ends.push(batch.bytes.len());
            if batch.bytes.len() >= HAND_OVER {
                sink.hand_over(batch);
            }
        }
    }

    /// Hand over what there is.
    pub fn flush(&self) {
        for (sink, batch) in self.inner.borrow_mut().of_sink.iter_mut().flatten() {
            sink.hand_over(batch);
        }
    }
}

impl Drop for WorkerLog {
    /// What ended after the worker's last flush is written too.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
