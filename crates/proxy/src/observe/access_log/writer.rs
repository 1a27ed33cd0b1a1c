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
use crate::observe::series::ProcessSeries;
use crate::observe::stats::Registry;
use std::cell::RefCell;
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

/// How long to wait for a sink that is non-blocking and full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// All sinks of the process.
#[derive(Debug, Clone)]
pub struct AccessLogWriter {
    sinks: Arc<Mutex<Vec<Arc<Sink>>>>,
    dropped: Dropped,
}

#[derive(Debug, Clone)]
struct Dropped {
    registry: Registry,
    series: ProcessSeries,
}

impl Dropped {
    fn count(&self, records: usize) {
        self.registry
            .inc_shared(self.series.log_dropped, records as u64);
    }
}

/// Where lines go, and those that wait to be written.
#[derive(Debug)]
pub(super) struct Sink {
    target: AccessLogSink,
    index: usize,
    /// Bytes handed over and not yet written or dropped.
    waiting: AtomicUsize,
    handed_over: Mutex<Vec<u8>>,
    news: Condvar,
    written: Condvar,
    dropped: Dropped,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AccessLogWriter {
    /// A writer without sinks.
    pub fn new(registry: &Registry, series: ProcessSeries) -> Self {
        let dropped = Dropped {
            registry: registry.clone(),
            series,
        };
        Self {
            sinks: Arc::default(),
            dropped,
        }
    }

    /// The sink of this target; the same for the same target.
    pub(super) fn sink(&self, target: &AccessLogSink) -> Result<Arc<Sink>, Invalid> {
        let mut sinks = lock(&self.sinks);
        if let Some(sink) = sinks.iter().find(|sink| sink.target == *target) {
            return Ok(Arc::clone(sink));
        }
        let failed = |error: io::Error| {
            Invalid::new(match target {
                AccessLogSink::File(path) => {
                    format!("access log {}: cannot be opened: {error}", path.display())
                }
                AccessLogSink::Stdout => format!("access log on standard output: {error}"),
                AccessLogSink::Stderr => format!("access log on standard error: {error}"),
            })
        };
        let file = open(target).map_err(failed)?;
        let sink = Arc::new(Sink {
            target: target.clone(),
            index: sinks.len(),
            waiting: AtomicUsize::new(0),
            handed_over: Mutex::default(),
            news: Condvar::new(),
            written: Condvar::new(),
            dropped: self.dropped.clone(),
        });
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

    /// Wait until everything handed over is written, but no longer than this.
    pub fn shutdown(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let sinks = lock(&self.sinks).clone();
        for sink in sinks {
            let mut handed_over = lock(&sink.handed_over);
            while sink.waiting.load(Ordering::Acquire) > 0 {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = sink.written.wait_timeout(handed_over, left);
                handed_over = waited.unwrap_or_else(PoisonError::into_inner).0;
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
    fn hand_over(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        self.waiting.fetch_add(lines.len(), Ordering::AcqRel);
        let mut handed_over = lock(&self.handed_over);
        if handed_over.is_empty() {
            std::mem::swap(&mut *handed_over, lines);
        } else {
            handed_over.append(lines);
        }
        drop(handed_over);
        self.news.notify_one();
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) + bytes < MAX_WAITING
    }

    fn write_for_ever(&self, mut file: File) {
        loop {
            let mut handed_over = lock(&self.handed_over);
            while handed_over.is_empty() {
                handed_over = self
                    .news
                    .wait(handed_over)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let lines = std::mem::take(&mut *handed_over);
            drop(handed_over);
            if let Err((rest, error)) = write_all(&mut file, &lines) {
                let lost = rest.iter().filter(|byte| **byte == b'\n').count().max(1);
                self.dropped.count(lost);
                limited::warn("access log", &error);
            }
            self.waiting.fetch_sub(lines.len(), Ordering::AcqRel);
            // Taken and released, so that who waits cannot miss the news.
            drop(lock(&self.handed_over));
            self.written.notify_all();
        }
    }
}

/// Write everything; on an error, what was not written.
fn write_all<'a>(file: &mut File, lines: &'a [u8]) -> Result<(), (&'a [u8], io::Error)> {
    let mut rest = lines;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err((rest, io::ErrorKind::WriteZero.into())),
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else made the pipe non-blocking for all of us.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err((rest, error)),
        }
    }
    Ok(())
}

/// The lines of one worker that are not handed over yet.
#[derive(Debug, Default)]
pub struct WorkerLog {
    inner: RefCell<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    /// By the index of the sink.
    of_sink: Vec<Option<(Arc<Sink>, Vec<u8>)>>,
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
            let (sink, lines) =
                of_sink[index].get_or_insert_with(|| (Arc::clone(&log.sink), Vec::new()));
            if !sink.has_room_for(lines.len()) {
                sink.dropped.count(1);
                continue;
            }
            log.format.write(lines, times, outcome, now);
            if lines.len() >= HAND_OVER {
                sink.hand_over(lines);
            }
        }
    }

    /// Hand over what there is.
    pub fn flush(&self) {
        for (sink, lines) in self.inner.borrow_mut().of_sink.iter_mut().flatten() {
            sink.hand_over(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sink_into(file: File) -> (Arc<Sink>, Registry) {
        let registry = Registry::new(1);
        let series = ProcessSeries::new(&registry, "");
        let sink = Arc::new(Sink {
            target: AccessLogSink::Stdout,
            index: 0,
            waiting: AtomicUsize::new(0),
            handed_over: Mutex::default(),
            news: Condvar::new(),
            written: Condvar::new(),
            dropped: Dropped {
                registry: registry.clone(),
                series,
            },
        });
        let of_thread = Arc::clone(&sink);
        thread::spawn(move || of_thread.write_for_ever(file));
        (sink, registry)
    }

    #[test]
    fn a_blocked_sink_keeps_a_bounded_number_of_lines_and_loses_none_of_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (sink, _) = sink_into(File::from(std::os::fd::OwnedFd::from(writer)));
        let mut kept = 0;
        while sink.has_room_for(1024) {
            sink.hand_over(&mut vec![b'x'; 1024]);
            kept += 1024;
            assert!(
                kept <= 2 * MAX_WAITING,
                "nobody reads, so there is an end to the room"
            );
        }
        assert!(kept >= MAX_WAITING - 2048);
        let mut got = vec![0; kept];
        reader.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn a_failing_sink_counts_what_is_lost() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (sink, registry) = sink_into(File::from(std::os::fd::OwnedFd::from(writer)));
        sink.hand_over(&mut b"one\ntwo\n".to_vec());
        let deadline = Instant::now() + Duration::from_secs(10);
        while registry.value("shunt_access_log_dropped_total", &[]) != Some(2) {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }
}
