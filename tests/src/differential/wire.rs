//! One side of a connection: plays its steps and notes everything that arrives.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{self, Kind, Message};
use super::scenario::{Read, Step};

/// How often a reader looks whether the scenario is over.
const TURN: Duration = Duration::from_millis(5);
/// How long a step waits for what it reads. Longer than any configured time.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a peer may take to notice that the scenario is over.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    Kept,
    /// The peer ended it in order.
    Closed,
    /// The peer reset it.
    Reset,
    /// The own side closed it first.
    Own,
}

/// A message, and how long it took since the last byte was sent.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The message.
    pub message: Message,
    /// `None` where no step waited for it.
    pub took: Option<Duration>,
}

/// What one side of a connection has seen.
#[derive(Debug, Clone)]
pub struct Record {
    /// All bytes.
    pub received: Vec<u8>,
    /// The messages in them.
    pub seen: Vec<Seen>,
    /// How the connection stands, and when it came to stand so after the last byte was sent.
    pub end: End,
    /// How long a step waited for the end.
    pub end_took: Option<Duration>,
    /// Bytes of `received` that are part of `seen`.
    pub consumed: usize,
}

impl Record {
    fn rest(&self) -> &[u8] {
        &self.received[self.consumed..]
    }

    /// Takes what is left apart, once nothing more will come.
    pub fn complete(&mut self, kind: Kind) {
        while let Some((message, length)) = message::read(self.rest(), kind, true) {
            self.consumed += length;
            self.seen.push(Seen {
                message,
                took: None,
            });
        }
    }
}

/// Lines of what came on a connection of HTTP/2, one list for each request.
pub type Noted = Arc<Mutex<Vec<Vec<String>>>>;

/// What all connections of a scenario share.
#[derive(Debug)]
pub struct Board {
    records: Mutex<Vec<(u16, Arc<Mutex<Record>>)>>,
    /// Those of upstreams that speak HTTP/2.
    http2: Mutex<Vec<(u16, Noted)>>,
    activity: Mutex<Instant>,
    over: Mutex<bool>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A scenario begins.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            http2: Mutex::default(),
            activity: Mutex::new(Instant::now()),
            over: Mutex::new(false),
        })
    }

    /// Something happened on one of its connections.
    pub fn touch(&self) {
        *lock(&self.activity) = Instant::now();
    }

    /// How long nothing has happened.
    pub fn quiet(&self) -> Duration {
        lock(&self.activity).elapsed()
    }

    /// Ends the scenario: its connections are closed.
    pub fn end(&self) {
        *lock(&self.over) = true;
    }

    /// Ready when the scenario has ended.
    pub async fn ended(&self) {
        while !self.is_over() {
            tokio::time::sleep(TURN).await;
        }
    }

    /// Where to note what comes on a connection of HTTP/2 to this port.
    pub fn note(&self, port: u16) -> Noted {
        let noted = Noted::default();
        self.touch();
        lock(&self.http2).push((port, Arc::clone(&noted)));
        noted
    }

    /// What came to upstreams by HTTP/2, line by line.
    pub fn noted(&self) -> Vec<String> {
        let http2 = lock(&self.http2);
        let mut ports: Vec<u16> = http2.iter().map(|(port, _)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        let mut lines = Vec::new();
        for port in ports {
            let connections = http2.iter().filter(|(of, _)| *of == port);
            for (connection, (_, noted)) in connections.enumerate() {
                for (stream, noted) in lock(noted).iter().enumerate() {
                    let (connection, stream) = (connection + 1, stream + 1);
                    let who = format!("upstream {port} connection {connection} stream {stream}");
                    lines.extend(noted.iter().map(|line| format!("{who}: {line}")));
                }
            }
        }
        lines
    }

    fn is_over(&self) -> bool {
        *lock(&self.over)
    }

    /// The records of upstream connections by port, in the order in which they were accepted.
    pub fn upstreams(&self) -> Vec<(u16, Record)> {
        let records = lock(&self.records);
        let copy = |(port, record): &(u16, Arc<Mutex<Record>>)| (*port, lock(record).clone());
        records.iter().map(copy).collect()
    }

    fn upstream_received(&self, wanted: &[u8]) -> bool {
        let records = lock(&self.records);
        records.iter().any(|(_, record)| {
            let record = lock(record);
            record.received.windows(wanted.len()).any(|w| w == wanted)
        })
    }
}

/// One side of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: Option<TcpStream>,
    record: Arc<Mutex<Record>>,
    board: Arc<Board>,
    sent: Instant,
    arrived: Instant,
    head_only: bool,
}

/// The bytes that a text of a scenario stands for.
pub fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

