//! HTTP/2 connections of one worker to one endpoint: many requests share one.
//!
//! A request takes a place on a connection that has one. Where none has, a connection is made by a
//! task of its own, and everybody who needs it waits for the same: who gives up harms nobody else,
//! and what one learns of a failure, all learn.

use crate::cluster::breaker::{Permit, Resource};
use crate::error::Failure;
use crate::http::codec::keepalive::Keepalive;
use crate::http::guard::HeadLimits;
use crate::model::UpstreamProtocol;
use crate::transport::io::Io;
use crate::transport::tls::client::Purpose;
use crate::transport::watched::{Watch, WatchedIo};
use crate::upstream::pool::{Pool, PoolPlace};
use crate::worker::Worker;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::Version;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Instant;
use tokio::sync::oneshot;

/// What a pool has of HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    connections: RefCell<Vec<Rc<Connection>>>,
    connecting: Cell<bool>,
    /// Whether HTTP/2 was agreed on by the last connection, where that is negotiated.
    agreed: Cell<Option<bool>>,
    /// How many streams the endpoint took on its last connection; a new one begins with as many.
    known_limit: Cell<Option<usize>>,
    waiters: RefCell<VecDeque<oneshot::Sender<Result<News, Failure>>>>,
}

/// What one that waits for a place is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// There may be a place, or room for another connection.
    Look,
    /// A connection was made.
    Made,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    local: SocketAddr,
    /// What has passed through it.
    watch: Rc<Watch>,
    /// Streams that are open on it.
    active: Cell<u32>,
    served: Cell<u32>,
    born: Instant,
    idle_since: Cell<Instant>,
}

impl Connection {
    /// How many streams it would take besides those that are open.
    fn room(&self, configured: u32) -> usize {
        let limit = self.sender.current_max_send_streams();
        limit
            .min(configured as usize)
            .saturating_sub(self.active.get() as usize)
    }
}

/// A place for one stream; dropping it gives it back.
#[derive(Debug)]
pub struct StreamPlace {
    connection: Rc<Connection>,
    pool: Rc<Pool>,
    worker: Rc<Worker>,
}

impl StreamPlace {
    /// Our address on its connection.
    pub fn local(&self) -> SocketAddr {
        self.connection.local
    }

    /// Whether its connection has served others before, so that its upstream may have closed it.
    pub(super) fn has_rested(&self) -> bool {
        self.connection.served.get() > 1
    }

    /// Whether no other stream is open on its connection.
    pub(super) fn is_alone(&self) -> bool {
        self.connection.active.get() == 1
    }

    /// What has passed through its connection.
    pub(super) fn watch(&self) -> &Rc<Watch> {
        &self.connection.watch
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.active.set(connection.active.get() - 1);
        connection.idle_since.set(self.worker.clock.now());
        if self.pool.is_retired() && connection.active.get() == 0 {
            self.pool.http2.remove(connection);
        }
        self.pool.http2.wake_one();
    }
}

impl Http2 {
    /// Let one that waits look again.
    pub(super) fn wake_one(&self) {
        while let Some(waiter) = self.waiters.borrow_mut().pop_front() {
            if waiter.send(Ok(News::Look)).is_ok() {
                return;
            }
        }
    }

    /// A connection has ended: one that waits may make another. Where one is being made, all that
    /// wait are told of that.
    pub(super) fn wake_for_connection(&self) {
        if !self.connecting.get() {
            self.wake_one();
        }
    }

    /// Tell all that wait what came of the connection.
    fn settle(&self, made: &Result<(), Failure>) {
        self.connecting.set(false);
        for waiter in self.waiters.take() {
            // One that has given up needs to know nothing.
            let _gone = waiter.send(made.clone().map(|()| News::Made));
        }
    }

    /// Wait for a place.
    async fn wait(&self) -> Result<News, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.borrow_mut().push_back(sender);
        let mut waiting = Waiting {
            http2: self,
            receiver,
        };
        (&mut waiting.receiver).await.unwrap_or(Ok(News::Look))
    }

    fn remove(&self, connection: &Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|other| !Rc::ptr_eq(other, connection));
    }

    /// Close connections on which nothing is open, and of which this is true.
    pub(super) fn close_where(&self, idle_since: impl Fn(Instant) -> bool) {
        let keep = |c: &Rc<Connection>| c.active.get() > 0 || !idle_since(c.idle_since.get());
        self.connections.borrow_mut().retain(keep);
    }

    /// Give no further stream to connections of this age; each closes after its last.
    pub(super) fn forget_where(&self, born: impl Fn(Instant) -> bool) {
        let keep = |c: &Rc<Connection>| !born(c.born);
        self.connections.borrow_mut().retain(keep);
    }

    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }
}

