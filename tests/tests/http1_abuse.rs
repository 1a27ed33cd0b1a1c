//! Clients and upstreams that abuse HTTP/1: bounded memory, the right answer, one record for each.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shunt_tests::differential::message::{self, Kind};
use shunt_tests::prelude::*;
use shunt_tests::server::Connection;

const BOOTSTRAP: &str = include_str!("../data/abuse.yaml");
const FRONT: u16 = 8080;
const APP: u16 = 9001;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";

/// A sidecar and its pod.
struct Front {
    sidecar: Sidecar,
    pod: Pod,
    _net: Network,
}

impl Front {
    fn new(name: &str) -> Result<Self> {
        let net = Network::new(name)?;
        let pod = net.pod("pod").build()?;
        let sidecar =
            pod.sidecar_under(BOOTSTRAP, |command| command.args(["--concurrency", "1"]))?;
        Ok(Self {
            sidecar,
            pod,
            _net: net,
        })
    }

    fn connect(&self) -> Result<TcpStream> {
        self.pod.as_user(User::APP).connect(self.pod.v4(FRONT))
    }

    /// Sends bytes on a connection of their own; everything that comes back until it ends, whether
    /// by a close or by a reset.
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        stream.write_all(request)?;
        Ok(until_end(&mut stream))
    }

    /// The only record, once there is one.
    fn record(&self) -> Result<AccessRecord> {
        let mut records = self.sidecar.wait_for_records(1, |_| true)?;
        ensure!(
            records.len() == 1,
            "one record for one request: {records:?}"
        );
        Ok(records.remove(0))
    }

    /// Resident memory of the sidecar, in kB.
    fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.sidecar.process.pid());
        let status = fs::read_to_string(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let words = line.context("no VmRSS")?.split_whitespace().next();
        Ok(words.context("no VmRSS")?.parse()?)
    }
}

fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    all
}

fn status(answer: &[u8]) -> String {
    let text = message::latin(answer);
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Reads whole requests and answers each; what came stands in `seen`, by connection.
fn answering(
    seen: &Arc<Mutex<Vec<Vec<u8>>>>,
) -> impl Fn(&Connection) -> std::io::Result<()> + Send + Sync + 'static {
    let seen = Arc::clone(seen);
    move |connection| {
        let mut stream = &*connection.stream;
        let (mut received, mut at) = (Vec::new(), 0);
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            received.extend_from_slice(&buffer[..length]);
            while let Some((_, length)) = message::read(&received[at..], Kind::Request, false) {
                at += length;
                stream.write_all(OK)?;
            }
        }
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(received);
        Ok(())
    }
}

/// Requests that hide another one, or try to.
fn corpus() -> Vec<Vec<u8>> {
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n";
    let chunked = format!("0\r\n\r\n{hidden}");
    let mut corpus = Vec::new();
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 0\r\ncontent-length: 43\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n",
        "content-length: 0, 43\r\n",
        "content-length: +0\r\n",
        "content-length: 0x2b\r\n",
        "content-length : 43\r\n",
        "content-length: 0\r\n transfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "x: y\rtransfer-encoding: chunked\r\n",
        "x: y\ntransfer-encoding: chunked\r\n",
        "x: y\0\r\ntransfer-encoding: chunked\0\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "connection: transfer-encoding\r\ntransfer-encoding: chunked, chunked\r\n",
    ] {
        let head = format!("POST /a HTTP/1.1\r\nhost: shop\r\n{framing}\r\n");
        corpus.push(message_bytes(&format!("{head}{chunked}")));
    }
    for chunk in [
        "0x0",
        "+0",
        " 0",
        "0 ",
        "",
        "0;\n",
        "0\n",
        "00000000000000000",
        "0\r",
    ] {
        let head = "POST /a HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
        corpus.push(message_bytes(&format!("{head}{chunk}\r\n\r\n{hidden}")));
    }
    corpus
}

fn message_bytes(text: &str) -> Vec<u8> {
    shunt_tests::differential::wire::bytes_of(text)
}

