//! Options of sockets (`envoy.config.core.v3`).

use std::time::Duration;

/// How a listening socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSocket {
    /// `transparent`: what TPROXY leads to it keeps its destination.
    pub transparent: bool,
    /// `freebind`: its address need not be there yet.
    pub freebind: bool,
    /// `tcp_backlog_size`: connections that may wait to be accepted; the kernel takes
    /// `net.core.somaxconn` where that is less. `None` = 4096.
    pub backlog: Option<u32>,
    /// `enable_reuse_port`: each worker has its own; else all share one, and no other process can
    /// have the port too.
    pub reuse_port: bool,
}

impl Default for ListenerSocket {
    /// Envoy's.
    fn default() -> Self {
        Self {
            transparent: false,
            freebind: false,
            backlog: None,
            reuse_port: true,
        }
    }
}

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