/// One that waits for a place. Who gives up after having been told of one tells the next.
struct Waiting<'a> {
    http2: &'a Http2,
    receiver: oneshot::Receiver<Result<News, Failure>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Ok(Ok(_)) = self.receiver.try_recv() {
            self.http2.wake_one();
        }
    }
}

impl Pool {
    /// A place for a stream, on a connection that takes one at once.
    ///
    /// # Errors
    /// Where no connection can be made, or too many requests wait already.
    pub async fn stream(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
    ) -> Result<(StreamPlace, SendRequest<Bytes>), Failure> {
        self.used_at.set(worker.clock.now());
        loop {
            while let Some(place) = self.place(worker) {
                let sender = place.connection.sender.clone();
                let is_first = place.connection.served.get() == 1;
                match sender.ready().await {
                    Ok(sender) => return Ok((place, sender)),
                    // It goes away, and nothing was sent on it.
                    Err(_ended) => self.http2.remove(&place.connection),
                }
                if is_first {
                    // Another would do the same.
                    return Err(Failure::ConnectionTermination);
                }
            }
            let news = self.more(worker).await?;
            let has_ended = news == News::Made && self.http2.connections.borrow().is_empty();
            if has_ended || self.http2.agreed.get() == Some(false) {
                // It ended before it was used, or has forgotten HTTP/2 since it was asked.
                return Err(Failure::ConnectionTermination);
            }
        }
    }

    /// Whether a request that came by this version goes on by HTTP/2.
    ///
    /// # Errors
    /// Where the upstream has a say in it, and cannot be asked.
    pub async fn speaks_http2(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        downstream: Option<Version>,
    ) -> Result<bool, Failure> {
        match self.cluster.protocol {
            UpstreamProtocol::Http1 => Ok(false),
            UpstreamProtocol::Http2 => Ok(true),
            UpstreamProtocol::Downstream => Ok(downstream == Some(Version::HTTP_2)),
            // Boxed: others do not hold the memory of it.
            UpstreamProtocol::Negotiated => Box::pin(self.negotiated(worker)).await,
        }
    }

