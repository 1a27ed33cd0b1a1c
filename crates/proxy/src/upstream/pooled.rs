//! A connection of HTTP/1 as its pool keeps it, and as a request uses it.

use crate::http::body::RequestBody;
use crate::transport::watched::{Look, Watch};
use crate::upstream::switch::Switched;
use http::Version;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::rt::{Read, Write};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
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
    pub heir: Rc<Heir>,
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

/// Who gets a connection once it does not speak HTTP any more: the request that asked for it.
#[derive(Debug, Default)]
pub struct Heir {
    waiting: RefCell<Option<oneshot::Sender<Switched>>>,
    /// The codec goes on, though the upstream has switched.
    taken_over: Cell<bool>,
    /// The connection's task.
    task: RefCell<Option<Waker>>,
}

impl Heir {
    /// Somebody asks for the connection.
    pub fn appoint(&self) -> oneshot::Receiver<Switched> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.replace(Some(sender));
        receiver
    }

    /// Who has asked does not get it.
    pub fn dismiss(&self) {
        self.waiting.take();
    }

    /// Take the connection away from the codec.
    pub fn take_over(&self) {
        self.taken_over.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Drive a connection until its codec has ended or it is taken away, and say who gets it.
    pub(super) async fn drive<T>(
        &self,
        connection: &mut Connection<T, RequestBody>,
    ) -> Option<oneshot::Sender<Switched>>
    where
        T: Read + Write + Unpin,
    {
        let ended = poll_fn(|cx| {
            if self.taken_over.get() {
                return Poll::Ready(Ok(()));
            }
            let mut task = self.task.borrow_mut();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
            drop(task);
            connection.poll_without_shutdown(cx)
        })
        .await;
        let heir = self.waiting.take();
        if heir.is_none() && ended.is_ok() {
            // Our side is ended in order. How that goes is the business of nobody any more.
            let _ended = connection.await;
        }
        heir
    }
}
