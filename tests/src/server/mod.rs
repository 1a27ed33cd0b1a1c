//! Servers inside pods. Each tells its clients what it saw of them.
//!
//! A server listens once its constructor returns, and ends, with its connections, on drop. Every
//! connection has a thread, so that a handler may be written as a plain blocking conversation and
//! may misbehave in any way it likes.

mod echo;
mod http_app;
mod sighting;

pub use echo::Speaks;
pub use http_app::{Answer, Exchange};
pub use sighting::Sighting;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sys::socket as sys;
use socket2::{Domain, Protocol, Socket, Type};

use crate::DEADLINE;
use crate::net::Pod;

/// A running server; it stops on drop.
#[derive(Debug)]
pub struct Server {
    port: u16,
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
    acceptors: Vec<JoinHandle<()>>,
}

/// An accepted connection, as its handler gets it. Reads and writes time out after
/// [`DEADLINE`].
#[derive(Debug, Clone)]
pub struct Connection {
    /// The stream; `&TcpStream` reads and writes.
    pub stream: Arc<TcpStream>,
    /// What the server saw of it.
    pub sighting: Sighting,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    open: Mutex<Vec<(Weak<TcpStream>, JoinHandle<()>)>>,
    failures: Mutex<Vec<String>>,
}

impl Server {
    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// HTTP requests answered so far, retries and probes included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What went wrong in handlers so far: an I/O error each, in words.
    pub fn failures(&self) -> Vec<String> {
        self.shared
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Pod {
    /// Starts a TCP server on all the pod's addresses of each family it has; port 0 picks one.
    ///
    /// The handler runs once for each connection, which is closed when it returns. An I/O error
    /// it returns is kept for [`Server::failures`].
    ///
    /// # Errors
    /// The port is taken.
    pub fn tcp_server(
        &self,
        name: &str,
        port: u16,
        handler: impl Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Server> {
        self.start(name, port, |_| handler)
    }

    /// As [`Pod::tcp_server`], for handlers that count requests.
    fn start<H>(
        &self,
        name: &str,
        port: u16,
        handler: impl FnOnce(Arc<Shared>) -> H,
    ) -> Result<Server>
    where
        H: Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        let listeners = self.run(|| {
            let mut port = port;
            let mut listeners = Vec::new();
            for family in self.families() {
                let listener = listen((family.unspecified(), port).into())
                    .with_context(|| format!("starting server `{name}` on port {port}"))?;
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Ok(listeners)
        })?;
        let port = listeners
            .first()
            .context("a pod without addresses cannot serve")?
            .local_addr()?
            .port();
        let shared = Arc::new(Shared::default());
        let handler = Arc::new(handler(Arc::clone(&shared)));
        let mut acceptors = Vec::new();
        for listener in &listeners {
            let listener = listener
                .try_clone()
                .context("sharing a listener with its thread")?;
            let (shared, handler, name) =
                (Arc::clone(&shared), Arc::clone(&handler), name.to_owned());
            acceptors.push(thread::spawn(move || {
                accept(&listener, &name, &shared, &handler)
            }));
        }
        Ok(Server {
            port,
            listeners,
            shared,
            acceptors,
        })
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // A listener of its own for each family, so that addresses are told as they are.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn accept<H>(listener: &TcpListener, name: &str, shared: &Arc<Shared>, handler: &Arc<H>)
where
    H: Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
{
    while !shared.stopping.load(Ordering::SeqCst) {
        let Ok((stream, peer)) = listener.accept() else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let Ok(connection) = Connection::new(name, stream, peer) else {
            continue;
        };
        let stream = Arc::downgrade(&connection.stream);
        let thread = {
            let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
            thread::spawn(move || {
                if let Err(error) = handler(&connection) {
                    let failure = format!("{}: {error}", connection.sighting);
                    shared
                        .failures
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(failure);
                }
            })
        };
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, thread)| !thread.is_finished());
        open.push((stream, thread));
    }
}

impl Connection {
    fn new(server: &str, stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let sighting = Sighting {
            server: server.to_owned(),
            peer,
            local: stream.local_addr()?,
            original: original_destination(&stream, peer.ip()),
        };
        Ok(Self {
            stream: Arc::new(stream),
            sighting,
        })
    }
}

/// Where the connection went before a rule redirected it; none without connection tracking.
fn original_destination(stream: &TcpStream, peer: IpAddr) -> Option<SocketAddr> {
    match peer {
        IpAddr::V4(_) => {
            let found = sys::getsockopt(stream, sys::sockopt::OriginalDst).ok()?;
            let ip = u32::from_be(found.sin_addr.s_addr);
            Some((std::net::Ipv4Addr::from(ip), u16::from_be(found.sin_port)).into())
        }
        IpAddr::V6(_) => {
            let found = sys::getsockopt(stream, sys::sockopt::Ip6tOriginalDst).ok()?;
            let ip = found.sin6_addr.s6_addr;
            Some((std::net::Ipv6Addr::from(ip), u16::from_be(found.sin6_port)).into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for listener in &self.listeners {
            // Wakes the thread that waits in accept().
            sys::shutdown(listener.as_raw_fd(), sys::Shutdown::Both).ok();
        }
        for acceptor in self.acceptors.drain(..) {
            acceptor.join().ok();
        }
        let open = std::mem::take(
            &mut *self
                .shared
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (stream, thread) in open {
            if let Some(stream) = stream.upgrade() {
                stream.shutdown(std::net::Shutdown::Both).ok();
            }
            thread.join().ok();
        }
    }
}
