//! Listening sockets: one for each worker and family, all bound before anything runs.

use crate::addr::Client;
use crate::model::ListenerSocket;
use crate::snapshot::Listener;
use crate::upstream::connect::{act_as, out_of_descriptors};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

/// Connections that the kernel may hold for us; it takes `net.core.somaxconn` where that is less.
pub(super) const BACKLOG: i32 = 4096;

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}`: cannot listen on {address}{}", hint(.step, .source))]
pub struct BindError {
    /// The listener's name.
    pub listener: String,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What was being done.
    pub step: Step,
    /// What the kernel said.
    pub source: io::Error,
}

/// What is done to have a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bind it and listen.
    Listen,
    /// Let it take what TPROXY leads to it, or others leave from the addresses of clients.
    Transparent,
}

fn hint(step: &Step, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if *step == Step::Transparent => {
            " (transparent and original_src need CAP_NET_ADMIN: give the sidecar's container that \
             capability, or capture by REDIRECT instead of TPROXY)"
        }
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

/// One socket for each worker: the kernel spreads connections over them (`SO_REUSEPORT`), or they
/// are one and the same.
///
/// With `v6_too`, sockets on `[::]` of the same port are made as well; where the kernel has no IPv6
/// there is none to serve.
///
/// # Errors
/// Where the address is taken or not ours, or a capability is missing.
pub fn bind(
    listener: &Listener,
    address: SocketAddr,
    workers: usize,
    v6_too: bool,
) -> Result<Vec<Vec<TcpListener>>, BindError> {
    let mut address = address;
    let failed = |address| {
        move |(step, source)| BindError {
            listener: listener.name.to_string(),
            address,
            step,
            source,
        }
    };
    let options = &listener.socket;
    if listener.calls_as_clients() {
        may_act_as_clients(address)
            .map_err(|source| failed(address)((Step::Transparent, source)))?;
    }
    let mut of_worker: Vec<Vec<TcpListener>> = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = match of_worker.first().and_then(|sockets| sockets.first()) {
            Some(shared) if !options.reuse_port => {
                shared.try_clone().map_err(|error| (Step::Listen, error))
            }
            _ => listen_as(address, options),
        };
        let socket = socket.map_err(failed(address))?;
        // Port 0: the others listen where the kernel put the first.
        let local = socket.local_addr();
        address = local.map_err(|error| failed(address)((Step::Listen, error)))?;
        of_worker.push(vec![socket]);
    }
    if v6_too {
        let v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        let mut shared: Option<TcpListener> = None;
        for sockets in &mut of_worker {
            let socket = match &shared {
                Some(shared) if !options.reuse_port => {
                    shared.try_clone().map_err(|error| (Step::Listen, error))
                }
                _ => listen_as(v6, options),
            };
            match socket {
                Ok(socket) => {
                    shared = socket.try_clone().ok();
                    sockets.push(socket);
                }
                Err((_, error)) if has_no_ipv6(&error) => break,
                Err(error) => return Err(failed(v6)(error)),
            }
        }
    }
    Ok(of_worker)
}

/// Whether sockets of this family may leave from the addresses of others.
fn may_act_as_clients(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    let client = Client {
        ip: address.ip(),
        mark: None,
    };
    act_as(&socket, &client)
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
    listen_as(address, &ListenerSocket::default()).map_err(|(_, error)| error)
}

/// Says what the kernel refused.
fn listen_as(
    address: SocketAddr,
    options: &ListenerSocket,
) -> Result<TcpListener, (Step, io::Error)> {
    let listening = |error| (Step::Listen, error);
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(listening)?;
    if options.transparent {
        let transparent = match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
        };
        transparent.map_err(|error| (Step::Transparent, error))?;
    }
    bound(&socket, address, options).map_err(listening)?;
    Ok(socket.into())
}

fn bound(socket: &Socket, address: SocketAddr, options: &ListenerSocket) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if options.freebind {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let backlog = options
        .backlog
        .map(|most| i32::try_from(most).unwrap_or(i32::MAX));
    socket.listen(backlog.unwrap_or(BACKLOG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn options(edit: impl FnOnce(&mut ListenerSocket)) -> ListenerSocket {
        let mut options = ListenerSocket::default();
        edit(&mut options);
        options
    }

    #[test]
    fn a_port_that_is_not_to_be_shared_is_not() {
        for reuse_port in [true, false] {
            let socket = listen_as(LOOPBACK, &options(|o| o.reuse_port = reuse_port)).unwrap();
            let second = listen(socket.local_addr().unwrap());
            assert_eq!(second.is_ok(), reuse_port, "{second:?}");
        }
    }

    #[test]
    fn an_address_that_is_not_there_is_bound_where_that_is_allowed() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let (step, error) = listen_as(nowhere, &ListenerSocket::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(hint(&step, &error).contains("no interface here"), "{error}");
        listen_as(nowhere, &options(|o| o.freebind = true)).unwrap();
    }

    #[test]
    fn no_more_connections_wait_than_the_backlog_has_places() {
        let waiting = |backlog| {
            let socket = listen_as(LOOPBACK, &options(|o| o.backlog = backlog)).unwrap();
            let to = socket.local_addr().unwrap();
            let limit = Duration::from_secs(1);
            let clients: Vec<_> = (0..5)
                .map(|_| TcpStream::connect_timeout(&to, limit))
                .collect();
            clients.iter().filter(|client| client.is_ok()).count()
        };
        // The kernel holds one more than it is told.
        assert_eq!((waiting(Some(1)), waiting(None)), (2, 5));
    }
}