#[test]
fn a_request_that_hides_another_is_refused_and_the_upstream_gets_nothing_ambiguous() -> Result<()> {
    let front = Front::new("smuggle")?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = front.pod.tcp_server("app", APP, answering(&seen))?;
    let corpus = corpus();
    for request in &corpus {
        let answer = front.exchange(request)?;
        let text = message::latin(&answer);
        assert!(
            ["400", "501"].contains(&&*status(&answer)),
            "{:?}: {text:?}",
            message::latin(request)
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text:?}");
    }
    let records = front.sidecar.wait_for_records(corpus.len(), |_| true)?;
    assert_eq!(records.len(), corpus.len(), "one record for each");
    assert!(
        records.iter().all(|record| record.has_flag("DPE")),
        "{records:?}"
    );

    // A whole one, so that the upstream has something to show.
    assert_eq!(status(&front.exchange(LAST)?), "200");
    drop(front);
    drop(server);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut whole = 0;
    for received in seen.iter() {
        assert!(!message::latin(received).contains("smuggled"));
        let mut rest = &received[..];
        while let Some((request, length)) = message::read(rest, Kind::Request, true) {
            assert!(
                !request.whole || request.ambiguous.is_empty(),
                "{request:?}"
            );
            whole += usize::from(request.whole);
            rest = &rest[length..];
        }
    }
    assert_eq!(whole, 1, "{seen:?}");
    Ok(())
}

#[test]
fn heads_that_trickle_in_end_at_their_timeout_with_a_record_each() -> Result<()> {
    const CLIENTS: usize = 50;
    let front = Front::new("slowloris")?;
    let before = front.memory()?;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = front.connect()?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n")?;
        clients.push(stream);
    }
    // A byte now and then, so that no connection is ever still, until each has its answer.
    let answered = |stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).ok();
        stream.peek(&mut [0]).is_ok()
    };
    while !clients.iter().all(answered) {
        ensure!(begun.elapsed() < DEADLINE, "some are never answered");
        for stream in &mut clients {
            stream.write_all(b"x").ok();
        }
    }
    for stream in &mut clients {
        stream.set_read_timeout(Some(DEADLINE))?;
        assert_eq!(status(&until_end(stream)), "408");
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "they have their time"
    );
    let records = front.sidecar.wait_for_records(CLIENTS, |_| true)?;
    assert_eq!(records.len(), CLIENTS);
    for record in &records {
        assert_eq!(record.get("response_code"), "408");
        assert_eq!(
            record.get("response_code_details"),
            "request_header_timeout"
        );
    }
    let grown = front.memory()?.saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} kB more");
    Ok(())
}

#[test]
fn heads_that_never_end_are_refused_at_their_limit_and_take_bounded_memory() -> Result<()> {
    const CLIENTS: usize = 40;
    let front = Front::new("bomb")?;
    let before = front.memory()?;
    let mut bomb = b"GET / HTTP/1.1\r\nhost: shop\r\nx: ".to_vec();
    bomb.extend(b"y".repeat(1 << 20));
    let mut many = b"GET / HTTP/1.1\r\nhost: shop\r\n".to_vec();
    many.extend(b"x: y\r\n".repeat(5000));
    for _ in 0..CLIENTS / 2 {
        for request in [&bomb, &many] {
            let mut stream = front.connect()?;
            // It may be refused before all of it is sent.
            stream.write_all(request).ok();
            assert_eq!(status(&until_end(&mut stream)), "431");
        }
    }
    let records = front.sidecar.wait_for_records(CLIENTS, |_| true)?;
    assert_eq!(records.len(), CLIENTS);
    assert!(
        records
            .iter()
            .all(|record| record.get("response_code") == "431")
    );
    let grown = front.memory()?.saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} kB more");
    Ok(())
}

