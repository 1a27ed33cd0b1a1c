//! Making one upstream connection.

use crate::addr::{Client, Upstream};
use crate::error::Failure;
use crate::model::TcpKeepalive;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// How a connection is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    /// To where.
    pub upstream: Upstream,
    /// From which address; `None` = the kernel chooses.
    pub source: Option<IpAddr>,
    /// From whose address instead, where it is of the upstream's family.
    pub client: Option<Client>,
    /// How long it may take.
    pub timeout: Duration,
    /// Probes while it rests.
    pub keepalive: Option<TcpKeepalive>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `connect_timeout` is over.
    #[error("connecting to {upstream}: no answer within {timeout:?}")]
    Timeout {
        /// To where.
        upstream: Upstream,
        /// How long was waited.
        timeout: Duration,
    },
    /// The kernel refused.
    #[error("connecting to {upstream}: {step}: {source}")]
    Io {
        /// To where.
        upstream: Upstream,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether the process ran out of file descriptors, so that closing some would help.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Io { source, .. } if out_of_descriptors(source))
    }

    /// The failure of the request or connection that needed it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Timeout { .. } => Failure::ConnectTimeout,
            Self::Io { step, source, .. } => Failure::ConnectFailure {
                reason: Cow::Owned(format!("{step} error: {source}")),
            },
        }
    }
}

/// Whether an error means that no file descriptor or no memory for one is left.
pub(crate) fn out_of_descriptors(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let Some(raw) = error.raw_os_error() else {
        return false;
    };
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM].contains(&Errno::from_raw(raw))
}

/// Make a connection.
///
/// The local port is chosen at connect, not at bind (`IP_BIND_ADDRESS_NO_PORT`, ip(7)): all
/// inbound connections leave from 127.0.0.6 and would else share one range of ports.
///
/// # Errors
/// Where the kernel refuses a step, or the timeout is over.
pub async fn connect(connect: &Connect) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let upstream = connect.upstream;
    let failed = |step| {
        move |source| ConnectError::Io {
            upstream,
            step,
            source,
        }
    };
    let socket = open(connect)?;
    let connecting = socket.connect(upstream.0);
    let stream = tokio::time::timeout(connect.timeout, connecting)
        .await
        .map_err(|_elapsed| ConnectError::Timeout {
            upstream,
            timeout: connect.timeout,
        })?
        .map_err(failed("connect"))?;
    let local = stream.local_addr().map_err(failed("local address"))?;
    Ok((stream, local))
}

/// Let a socket be bound to the address of a client, and carry its mark.
///
/// # Errors
/// Where the kernel refuses: it needs `CAP_NET_ADMIN`.
pub(crate) fn act_as(socket: &Socket, client: &Client) -> io::Result<()> {
    match client.ip {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    match client.mark {
        Some(mark) => socket.set_mark(mark.get()),
        None => Ok(()),
    }
}

/// Send probes on a connection that rests.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn keep_alive(socket: SockRef<'_>, keepalive: &TcpKeepalive) -> io::Result<()> {
    let mut options = socket2::TcpKeepalive::new();
    if let Some(probes) = keepalive.probes {
        options = options.with_retries(probes);
    }
    if let Some(time) = keepalive.time {
        options = options.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        options = options.with_interval(interval);
    }
    socket.set_tcp_keepalive(&options)
}

fn open(connect: &Connect) -> Result<TcpSocket, ConnectError> {
    let upstream = connect.upstream;
    let failed = |step| {
        move |source| ConnectError::Io {
            upstream,
            step,
            source,
        }
    };
    let socket = Socket::new(
        Domain::for_address(upstream.0),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(failed("socket"))?;
    socket.set_nonblocking(true).map_err(failed("socket"))?;
    socket
        .set_tcp_nodelay(true)
        .map_err(failed("TCP_NODELAY"))?;
    if let Some(keepalive) = &connect.keepalive {
        keep_alive(SockRef::from(&socket), keepalive).map_err(failed("SO_KEEPALIVE"))?;
    }
    let same_family = |client: &Client| client.ip.is_ipv4() == upstream.0.is_ipv4();
    let client = connect.client.filter(same_family);
    if let Some(client) = &client {
        act_as(&socket, client)
            .map_err(failed("IP_TRANSPARENT (original_src needs CAP_NET_ADMIN)"))?;
    }
    if let Some(source) = client.map(|client| client.ip).or(connect.source) {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
            .map_err(|e| failed("IP_BIND_ADDRESS_NO_PORT")(e.into()))?;
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(failed("bind"))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}
