//! What runs across all changes: applications and their clients.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use shunt_tests::client::tcp::greeting;
use shunt_tests::client::wire::{read_request_head, read_response_head};
use shunt_tests::expect::eventually::poll;
use shunt_tests::prelude::*;
use shunt_tests::server::Answer;

use crate::files::{CHANGING, ECHO, ONE, STEADY, STREAM, STREAMS, TWO, UNCHANGED, VISITING, WHO};

/// The pace of each client, so that what is measured is not how they wait for each other.
const PACE: Duration = Duration::from_millis(10);
/// What asks for a WebSocket, and what grants it.
const WEBSOCKET: &str = "upgrade: websocket\r\n";
/// Where an answer is begun, and ended when it is let go.
const HELD: &str = "/stream/held/";
const FIRST: &[u8; 11] = b"6\r\nfirst\n\r\n";
const LAST: &[u8; 15] = b"5\r\nlast\n\r\n0\r\n\r\n";

/// Whatever tells the traffic how to go on.
#[derive(Default)]
pub(crate) struct Controls {
    /// It is to end.
    pub(crate) stop: AtomicBool,
    /// Held answers up to this number may end.
    pub(crate) let_go: AtomicUsize,
    /// Requests that were answered.
    pub(crate) answered: AtomicU64,
    /// How often the visiting listener was found there.
    pub(crate) visits: AtomicU64,
}

impl Controls {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// All applications.
pub(crate) fn applications(pod: &Pod, controls: &Arc<Controls>) -> Result<Vec<Server>> {
    let named = |port: u16| pod.http_app_with("app", port, move |_| Answer::ok(port.to_string()));
    let controls = Arc::clone(controls);
    Ok(vec![
        named(ONE)?,
        named(TWO)?,
        pod.tcp_server("stream", STREAM, move |connection| {
            streaming(&connection.stream, &controls)
        })?,
        pod.echo("echo", ECHO)?,
        pod.http_app_with("who", WHO, |exchange| {
            let told = exchange.head.header("x-forwarded-client-cert");
            let told = told.unwrap_or_default();
            let part = |name: &str| told.split(';').find_map(|part| part.strip_prefix(name));
            let (by, uri) = (part("By="), part("URI="));
            Answer::ok(format!("{} {}", by.unwrap_or("-"), uri.unwrap_or("-")))
        })?,
    ])
}

/// An application that sends numbered lines, one chunk each, until all is over; or sends back what
/// comes, where a WebSocket is asked for; or half an answer, and the rest when it is let go.
fn streaming(mut stream: &TcpStream, controls: &Controls) -> std::io::Result<()> {
    let head = read_request_head(&mut BufReader::with_capacity(1, stream))?;
    if head.header("upgrade").is_some() {
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{WEBSOCKET}\r\n"
        )?;
        return std::io::copy(&mut { stream }, &mut stream).map(drop);
    }
    // As the handler ends with the answer.
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")?;
    if let Some(number) = head.target.strip_prefix(HELD) {
        let number: usize = number.parse().map_err(std::io::Error::other)?;
        stream.write_all(FIRST)?;
        let let_go = || (controls.let_go.load(Ordering::SeqCst) >= number).then_some(());
        poll(DEADLINE, let_go).ok_or(ErrorKind::TimedOut)?;
        return stream.write_all(LAST);
    }
    let mut number = 0;
    while !controls.stopped() {
        let line = format!("{number:07}\n");
        stream.write_all(format!("8\r\n{line}\r\n").as_bytes())?;
        number += 1;
        thread::sleep(PACE);
    }
    stream.write_all(b"0\r\n\r\n")
}

fn connect(pod: &Pod, to: SocketAddr) -> Result<TcpStream> {
    pod.as_user(User::APP).connect(to)
}

/// Reads the numbered lines to their end; returns how many there were.
pub(crate) fn read_stream(pod: &Pod) -> Result<u64> {
    let stream = connect(pod, STEADY)?;
    (&stream).write_all(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")?;
    let mut lines = BufReader::new(&stream).lines();
    let status = lines.next().context("no answer")??;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    // Chunks of the upstream may be passed on in chunks of another length, but a line is not cut
    // where nothing cuts it: what is neither a length nor empty is a line.
    let mut number = 0;
    loop {
        let line = lines.next().context("it broke off")??;
        if line == "0" {
            return Ok(number);
        }
        if line.len() == 7 && line.bytes().all(|b| b.is_ascii_digit()) {
            ensure!(
                line == format!("{number:07}"),
                "{line} is not line {number}"
            );
            number += 1;
        }
    }
}

/// A stream to an application that sends back what comes, by mutual TLS on its way.
pub(crate) fn tcp_stream(pod: &Pod) -> Result<TcpStream> {
    let stream = connect(pod, STREAMS)?;
    greeting(&stream)?;
    Ok(stream)
}

/// A WebSocket to such an application; the bytes on it are no frames, which nobody looks at.
pub(crate) fn web_socket(pod: &Pod, by: SocketAddr) -> Result<TcpStream> {
    let mut stream = connect(pod, by)?;
    write!(
        stream,
        "GET /stream HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n{WEBSOCKET}\r\n"
    )?;
    let head = read_response_head(&mut BufReader::with_capacity(1, &stream))?;
    ensure!(head.status == 101, "answered with {}", head.status);
    Ok(stream)
}

/// Sends numbers through a stream, each when the last has come back.
pub(crate) fn ping(stream: TcpStream, controls: &Controls) -> Result<u64> {
    let mut number: u64 = 0;
    while !controls.stopped() {
        echoes(&stream, number)?;
        number += 1;
        thread::sleep(PACE);
    }
    Ok(number)
}

/// A number goes through a stream and comes back.
pub(crate) fn echoes(mut stream: &TcpStream, number: u64) -> Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut back = [0; 8];
    stream.read_exact(&mut back)?;
    ensure!(back == number.to_be_bytes(), "{back:?} is not {number}");
    Ok(())
}

