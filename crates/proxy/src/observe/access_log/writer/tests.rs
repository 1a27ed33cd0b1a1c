use super::*;
use crate::clock::Clock;
use crate::observe::access_log::{Format, Log};
use crate::observe::outcome::{Begin, Recorder};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

const DROPPED: &str = "shunt_access_log_dropped_total";

fn sink_into(target: impl Write + Send + 'static) -> (Arc<Sink>, Registry) {
    let registry = Registry::new(1);
    let sink = Arc::new(Sink::new(&AccessLogSink::Stdout, 0, &registry));
    let of_thread = Arc::clone(&sink);
    thread::spawn(move || of_thread.write_for_ever(target));
    (sink, registry)
}

fn batch(records: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for record in records {
        batch.bytes.extend_from_slice(record.as_bytes());
        batch.ends.push(batch.bytes.len());
    }
    batch
}

/// Takes so many bytes of each write; where that is none, the disk is full.
struct Disk {
    takes: Vec<usize>,
    got: Vec<u8>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = if self.takes.is_empty() {
            bytes.len()
        } else {
            self.takes.remove(0).min(bytes.len())
        };
        if n == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.got.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines_onto(takes: &[usize]) -> Lines<Disk> {
    Lines {
        target: Disk {
            takes: takes.to_vec(),
            got: Vec::new(),
        },
        torn: false,
    }
}

#[test]
fn a_partial_write_is_continued() {
    let mut lines = lines_onto(&[2, 3, 1]);
    lines.write(&batch(&["one\n", "two\n", "three\n"])).unwrap();
    assert_eq!(lines.target.got, b"one\ntwo\nthree\n");
}

#[test]
fn a_full_disk_loses_the_records_it_did_not_take_whole_and_glues_none_together() {
    let mut lines = lines_onto(&[6, 0, 0]);
    let lost = lines
        .write(&batch(&["one\n", "two\n", "three\n"]))
        .unwrap_err();
    assert_eq!(lost.records, 2, "`two` was begun, `three` was not");
    assert_eq!(lost.error.kind(), io::ErrorKind::StorageFull);
    let lost = lines.write(&batch(&["four\n"])).unwrap_err();
    assert_eq!(lost.records, 1, "still full");
    lines.write(&batch(&["five\n"])).unwrap();
    assert_eq!(lines.target.got, b"one\ntw\nfive\n");
}

#[test]
fn a_disk_that_fails_between_two_records_leaves_no_empty_line() {
    let mut lines = lines_onto(&[4, 0]);
    assert_eq!(
        lines
            .write(&batch(&["one\n", "two\n"]))
            .unwrap_err()
            .records,
        1
    );
    lines.write(&batch(&["three\n"])).unwrap();
    assert_eq!(lines.target.got, b"one\nthree\n");
}

#[test]
fn batches_keep_count_of_their_records_when_they_are_joined() {
    let mut first = batch(&["one\n", "two\n"]);
    let mut second = batch(&["three\n"]);
    first.append(&mut second);
    assert_eq!(first.ends, [4, 8, 14]);
    assert!(second.ends.is_empty() && second.bytes.is_empty());
}

#[test]
fn a_blocked_sink_keeps_a_bounded_number_of_lines_and_loses_none_of_them() {
    let (mut reader, writer) = io::pipe().unwrap();
    let (sink, _) = sink_into(File::from(OwnedFd::from(writer)));
    let record = "x".repeat(1024);
    let mut kept = 0;
    while sink.has_room_for(1024) {
        sink.hand_over(&mut batch(&[&record]));
        kept += 1024;
        assert!(
            kept <= 2 * MAX_WAITING,
            "nobody reads, so there is an end to the room"
        );
    }
    assert!(kept >= MAX_WAITING - 2048);
    assert!(
        !sink.wait_until_written(Instant::now() + Duration::from_millis(20)),
        "the end of the process waits for a blocked sink, but not for ever"
    );
    let mut got = vec![0; kept];
    reader.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|byte| *byte == b'x'));
    assert!(sink.wait_until_written(Instant::now() + Duration::from_secs(60)));
    assert_eq!(sink.waiting_records.load(Ordering::Acquire), 0);
}

#[test]
fn a_sink_without_a_reader_counts_what_is_lost_under_its_name() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (sink, registry) = sink_into(File::from(OwnedFd::from(writer)));
    sink.hand_over(&mut batch(&["one\n", "two\n"]));
    assert!(sink.wait_until_written(Instant::now() + Duration::from_secs(60)));
    assert_eq!(registry.value(DROPPED, &[("sink", "stdout")]), Some(2));
}

#[test]
fn a_file_is_appended_to_and_one_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, "before\n").unwrap();
    let writer = AccessLogWriter::new(&Registry::new(1));
    let target = AccessLogSink::File(path.clone());
    let sink = writer.sink(&target).unwrap();
    assert!(Arc::ptr_eq(&sink, &writer.sink(&target).unwrap()));
    sink.hand_over(&mut batch(&["after\n"]));
    writer.shutdown(Duration::from_secs(60));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");

    let missing = AccessLogSink::File(folder.path().join("no/access.log"));
    let error = writer.sink(&missing).unwrap_err().to_string();
    assert!(
        error.contains("no/access.log") && error.contains("directory"),
        "{error}"
    );
}

#[test]
fn a_record_for_a_sink_without_room_is_dropped_and_counted_and_the_next_with_room_is_written() {
    let registry = Registry::new(1);
    let sink = Arc::new(Sink::new(&AccessLogSink::Stderr, 0, &registry));
    let logs = Arc::new(LogSet {
        logs: vec![Log {
            sink: Arc::clone(&sink),
            format: Format::parse("%RESPONSE_FLAGS%\n").unwrap(),
        }],
        ..LogSet::default()
    });
    let recorder = Rc::new(Recorder {
        stats: registry.worker(0),
        log: WorkerLog::default(),
        clock: Clock::new(),
    });
    let record = || {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        drop(Outcome::begin(
            &recorder,
            Begin {
                downstream_remote: nowhere,
                downstream_local: nowhere,
                logs: &logs,
                captured: None,
                http: None,
            },
        ));
        recorder.log.flush();
    };
    sink.waiting.store(MAX_WAITING, Ordering::Release);
    record();
    assert_eq!(registry.value(DROPPED, &[("sink", "stderr")]), Some(1));
    sink.waiting.store(0, Ordering::Release);
    record();
    assert_eq!(registry.value(DROPPED, &[("sink", "stderr")]), Some(1));
    assert_eq!(lock(&sink.handed_over).bytes, b"-\n");
}
