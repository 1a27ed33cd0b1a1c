//! Listening sockets: one for each worker and family, all bound before anything runs.

use crate::snapshot::Listener;
use crate::upstream::connect::out_of_descriptors;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

/// Connections that the kernel may hold for us; it takes `net.core.somaxconn` where that is less.
pub(super) const BACKLOG: i32 = 4096;

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}`: cannot listen on {address}{}", hint(.source))]
pub struct BindError {
    /// The listener's name.
    pub listener: String,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (somebody listens there, another process or the admin interface: end it, or use another port)"
        }
        io::ErrorKind::PermissionDenied => {
            " (ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface here has that address)",
        _ if out_of_descriptors(error) => {
            " (each worker needs a socket: fewer workers, or a higher limit of open files)"
        }
        _ => "",
    }
}

/// One socket for each worker: the kernel spreads connections over them (`SO_REUSEPORT`).
///
/// With `v6_too`, sockets on `[::]` of the same port are made as well; where the kernel has no IPv6
/// there is none to serve.
///
/// # Errors
/// Where the address is taken or not ours.
pub fn bind(
    listener: &Listener,
    address: SocketAddr,
    workers: usize,
    v6_too: bool,
) -> Result<Vec<Vec<TcpListener>>, BindError> {
    let mut address = address;
    let failed = |address| {
        move |source| BindError {
            listener: listener.name.to_string(),
            address,
            source,
        }
    };
    let mut of_worker: Vec<Vec<TcpListener>> = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = listen(address).map_err(failed(address))?;
        // Port 0: the others listen where the kernel put the first.
        address = socket.local_addr().map_err(failed(address))?;
        of_worker.push(vec![socket]);
    }
    if v6_too {
        let v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        for sockets in &mut of_worker {
            match listen(v6) {
                Ok(socket) => sockets.push(socket),
                Err(error) if has_no_ipv6(&error) => break,
                Err(error) => return Err(failed(v6)(error)),
            }
        }
    }
    Ok(of_worker)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// One listening socket, which others may share the port with.
///
/// # Errors
/// Where the kernel refuses.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
