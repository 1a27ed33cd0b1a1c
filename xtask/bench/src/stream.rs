//! Streams of bytes through a proxy, half of them up and half of them down. The far end and the
//! near end throw away what arrives without copying it (`MSG_TRUNC`, tcp(7)), so that the proxy
//! is what everything waits for.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};
use serde::Serialize;

use crate::cpu;

/// Bytes of one write, and of one read.
const CHUNK: usize = 64 * 1024;
/// First byte of a stream whose client sends, and of one whose client receives.
const UP: u8 = b'u';
const DOWN: u8 = b'd';

/// Arguments of `stream`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to connect
    #[arg(long)]
    to: SocketAddr,
    /// How many streams
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Milliseconds before the measured time
    #[arg(long, default_value_t = 300)]
    warm_up: u64,
    /// Milliseconds measured
    #[arg(long, default_value_t = 1500)]
    measure: u64,
    /// The process whose use of its core is measured
    #[arg(long)]
    of: u32,
}

/// Arguments of `sink`.
#[derive(clap::Args)]
pub struct SinkArgs {
    /// Where to listen
    listen: SocketAddr,
}

/// What one run found.
#[derive(Serialize)]
struct Outcome {
    bytes: u64,
    /// Seconds of CPU that the process used for a gigabyte (10^9 bytes).
    cpu_s_per_gb: f64,
    gb_per_second: f64,
    /// Share of one core that the process used.
    utilisation: f64,
}

struct Flow {
    stream: TcpStream,
    sends: bool,
}

impl Flow {
    /// Moves what can be moved at once.
    fn go(&mut self, chunk: &[u8], drop: &mut [u8]) -> Result<u64> {
        let mut moved = 0;
        // A few times only: others wait.
        for _ in 0..4 {
            let done = if self.sends {
                self.stream.write(chunk)
            } else {
                match recv(self.stream.as_raw_fd(), drop, MsgFlags::MSG_TRUNC) {
                    Ok(0) => bail!("the stream ended"),
                    other => other.map_err(Into::into),
                }
            };
            match done {
                Ok(count) => moved += u64::try_from(count)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("moving bytes"),
            }
        }
        Ok(moved)
    }
}

/// Opens the streams, measures, prints the outcome.
///
/// # Errors
/// When a stream ends.
pub fn run(args: &Args) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut flows = Vec::with_capacity(args.connections);
    for index in 0..args.connections {
        let mut stream =
            TcpStream::connect(args.to).with_context(|| format!("connecting to {}", args.to))?;
        let sends = index % 2 == 0;
        stream.write_all(&[if sends { UP } else { DOWN }])?;
        stream.set_nonblocking(true)?;
        let interest = if sends {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        epoll.add(&stream, EpollEvent::new(interest, u64::try_from(index)?))?;
        flows.push(Flow { stream, sends });
    }
    flow_for(args.warm_up, &epoll, &mut flows)?;
    let cpu_before = cpu::time(args.of)?;
    let start = Instant::now();
    let bytes = flow_for(args.measure, &epoll, &mut flows)?;
    let took = start.elapsed().as_secs_f64();
    let cpu = cpu::time(args.of)?.saturating_sub(cpu_before).as_secs_f64();
    let gigabytes = bytes as f64 / 1e9;
    let outcome = Outcome {
        bytes,
        cpu_s_per_gb: cpu / gigabytes,
        gb_per_second: gigabytes / took,
        utilisation: cpu / took,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Keeps the streams flowing for some milliseconds; gives the bytes that the near end moved.
fn flow_for(milliseconds: u64, epoll: &Epoll, flows: &mut [Flow]) -> Result<u64> {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let (chunk, mut dropped) = (vec![b'x'; CHUNK], vec![0; CHUNK]);
    let mut events = [EpollEvent::empty(); 64];
    let mut moved = 0;
    while Instant::now() < end {
        let count = match epoll.wait(&mut events, EpollTimeout::from(1000_u16)) {
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for room")?,
        };
        if count == 0 {
            bail!("no byte moved within a second");
        }
        for event in events.iter().take(count) {
            if let Some(flow) = flows.get_mut(usize::try_from(event.data())?) {
                moved += flow.go(&chunk, &mut dropped)?;
            }
        }
    }
    Ok(moved)
}

/// Serves until killed: a thread for each stream.
///
/// # Errors
/// When it cannot listen.
pub fn sink(args: &SinkArgs) -> Result<()> {
    let listener =
        TcpListener::bind(args.listen).with_context(|| format!("listening on {}", args.listen))?;
    loop {
        let (stream, _) = listener.accept().context("accepting a stream")?;
        // Ends with its stream.
        thread::spawn(move || far_end(stream));
    }
}

fn far_end(mut stream: TcpStream) {
    let mut first = [0];
    if stream.read_exact(&mut first).is_err() {
        return;
    }
    let mut chunk = vec![b'x'; CHUNK];
    if first == [DOWN] {
        while stream.write_all(&chunk).is_ok() {}
    } else {
        let more = |received| matches!(received, Ok(count) if count > 0);
        while more(recv(stream.as_raw_fd(), &mut chunk, MsgFlags::MSG_TRUNC)) {}
    }
}
