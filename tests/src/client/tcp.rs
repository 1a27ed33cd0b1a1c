//! TCP clients, as methods of [`AsUser`].

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::DEADLINE;
use crate::net::AsUser;
use crate::server::Sighting;

impl AsUser<'_> {
    /// Connects. The stream reads and writes with a timeout of [`DEADLINE`] and may be used from
    /// any thread.
    ///
    /// # Errors
    /// Refused, unreachable, or no answer within [`DEADLINE`].
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.open(to, None)
    }

    /// As [`AsUser::connect`], from a source address of the caller's choice.
    ///
    /// # Errors
    /// As for [`AsUser::connect`]; or the pod does not have the source address.
    pub fn connect_from(&self, source: IpAddr, to: SocketAddr) -> Result<TcpStream> {
        self.open(to, Some(source))
    }

    /// Connects to an echo server and reads its greeting.
    ///
    /// # Errors
    /// Not connected, or whoever answered is no echo server that speaks first.
    pub fn greet(&self, to: SocketAddr) -> Result<Sighting> {
        greeting(&self.connect(to)?).with_context(|| format!("waiting for a greeting from {to}"))
    }

    /// As [`AsUser::greet`], from a source address of the caller's choice.
    ///
    /// # Errors
    /// As for [`AsUser::greet`] and [`AsUser::connect_from`].
    pub fn greet_from(&self, source: IpAddr, to: SocketAddr) -> Result<Sighting> {
        greeting(&self.connect_from(source, to)?)
            .with_context(|| format!("waiting for a greeting from {to} to {source}"))
    }

    fn open(&self, to: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream> {
        self.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
                .context("making a socket")?;
            if let Some(source) = source {
                let source = SocketAddr::from((source, 0));
                socket
                    .bind(&source.into())
                    .with_context(|| format!("binding source {source}"))?;
            }
            socket
                .connect_timeout(&to.into(), DEADLINE)
                .with_context(|| format!("connecting to {to}"))?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_write_timeout(Some(DEADLINE))?;
            Ok(stream)
        })
    }
}

/// Reads the line with which an echo server tells what it saw, and no byte beyond it.
///
/// # Errors
/// The stream ends, times out, or says something else.
pub fn greeting(stream: &TcpStream) -> Result<Sighting> {
    // One byte of buffer: what follows the line is the caller's.
    let mut line = String::new();
    BufReader::with_capacity(1, stream).read_line(&mut line)?;
    line.parse()
}
