//! A connection of HTTP/1 as its pool keeps it, and as a request uses it.

use crate::http::body::RequestBody;
use crate::transport::watched::{Look, Watch};
use crate::upstream::switch::Switched;
use http::Version;
use hyper::client::conn::http1::SendRequest;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::oneshot;

/// A connection that one request may use.
#[derive(Debug)]
pub struct PooledConnection {
    /// Where requests go.
    pub sender: SendRequest<RequestBody>,
    /// Our address on it.
    pub local: SocketAddr,
    /// Requests that it served before this one.
    pub(super) served: u32,
    /// It has rested, so that its upstream may have closed it.
    pub(super) rested: bool,
    /// It serves no other request.
    pub(super) is_last: bool,
    /// When it was made.
    pub(super) born: Instant,
    /// Who gets the connection where its upstream switches protocols.
    pub heir: Heir,
    /// What has passed through it.
    pub(super) watch: Rc<Watch>,
}

/// Which connections may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Any: those that rest before a new one.
    Any,
    /// One that has not rested, as far as there may be a new one.
    New,
}

impl PooledConnection {
    /// Whether it has rested, so that its upstream may have closed it.
    pub fn has_rested(&self) -> bool {
        self.rested
    }

    /// A request is about to be sent on it, which cannot be sent again once it was written.
    pub fn look_first(&self) {
        if self.rested {
            self.watch.look_first(Look::Anything);
        }
    }

    /// What has passed through it.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// An answer of this version has come. hyper speaks what its upstream spoke last, and HTTP/1.0
    /// has no framing for a body without a length: what was answered in it serves no other request.
    pub fn answered_in(&mut self, version: Version) {
        self.is_last |= version < Version::HTTP_11;
    }
}

/// Set by a request that asks to switch protocols.
pub type Heir = Rc<RefCell<Option<oneshot::Sender<Switched>>>>;