/// A request that must succeed.
pub(crate) fn text(client: &mut HttpClient, path: &str) -> Result<Response> {
    let response = client.send(&Request::get(path)).context(path.to_owned())?;
    ensure!(
        response.status == 200,
        "{path}: {} {}",
        response.status,
        response.text()
    );
    Ok(response)
}

/// Sends requests, nearly all on connections that are kept alive; every one must succeed.
pub(crate) fn load(pod: &Pod, controls: &Controls) -> Result<()> {
    let app = pod.as_user(User::APP);
    let mut kept = app.http(STEADY)?;
    let unchanged = app.connect_from(UNCHANGED, CHANGING)?;
    let mut unchanged = HttpClient::over(unchanged, "a");
    let mut changing = app.http(CHANGING)?;
    let mut round = 0;
    while !controls.stopped() {
        // Not each time: it makes a handshake.
        let rare = (round % 8 == 0).then_some("/identity");
        let paths = ["/routes", "/endpoints", "/cluster"]
            .into_iter()
            .chain(rare);
        for path in paths {
            let response = text(&mut kept, path)?;
            ensure!(!response.head.wants_close(), "{path}: its chain stays");
            controls.answered.fetch_add(1, Ordering::SeqCst);
        }
        let response = text(&mut unchanged, "/")?;
        ensure!(response.text() == "unchanged", "{}", response.text());
        ensure!(!response.head.wants_close(), "the chain beside it changed");
        if text(&mut changing, "/")?.head.wants_close() {
            changing = app.http(CHANGING)?;
        }
        controls.answered.fetch_add(2, Ordering::SeqCst);
        round += 1;
        thread::sleep(PACE);
    }
    Ok(())
}

/// Whether the peer was not there, or left before it said anything.
pub(crate) fn is_gone(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        )
    })
}

/// Visits the listener that comes and goes. A connection on which it answered once serves until it
/// says that it closes; only one that it had not taken yet when it left may end without an answer.
pub(crate) fn visit(pod: &Pod, controls: &Controls) -> Result<()> {
    while !controls.stopped() {
        thread::sleep(PACE);
        let first = pod.as_user(User::APP).http(VISITING).and_then(|mut http| {
            let first = text(&mut http, "/")?;
            Ok((http, first))
        });
        let (mut http, first) = match first {
            Ok(served) => served,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        controls.visits.fetch_add(1, Ordering::SeqCst);
        let mut closes = first.head.wants_close();
        while !closes && !controls.stopped() {
            thread::sleep(PACE);
            let next = text(&mut http, "/")?;
            ensure!(next.body == first.body, "another listener answers");
            closes = next.head.wants_close();
            controls.answered.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// What is in flight on the visiting listener when it leaves.
pub(crate) struct InFlight {
    answer: TcpStream,
    socket: TcpStream,
    idle: HttpClient,
    number: usize,
}

impl InFlight {
    /// Begins it.
    pub(crate) fn begin(pod: &Pod, number: usize) -> Result<Self> {
        let mut idle = pod.as_user(User::APP).http(VISITING)?;
        text(&mut idle, "/")?;
        let mut answer = connect(pod, VISITING)?;
        write!(answer, "GET {HELD}{number} HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut reader = BufReader::with_capacity(1, &answer);
        let head = read_response_head(&mut reader)?;
        ensure!(head.status == 200, "answered with {}", head.status);
        let mut first = [0; FIRST.len()];
        reader.read_exact(&mut first)?;
        ensure!(first == *FIRST, "{first:?}");
        let socket = web_socket(pod, VISITING)?;
        Ok(Self {
            answer,
            socket,
            idle,
            number,
        })
    }

    /// Nobody listens any more: it ends as it should all the same.
    pub(crate) fn end(mut self, controls: &Controls) -> Result<()> {
        echoes(&self.socket, 7).context("the WebSocket of the listener that left")?;
        let last = text(&mut self.idle, "/").context("the idle connection of it")?;
        ensure!(last.head.wants_close(), "it does not say that it closes");
        controls.let_go.store(self.number, Ordering::SeqCst);
        let mut rest = [0; LAST.len()];
        self.answer
            .read_exact(&mut rest)
            .context("the answer that it had begun")?;
        ensure!(rest == *LAST, "{rest:?}");
        Ok(())
    }
}
