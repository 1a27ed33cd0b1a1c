//! The load: keep-alive connections in a closed loop (the next request follows the answer), one
//! thread, one epoll. Reads what the proxy has used of its core at both ends of the measured
//! time, so that start-up and warm-up do not count.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::exchange;
use crate::outcome::{Timing, Window};
use crate::target::Target;

/// Arguments of the load.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds measured
    #[arg(long, default_value_t = 2000)]
    measure: u64,
    #[command(flatten)]
    timing: Timing,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    sent_at: Instant,
}

impl Connection {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.received.clear();
        self.sent_at = Instant::now();
        self.stream.write_all(request).context("sending a request")
    }
}

/// Sends, measures, prints the outcome.
///
/// # Errors
/// On any answer but the expected one: a figure with errors in it is none.
pub fn run(args: &Args) -> Result<()> {
    args.target.take_identity()?;
    let request = exchange::request(&args.target.authority);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut connections = Vec::with_capacity(args.connections);
    for index in 0..args.connections {
        let stream = args.target.connect()?;
        stream.set_nonblocking(true)?;
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, u64::try_from(index)?);
        epoll.add(&stream, interest)?;
        let mut connection = Connection {
            stream,
            received: Vec::with_capacity(4096),
            sent_at: Instant::now(),
        };
        connection.send(&request)?;
        connections.push(connection);
    }
    exchange_for(args.timing.warm_up, &epoll, &mut connections, &request)?;
    let window = Window::open(&args.timing)?;
    let latencies = exchange_for(args.measure, &epoll, &mut connections, &request)?;
    window.close(latencies)
}

/// Keeps every connection busy for some milliseconds; gives the time each exchange took.
fn exchange_for(
    milliseconds: u64,
    epoll: &Epoll,
    connections: &mut [Connection],
    request: &[u8],
) -> Result<Vec<Duration>> {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let mut latencies = Vec::with_capacity(1 << 18);
    let mut events = [EpollEvent::empty(); 256];
    while Instant::now() < end {
        let count = match epoll.wait(&mut events, EpollTimeout::from(1000_u16)) {
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for answers")?,
        };
        if count == 0 {
            bail!("no answer within a second");
        }
        for event in events.iter().take(count) {
            let index = usize::try_from(event.data())?;
            if let Some(connection) = connections.get_mut(index)
                && exchange::receive(&mut connection.stream, &mut connection.received)?
            {
                latencies.push(connection.sent_at.elapsed());
                connection.send(request)?;
            }
        }
    }
    Ok(latencies)
}
