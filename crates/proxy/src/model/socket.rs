//! Options of sockets (`envoy.config.core.v3`).

use std::time::Duration;

/// `TcpKeepalive`: probes on a connection that rests. `None` = what the kernel is set to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes` without an answer that end the connection, 1..=127.
    pub probes: Option<u32>,
    /// `keepalive_time`: rest before the first, 1 s to 32767 s.
    pub time: Option<Duration>,
    /// `keepalive_interval`: time between two, 1 s to 32767 s.
    pub interval: Option<Duration>,
}