#[test]
fn a_connection_without_a_word_ends_after_its_time_and_was_no_request() -> Result<()> {
    let front = Front::new("half-open")?;
    let _app = front.pod.http_app("app", APP)?;
    let mut silent = front.connect()?;
    let mut cut = front.connect()?;
    cut.write_all(b"GET / HT")?;
    cut.shutdown(Shutdown::Write)?;
    assert_eq!(until_end(&mut silent), b"");
    assert_eq!(until_end(&mut cut), b"");
    // A request later shows that the log has no record but its own.
    assert_eq!(status(&front.exchange(LAST)?), "200");
    assert_eq!(front.record()?.get("request"), "GET / HTTP/1.1");
    front.pod.eventually_idle()
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives_whole() -> Result<()> {
    let front = Front::new("early")?;
    let _app = front.pod.tcp_server("app", APP, |connection| {
        let mut stream = &*connection.stream;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while message::head_length(&received).is_none() {
            let length = stream.read(&mut buffer)?;
            received.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(
            b"HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig",
        )?;
        connection.stream.shutdown(Shutdown::Write)?;
        // Whoever closes on what was not read resets, and the answer with it.
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    })?;
    let mut stream = front.connect()?;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 100000000\r\n\r\n")?;
    // Sends until it is stopped, as a client does that reads only afterwards.
    let part = [b'x'; 16 * 1024];
    for _ in 0..200 {
        if stream.write_all(&part).is_err() {
            break;
        }
    }
    let answer = message::latin(&until_end(&mut stream));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer:?}");
    assert!(answer.ends_with("\r\n\r\nbig"), "{answer:?}");
    assert_eq!(front.record()?.get("response_code"), "413");
    Ok(())
}

#[test]
fn an_upload_that_breaks_off_is_no_whole_request_upstream() -> Result<()> {
    for ends_in_order in [true, false] {
        let front = Front::new("abort")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = front.pod.tcp_server("app", APP, answering(&seen))?;
        let mut stream = front.connect()?;
        stream.write_all(
            b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )?;
        eventually("the upstream is connected", || server.connections() == 1)?;
        if ends_in_order {
            stream.shutdown(Shutdown::Write)?;
        } else {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        drop(stream);
        let record = front.record()?;
        assert!(record.has_flag("DC"), "{record:?}");
        eventually("the upstream connection ends", || {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.len() == 1
        })?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(
            message::read(&seen[0], Kind::Request, false),
            None,
            "{seen:?}"
        );
    }
    Ok(())
}

/// A first answer as given, further connections answered in order.
fn once(answer: &'static [u8]) -> impl Fn(&Connection) -> std::io::Result<()> + Send + Sync {
    let first = std::sync::atomic::AtomicBool::new(true);
    move |connection| {
        let mut stream = &*connection.stream;
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer)? > 0 {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                stream.write_all(answer)?;
                if !answer.ends_with(b"forged") {
                    return Ok(());
                }
            } else {
                stream.write_all(OK)?;
            }
        }
        Ok(())
    }
}

#[test]
fn what_an_upstream_sends_beyond_its_answer_answers_nobody() -> Result<()> {
    let front = Front::new("long")?;
    let long = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\
        content-length: 6\r\n\r\nforged";
    let _app = front.pod.tcp_server("app", APP, once(long))?;
    let answers = message::latin(&front.exchange(&[GET, LAST].concat())?);
    assert_eq!(answers.matches("\r\n\r\nhi").count(), 2, "{answers:?}");
    assert!(!answers.contains("forged"), "{answers:?}");
    assert_eq!(front.sidecar.wait_for_records(2, |_| true)?.len(), 2);
    Ok(())
}

#[test]
fn an_answer_shorter_than_announced_ends_in_a_reset() -> Result<()> {
    for short in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let front = Front::new("short")?;
        let _app = front.pod.tcp_server("app", APP, once(short))?;
        let mut stream = front.connect()?;
        stream.write_all(GET)?;
        let mut answer = Vec::new();
        let ended = stream
            .read_to_end(&mut answer)
            .map_err(|error| error.kind());
        assert_eq!(
            ended,
            Err(std::io::ErrorKind::ConnectionReset),
            "{answer:?}"
        );
        let record = front.record()?;
        assert!(record.has_flag("UC"), "{record:?}");
    }
    Ok(())
}
