//! A bound address and the listener that takes connections there now.
//!
//! A new version of a listener, or another listener at its address, takes over the sockets of the
//! one before: no connection that waits there is lost.

use crate::snapshot::Listener;
use arc_swap::ArcSwap;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::watch;

/// A bound address, shared by the workers' accept loops.
#[derive(Debug)]
pub struct Slot {
    current: ArcSwap<Listener>,
    closed: watch::Sender<bool>,
}

/// A socket that a worker is to accept from.
#[derive(Debug)]
pub struct Socket {
    /// What it belongs to.
    pub slot: Arc<Slot>,
    /// One of several that are bound to its address.
    pub socket: TcpListener,
}

impl Slot {
    /// An address at which this listener takes connections.
    pub fn new(listener: Arc<Listener>) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::new(listener),
            closed: watch::Sender::new(false),
        })
    }

    /// The listener that takes connections now.
    pub fn listener(&self) -> Arc<Listener> {
        self.current.load_full()
    }

    /// From now on this listener takes them.
    pub fn set_listener(&self, listener: Arc<Listener>) {
        self.current.store(listener);
    }

    /// Nobody takes connections there any more: those that wait are served, then the sockets are
    /// closed.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Until it is closed.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as we do.
        let _ended = closed.wait_for(|closed| *closed).await;
    }
}
