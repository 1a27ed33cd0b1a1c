//! The admin interface, on loopback only, and the readiness probe.
//!
//! Both run on the runtime of configuration, never on a worker's. What they show comes through
//! traits, so that the proxy needs no protobuf.

pub mod readiness;
mod server;

pub use server::{Admin, serve, serve_readiness};

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Shows the configuration; asked on a thread that may block.
pub trait ConfigDump: Send + Sync {
    /// The configuration as JSON, in the shape of Envoy's `/config_dump`.
    ///
    /// # Errors
    /// Where it cannot be shown, in words for a person.
    fn config_dump(&self) -> Result<Vec<u8>, String>;
}

/// A bound socket that only this pod can reach.
#[derive(Debug)]
pub struct LoopbackListener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Why the admin interface has no socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminBindError {
    /// Anybody in the network could reach it.
    #[error("admin address {address} is not loopback: the admin interface is loopback only; use 127.0.0.1:{port}", port = .address.port())]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The kernel refused.
    #[error(
        "cannot listen on {address} for the admin interface (is another sidecar running in this pod?)"
    )]
    Io {
        /// What was asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LoopbackListener {
    /// Listen on a loopback address.
    ///
    /// # Errors
    /// Where the address is not loopback or is taken.
    pub fn bind(address: SocketAddr) -> Result<Self, AdminBindError> {
        if !address.ip().is_loopback() {
            return Err(AdminBindError::NotLoopback { address });
        }
        let failed = |source| AdminBindError::Io { address, source };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn into_socket(self) -> TcpListener {
        self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        let error = LoopbackListener::bind(([0, 0, 0, 0], 0).into()).unwrap_err();
        assert!(error.to_string().contains("loopback only"), "{error}");
    }

    #[test]
    fn a_taken_address_is_named() {
        let first = LoopbackListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let error = LoopbackListener::bind(first.local_addr()).unwrap_err();
        assert!(
            error.to_string().contains(&first.local_addr().to_string()),
            "{error}"
        );
    }
}
