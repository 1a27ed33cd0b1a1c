//! The load: keep-alive connections in a closed loop (the next request follows the answer), one
//! thread, one epoll. Reads what the proxy has used of its core at both ends of the measured
//! time, so that start-up and warm-up do not count.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::outcome::Window;
use crate::{exchange, identity};

/// Arguments of the load.
#[derive(clap::Args)]
pub struct Args {
    /// Where to send
    #[arg(long)]
    to: SocketAddr,
    /// The host header
    #[arg(long)]
    authority: String,
    /// How many connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds before the measured time
    #[arg(long, default_value_t = 500)]
    warm_up: u64,
    /// Milliseconds measured
    #[arg(long, default_value_t = 2000)]
    measure: u64,
    /// The process whose use of its core is measured
    #[arg(long)]
    of: u32,
    /// Send as this uid and gid, as an application would
    #[arg(long)]
    uid: Option<u32>,
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

    /// Takes what has arrived; true when the answer is whole.
    fn receive(&mut self) -> Result<bool> {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the proxy closed a keep-alive connection"),
            Ok(count) => self
                .received
                .extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("receiving an answer"),
        }
        exchange::is_complete(&self.received)
    }
}

/// Sends, measures, prints the outcome.
///
/// # Errors
/// On any answer but the expected one: a figure with errors in it is none.
pub fn run(args: &Args) -> Result<()> {
    identity::take(args.uid)?;
    let request = exchange::request(&args.authority);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut connections = Vec::with_capacity(args.connections);
    for index in 0..args.connections {
        let stream =
            TcpStream::connect(args.to).with_context(|| format!("connecting to {}", args.to))?;
        stream.set_nodelay(true)?;
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
    exchange_for(args.warm_up, &epoll, &mut connections, &request)?;
    let window = Window::open(args.of)?;
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
                && connection.receive()?
            {
                latencies.push(connection.sent_at.elapsed());
                connection.send(request)?;
            }
        }
    }
    Ok(latencies)
}