fn lines(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        bytes.extend(bytes_of(line));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

impl Wire {
    /// The client's side.
    pub fn client(stream: TcpStream, board: &Arc<Board>) -> Self {
        Self::new(stream, board)
    }

    /// The client's side of a connection that was reset before it could be looked at.
    pub fn reset(board: &Arc<Board>) -> Self {
        let wire = Self::of(None, board);
        lock(&wire.record).end = End::Reset;
        wire
    }

    /// An upstream's side; it tells its number among the connections of the port.
    pub fn upstream(stream: TcpStream, port: u16, board: &Arc<Board>) -> (Self, usize) {
        let wire = Self::new(stream, board);
        let mut records = lock(&board.records);
        let number = records.iter().filter(|(of, _)| *of == port).count();
        records.push((port, Arc::clone(&wire.record)));
        (wire, number)
    }

    fn new(stream: TcpStream, board: &Arc<Board>) -> Self {
        stream.set_read_timeout(Some(TURN)).ok();
        Self::of(Some(stream), board)
    }

    fn of(stream: Option<TcpStream>, board: &Arc<Board>) -> Self {
        board.touch();
        let record = Record {
            received: Vec::new(),
            seen: Vec::new(),
            end: End::Kept,
            end_took: None,
            consumed: 0,
        };
        Self {
            stream,
            record: Arc::new(Mutex::new(record)),
            board: Arc::clone(board),
            sent: Instant::now(),
            arrived: Instant::now(),
            head_only: false,
        }
    }

    /// What it has seen so far.
    pub fn record(&self) -> Arc<Mutex<Record>> {
        Arc::clone(&self.record)
    }

    /// Does one step after the other. False: it was no use to go on.
    pub fn play(&mut self, steps: &[Step]) -> bool {
        steps.iter().all(|step| self.step(step))
    }

    /// Plays its steps; those that begin with a whole request again for each request.
    pub fn serve(&mut self, steps: &[Step]) {
        let again = matches!(steps.first(), Some(Step::Read(Read::Request)));
        while self.play(steps) && again && !self.board.is_over() {}
    }

    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::Send(text) => self.send(&bytes_of(text)),
            Step::Lines(text) => self.send(&lines(text)),
            Step::Repeat(repeat) => self.send(&bytes_of(&repeat.text).repeat(repeat.times)),
            Step::Answer(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let body = if self.head_only { "" } else { body };
                self.send(&bytes_of(&(head + body)))
            }
            Step::Read(what) => self.read(*what),
            Step::Await(text) => {
                let wanted = bytes_of(text);
                self.until(|wire| wire.board.upstream_received(&wanted))
            }
            Step::Pause(milliseconds) => {
                thread::sleep(Duration::from_millis(*milliseconds));
                true
            }
            Step::End => self.finish(|stream| stream.shutdown(Shutdown::Write)),
            Step::Close => {
                let closed = self.finish(|_| Ok(()));
                lock(&self.record).end = End::Own;
                self.stream = None;
                closed
            }
            Step::Reset => {
                let reset = self.finish(reset_on_close);
                lock(&self.record).end = End::Own;
                self.stream = None;
                reset
            }
        }
    }

    fn finish(&mut self, how: impl FnOnce(&TcpStream) -> io::Result<()>) -> bool {
        self.board.touch();
        self.sent = Instant::now();
        self.stream
            .as_ref()
            .is_some_and(|stream| how(stream).is_ok())
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        // A peer that does not want it has its reasons; what it says of them is still read.
        let sent = stream.write_all(bytes);
        self.sent = Instant::now();
        self.board.touch();
        sent.is_ok() || self.end() != End::Reset
    }

    fn read(&mut self, what: Read) -> bool {
        let Some(kind) = what.message() else {
            let begin = lock(&self.record).received.len();
            let found = self.until(|wire| {
                let record = lock(&wire.record);
                match what {
                    Read::Head => message::head_length(record.rest()).is_some(),
                    Read::End => record.end != End::Kept,
                    _ => record.received.len() > begin || !record.rest().is_empty(),
                }
            });
            if what == Read::End {
                lock(&self.record).end_took = Some(self.sent.elapsed());
            }
            return found;
        };
        let mut found = None;
        self.until(|wire| {
            let record = lock(&wire.record);
            found = message::read(record.rest(), kind, record.end != End::Kept);
            found.is_some()
        });
        let Some((message, length)) = found else {
            return false;
        };
        self.head_only = message.first_line.starts_with("HEAD ");
        let whole = message.whole;
        let mut record = lock(&self.record);
        record.consumed += length;
        // Until it came; a long one takes a while to be understood.
        let took = Some(self.arrived.saturating_duration_since(self.sent));
        record.seen.push(Seen { message, took });
        whole
    }

    fn end(&self) -> End {
        lock(&self.record).end
    }

    /// Receives until a condition holds; false where it never will.
    fn until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if condition(self) {
                return true;
            }
            if self.board.is_over() || begun.elapsed() > PATIENCE || !self.receive() {
                return condition(self);
            }
        }
    }

    /// Receives once; false where nothing can come any more.
    fn receive(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        if lock(&self.record).end != End::Kept {
            return false;
        }
        let mut buffer = vec![0; 64 * 1024];
        let end = match stream.read(&mut buffer) {
            Ok(0) => End::Closed,
            Ok(n) => {
                self.arrived = Instant::now();
                lock(&self.record).received.extend(&buffer[..n]);
                End::Kept
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return true,
                io::ErrorKind::Interrupted => return true,
                _ => End::Reset,
            },
        };
        lock(&self.record).end = end;
        self.board.touch();
        true
    }

    /// Receives until the scenario is over, then closes.
    pub fn drain(&mut self) {
        while !self.board.is_over() {
            if !self.receive() {
                // Nothing will come any more; the scenario's end is awaited all the same.
                thread::sleep(TURN);
            }
        }
    }

    /// Waits for the scenario's end and closes so that the peer has noticed when this returns; of
    /// a step that gave the connection up, `stream` is the last handle.
    pub fn drain_and_close(&mut self, stream: &TcpStream) {
        if self.stream.is_none() {
            return;
        }
        self.drain();
        stream.shutdown(Shutdown::Write).ok();
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        let mut reader = stream;
        while begun.elapsed() < LAST_WORDS {
            match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_reset) => return,
            }
        }
        reset_on_close(stream).ok();
    }
}

fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
