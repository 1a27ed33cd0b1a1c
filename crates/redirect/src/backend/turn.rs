//! One writer at a time. What a run writes is more than one transaction: rules, routes and an
//! address, and what another backend wrote earlier is taken away. Two runs side by side would each
//! take away what the other has just written.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

/// Held while rules are written, by whatever backend, or removed, and while they are verified; given
/// back with the process at the latest.
#[derive(Debug)]
pub struct Turn {
    _socket: Option<UnixDatagram>,
}

/// Abstract names of sockets belong to the network namespace, like the rules.
const NAME: &str = "shunt-init";
/// How long another run is waited for. A program of the pod may hold the name too, so this is a
/// courtesy: who waits longer goes on without.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

impl Turn {
    /// Waits for it, in the network namespace of the calling thread.
    #[must_use]
    pub fn take() -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let socket = SocketAddr::from_abstract_name(NAME)
                .and_then(|name| UnixDatagram::bind_addr(&name));
            match socket {
                Err(error)
                    if error.kind() == std::io::ErrorKind::AddrInUse
                        && Instant::now() < deadline =>
                {
                    thread::sleep(PAUSE);
                }
                other => {
                    return Self {
                        _socket: other.ok(),
                    };
                }
            }
        }
    }
}
