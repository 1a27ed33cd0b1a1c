//! The upstream: one thread, one epoll, one answer. As cheap as a server can be, because it
//! shares its core with the load and must not be what the proxy waits for.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::exchange;

/// Arguments of the upstream.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(required = true)]
    listen: Vec<SocketAddr>,
}

/// A connection and what it has sent of a request that is not whole yet.
struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
}

/// Serves until killed.
///
/// # Errors
/// When it cannot listen or epoll fails.
pub fn run(args: &Args) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut listeners = HashMap::new();
    for address in &args.listen {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        listener.set_nonblocking(true)?;
        let key = u64::try_from(listener.as_raw_fd())?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        listeners.insert(key, listener);
    }
    let answer = exchange::response();
    let mut connections = HashMap::new();
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for events")?,
        };
        for event in events.iter().take(count) {
            let key = event.data();
            if let Some(listener) = listeners.get(&key) {
                accept_all(listener, &epoll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&key)
                && !serve(connection, &answer)
            {
                connections.remove(&key);
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut HashMap<u64, Connection>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accepting a connection"),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = u64::try_from(stream.as_raw_fd())?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        let pending = Vec::new();
        connections.insert(key, Connection { stream, pending });
    }
}

/// Answers the requests that have arrived; false when the connection is over.
fn serve(connection: &mut Connection, answer: &[u8]) -> bool {
    let mut buffer = [0; 4096];
    let count = match connection.stream.read(&mut buffer) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let received = buffer.get(..count).unwrap_or_default();
    connection.pending.extend_from_slice(received);
    while let Some(end) = memchr::memmem::find(&connection.pending, b"\r\n\r\n") {
        connection.pending.drain(..end + 4);
        // The answer fits into an empty socket buffer: a short write means a peer that does not
        // read, which is no part of any bench.
        if !matches!(connection.stream.write(answer), Ok(sent) if sent == answer.len()) {
            return false;
        }
    }
    true
}
