//! An open loop: requests at a fixed rate, whether or not earlier ones were answered. The time of
//! a request counts from when it was due, so that a proxy which stalls pays for all that waited.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::exchange;
use crate::outcome::{Timing, Window};
use crate::target::Target;

/// Arguments of the open loop.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many connections, used in turn
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Milliseconds measured
    #[arg(long, default_value_t = 1000)]
    measure: u64,
    #[command(flatten)]
    timing: Timing,
}

/// The timer among the events; connections have their index.
const TIMER: u64 = u64::MAX;

/// A connection with the time at which its unanswered request was due.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    due: Option<Instant>,
}

impl Connection {
    /// Takes what has arrived; gives when the answered request was due, once the answer is whole.
    fn receive(&mut self) -> Result<Option<Instant>> {
        if !exchange::receive(&mut self.stream, &mut self.received)? {
            return Ok(None);
        }
        self.received.clear();
        Ok(self.due.take())
    }
}

/// Sends, measures, prints the outcome.
///
/// # Errors
/// On any answer but the expected one, or when a second passes without any.
pub fn run(args: &Args) -> Result<()> {
    args.target.take_identity()?;
    let mut pace = Pace::new(args)?;
    pace.keep(args.timing.warm_up)?;
    let window = Window::open(&args.timing)?;
    let latencies = pace.keep(args.measure)?;
    window.close(latencies)
}

struct Pace {
    request: Vec<u8>,
    epoll: Epoll,
    timer: TimerFd,
    connections: Vec<Connection>,
    interval: Duration,
    next: usize,
}

impl Pace {
    fn new(args: &Args) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut connections = Vec::with_capacity(args.connections);
        for index in 0..args.connections {
            let stream = args.target.connect()?;
            stream.set_nonblocking(true)?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::try_from(index)?);
            epoll.add(&stream, event)?;
            connections.push(Connection {
                stream,
                received: Vec::with_capacity(4096),
                due: None,
            });
        }
        Ok(Self {
            request: exchange::request(&args.target.authority),
            epoll,
            timer,
            connections,
            interval: Duration::from_secs(1) / args.rate,
            next: 0,
        })
    }

    /// Sends at the pace for some milliseconds and waits for the last answers; gives how long after
    /// its due time each request was answered.
    fn keep(&mut self, milliseconds: u64) -> Result<Vec<Duration>> {
        let mut due = Instant::now() + self.interval;
        let end = due + Duration::from_millis(milliseconds);
        let mut latencies = Vec::new();
        let mut outstanding = 0_usize;
        let mut events = [EpollEvent::empty(); 256];
        while due < end || outstanding > 0 {
            while due < end && due <= Instant::now() {
                self.send(due)?;
                outstanding += 1;
                due += self.interval;
            }
            if due < end {
                let wait = due.saturating_duration_since(Instant::now());
                let wait = wait.max(Duration::from_nanos(1));
                let at = Expiration::OneShot(TimeSpec::from_duration(wait));
                self.timer.set(at, TimerSetTimeFlags::empty())?;
            }
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(1000_u16)) {
                Err(Errno::EINTR) => continue,
                other => other.context("waiting for answers")?,
            };
            if count == 0 {
                bail!("no answer within a second");
            }
            for event in events.iter().take(count) {
                if event.data() == TIMER {
                    // Read, so that it does not stay ready; a timer set anew has nothing to read.
                    let _nothing_yet = self.timer.wait();
                } else if let Some(connection) =
                    self.connections.get_mut(usize::try_from(event.data())?)
                    && let Some(due) = connection.receive()?
                {
                    latencies.push(due.elapsed());
                    outstanding -= 1;
                }
            }
        }
        Ok(latencies)
    }

    /// Sends a request on the next connection that waits for no answer; HTTP/1.1 has one at a time.
    fn send(&mut self, due: Instant) -> Result<()> {
        let count = self.connections.len();
        let free = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|&index| {
                let connection = self.connections.get(index);
                connection.is_some_and(|connection| connection.due.is_none())
            });
        let Some(connection) = free.and_then(|index| self.connections.get_mut(index)) else {
            bail!("every connection waits for an answer: the proxy is overloaded");
        };
        self.next = free.map_or(0, |index| index + 1);
        connection.due = Some(due);
        connection
            .stream
            .write_all(&self.request)
            .context("sending a request")
    }
}