    /// What the connections that are open have agreed on; where there is none, one is made to
    /// learn it, and is there for whoever needs it.
    async fn negotiated(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<bool, Failure> {
        loop {
            match self.http2.agreed.get().filter(|_| self.is_open()) {
                Some(http2) => return Ok(http2),
                None if self.more(worker).await? == News::Look || self.is_open() => {}
                // It ended at once, and another would do the same.
                None => return Err(Failure::ConnectionTermination),
            }
        }
    }

    /// Make a connection unless one is being made, and wait for what comes of it, or for a place
    /// on another.
    async fn more(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<News, Failure> {
        if !self.http2.connecting.get()
            && !self.is_barred()
            && let Some(permit) = self.permit(worker)
        {
            self.http2.connecting.set(true);
            let (pool, worker) = (Rc::clone(self), Rc::clone(worker));
            tokio::task::spawn_local(async move {
                let made = pool.open_http2(&worker, permit).await;
                pool.http2.settle(&made);
            });
        }
        let Some(_pending) = self.cluster.breaker.take(Resource::PendingRequest) else {
            worker.stats.inc(self.cluster.series.rq_pending_overflow);
            return Err(Failure::Overflow);
        };
        self.http2.wait().await
    }

    /// Whether an upstream takes no stream at all for now (RFC 9113 §5.1.2): another connection
    /// would be as good as the one that is there.
    fn is_barred(&self) -> bool {
        let connections = self.http2.connections.borrow();
        let mut limits = connections
            .iter()
            .map(|c| c.sender.current_max_send_streams());
        limits.any(|limit| limit == 0)
    }

    /// An upstream may have said that it takes more streams: let as many as wait look again.
    fn make_use_of(&self, connection: &Weak<Connection>) {
        if let Some(connection) = connection.upgrade() {
            let room = connection.room(self.cluster.http2.max_concurrent_streams);
            let waiting = self.http2.waiters.borrow().len();
            for _ in 0..room.min(waiting) {
                self.http2.wake_one();
            }
        }
    }

    /// Close connections on which nothing is open.
    pub(super) fn close_resting_http2(&self) {
        self.http2.close_where(|_since| true);
    }

    /// A place on a connection that has one.
    fn place(self: &Rc<Self>, worker: &Rc<Worker>) -> Option<StreamPlace> {
        if self.cluster.max_connection_duration.is_some() {
            let now = worker.clock.now();
            self.http2.forget_where(|born| self.is_too_old(born, now));
        }
        let connections = self.http2.connections.borrow();
        let configured = self.cluster.http2.max_concurrent_streams;
        let has_place = |c: &&Rc<Connection>| {
            let limit = c.sender.current_max_send_streams();
            self.http2.known_limit.set(Some(limit));
            c.room(configured) > 0
        };
        let connection = Rc::clone(connections.iter().find(has_place)?);
        drop(connections);
        connection.active.set(connection.active.get() + 1);
        connection.served.set(connection.served.get() + 1);
        let most = self.cluster.max_requests_per_connection;
        if most.is_some_and(|most| connection.served.get() >= most) {
            self.http2.remove(&connection);
        }
        Some(StreamPlace {
            connection,
            pool: Rc::clone(self),
            worker: Rc::clone(worker),
        })
    }

    /// Make a connection, and keep it as long as it lives.
    async fn open_http2(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        permit: Permit,
    ) -> Result<(), Failure> {
        let mut place = PoolPlace::take(self);
        let is_negotiated = self.cluster.protocol == UpstreamProtocol::Negotiated;
        let purpose = match is_negotiated {
            true => Purpose::EitherHttp,
            false => Purpose::Http2,
        };
        let (stream, local, open) = self.connection(worker, permit, purpose).await?;
        place.open = Some(open);
        if is_negotiated {
            let http2 = stream.agreed_on_http2();
            self.http2.agreed.set(Some(http2));
            if !http2 {
                let connection = self.speak_http1(worker, stream, local, place).await?;
                self.keep(connection, worker.clock.now());
                return Ok(());
            }
        }
        let options = &self.cluster.http2;
        let (io, watch) = WatchedIo::new(Io::upstream(stream));
        let mut builder = client::Builder::new();
        if let Some(limit) = self.http2.known_limit.get() {
            builder.initial_max_send_streams(limit);
        }
        let handshake = builder
            .enable_push(false)
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .header_table_size(options.hpack_table)
            .max_header_list_size(u32::try_from(HeadLimits::default().list()).unwrap_or(u32::MAX))
            .handshake::<_, Bytes>(io)
            .await;
        let (sender, mut codec) = handshake.map_err(|_closed| Failure::ConnectionTermination)?;
        let settings = options.keepalive.zip(codec.ping_pong());
        let mut keepalive = settings.map(|(settings, pings)| Keepalive::new(settings, pings));
        let connection = Rc::new(Connection {
            sender,
            local,
            watch,
            active: Cell::new(0),
            served: Cell::new(0),
            born: worker.clock.now(),
            idle_since: Cell::new(worker.clock.now()),
        });
        let kept = Rc::clone(&connection);
        self.http2.connections.borrow_mut().push(kept);
        let connection = Rc::downgrade(&connection);
        tokio::task::spawn_local(async move {
            poll_fn(|cx| {
                if let Some(keepalive) = &mut keepalive
                    && keepalive.poll_lost(cx).is_ready()
                {
                    return Poll::Ready(());
                }
                // How it ended is the business of the requests that were on it.
                let ended = Pin::new(&mut codec).poll(cx).map(|_ended| ());
                if ended.is_pending() && place.pool().http2.is_waited_for() {
                    place.pool().make_use_of(&connection);
                }
                ended
            })
            .await;
            // Its streams hear of it first.
            drop(codec);
            if let Some(connection) = connection.upgrade() {
                place.pool().http2.remove(&connection);
            }
            drop(place);
        });
        Ok(())
    }
}
