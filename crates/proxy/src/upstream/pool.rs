//! Connections to one endpoint, kept by one worker.
//!
//! A pool hands out a connection that is idle, makes one where the cluster's circuit breaker
//! lets it, else lets the request wait for the next that becomes free.

use crate::addr::{Client, Upstream};
use crate::cluster::breaker::{Permit, Resource};
use crate::error::Failure;
use crate::http::body::RequestBody;
use crate::http::tunnel::End;
use crate::model::{HeaderCase, UpstreamProtocol};
use crate::observe::limited;
use crate::snapshot::{ClusterInfo, ClusterTls, StaticEndpoint};
use crate::transport::io::Io;
use crate::transport::stream::{Plain, Stream};
use crate::transport::tls::client::Purpose;
use crate::transport::watched::WatchedIo;
use crate::upstream::http2::Http2;
use crate::upstream::open::{OpenConnection, open};
use crate::upstream::pooled::{Heir, PooledConnection, Want};
use crate::upstream::switch::{Switched, SwitchedPlace};
use crate::worker::Worker;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Connections of one worker to one endpoint of one cluster.
#[derive(Debug)]
pub struct Pool {
    /// The endpoint.
    pub upstream: Upstream,
    /// Whose address its connections leave from, where that is not ours.
    pub(super) client: Option<Client>,
    pub(super) cluster: Arc<ClusterInfo>,
    tls: Option<Arc<ClusterTls>>,
    /// Those of HTTP/2. All below is of HTTP/1.1, but for the count of all.
    pub(super) http2: Http2,
    idle: RefCell<Vec<Idle>>,
    open: Cell<u32>,
    waiters: RefCell<VecDeque<oneshot::Sender<Option<PooledConnection>>>>,
    pub(super) used_at: Cell<Instant>,
    /// The configuration has no such endpoint any more.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: PooledConnection,
    since: Instant,
}

impl Pool {
    /// A pool without connections.
    pub fn new(
        cluster: Arc<ClusterInfo>,
        upstream: Upstream,
        client: Option<Client>,
        tls: Option<Arc<ClusterTls>>,
        now: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            upstream,
            client,
            cluster,
            tls,
            http2: Http2::default(),
            idle: RefCell::default(),
            open: Cell::new(0),
            waiters: RefCell::default(),
            used_at: Cell::new(now),
            retired: Cell::new(false),
        })
    }

    /// Whether its connections are what this endpoint of this cluster needs.
    pub fn serves(&self, cluster: &Arc<ClusterInfo>, endpoint: &StaticEndpoint) -> bool {
        let same_tls = match (&self.tls, &endpoint.tls) {
            (Some(mine), Some(wanted)) => Arc::ptr_eq(mine, wanted),
            (None, None) => true,
            _ => false,
        };
        same_tls && self.upstream.0 == endpoint.address && Arc::ptr_eq(&self.cluster, cluster)
    }

    /// Close what idles, and each connection in use when it becomes idle.
    pub fn retire(&self) {
        self.retired.set(true);
        self.close_idle();
    }

    /// Whether it has a connection, or makes one.
    pub(super) fn is_open(&self) -> bool {
        self.open.get() > 0
    }

    /// Whether a connection is of no use once nothing is open on it.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// A connection to send one request on.
    ///
    /// # Errors
    /// Where none can be made, or too many requests wait already.
    pub async fn checkout(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        want: Want,
    ) -> Result<PooledConnection, Failure> {
        self.used_at.set(worker.clock.now());
        let mut free = None;
        let rested = || (want == Want::Any).then(|| self.pop_idle()).flatten();
        loop {
            while let Some(mut connection) = free.take().or_else(rested) {
                if self.is_too_old(connection.born, worker.clock.now()) {
                    continue;
                }
                // The codec may not have turned since the last response ended; one that was
                // closed meanwhile answers with an error.
                if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                    return Ok(connection);
                }
            }
            let Some(permit) = self.permit(worker) else {
                free = match self.pop_idle() {
                    None => self.wait(worker).await?,
                    rested => rested,
                };
                continue;
            };
            // Boxed: a request seldom makes a connection, and every open downstream holds the memory
            // of a request.
            return Box::pin(self.open(worker, permit)).await;
        }
    }

    /// A place for one more connection, where the circuit breaker has one.
    pub(super) fn permit(&self, worker: &Worker) -> Option<Permit> {
        let breaker = &self.cluster.breaker;
        let permit = breaker.take(Resource::Connection);
        if permit.is_some() {
            return permit;
        }
        if self.open.get() == 0 {
            return Some(breaker.take_over_limit(Resource::Connection));
        }
        worker.stats.inc(self.cluster.series.cx_overflow);
        None
    }

    /// A connection of its own for one TCP stream.
    ///
    /// # Errors
    /// Where none can be made, or the circuit breaker is open.
    pub async fn connect(
        &self,
        worker: &Rc<Worker>,
    ) -> Result<(Stream, SocketAddr, OpenConnection), Failure> {
        self.used_at.set(worker.clock.now());
        let Some(permit) = self.cluster.breaker.take(Resource::Connection) else {
            worker.stats.inc(self.cluster.series.cx_overflow);
            return Err(Failure::Overflow);
        };
        self.connection(worker, permit, Purpose::Bytes).await
    }

    /// Make a connection and secure it.
    pub(super) async fn connection(
        &self,
        worker: &Rc<Worker>,
        permit: Permit,
        purpose: Purpose,
    ) -> Result<(Stream, SocketAddr, OpenConnection), Failure> {
        let begun = Instant::now();
        let (tcp, local, open) = open(self, worker, permit).await?;
        let plain = Plain::from(tcp);
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(plain), local, open));
        };
        // The time to connect is for both together.
        let left = self.cluster.connect_timeout.saturating_sub(begun.elapsed());
        let context = tls.client.current();
        // Boxed: connections in plaintext do not hold the memory of a handshake.
        let handshake = Box::pin(context.tls.connect(plain, self.upstream, purpose));
        let shaken = tokio::time::timeout(left, handshake).await;
        let series = &self.cluster.series;
        match shaken {
            Ok(Ok((stream, resumed))) => {
                tls.count(&worker.stats, Ok(resumed));
                Ok((stream, local, open))
            }
            Ok(Err(error)) => {
                tls.count(&worker.stats, Err(&error));
                worker.stats.inc(series.cx_connect_fail);
                limited::warn("upstream TLS", &error);
                let reason = error.reason();
                Err(Failure::ConnectFailure { reason })
            }
            Err(_elapsed) => {
                worker.stats.inc(series.cx_connect_fail);
                worker.stats.inc(series.cx_connect_timeout);
                Err(Failure::ConnectTimeout)
            }
        }
    }

    /// Whether a connection is too old to serve another request.
    pub(super) fn is_too_old(&self, born: Instant, now: Instant) -> bool {
        let limit = self.cluster.max_connection_duration;
        limit.is_some_and(|limit| now.saturating_duration_since(born) >= limit)
    }

    fn pop_idle(&self) -> Option<PooledConnection> {
        self.idle.borrow_mut().pop().map(|idle| idle.connection)
    }

    /// Wait for a connection of this pool to become free; `None` = one was closed, try again.
    async fn wait(&self, worker: &Worker) -> Result<Option<PooledConnection>, Failure> {
        let series = &self.cluster.series;
        let Some(_pending) = self.cluster.breaker.take(Resource::PendingRequest) else {
            worker.stats.inc(series.rq_pending_overflow);
            return Err(Failure::Overflow);
        };
        let (sender, receiver) = oneshot::channel();
        self.waiters.borrow_mut().push_back(sender);
        Ok(receiver.await.unwrap_or(None))
    }

    async fn open(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        permit: Permit,
    ) -> Result<PooledConnection, Failure> {
        // Counted from here on: a pool that is making its first connection has one.
        let mut place = PoolPlace::take(self);
        let purpose = match self.cluster.protocol {
            UpstreamProtocol::Negotiated => Purpose::OnlyHttp1,
            _ => Purpose::Http1,
        };
        let (stream, local, open) = self.connection(worker, permit, purpose).await?;
        place.open = Some(open);
        self.speak_http1(worker, stream, local, place).await
    }

    /// Begin to speak HTTP/1.1 on a connection that was made.
    pub(super) async fn speak_http1(
        &self,
        worker: &Worker,
        stream: Stream,
        local: SocketAddr,
        place: PoolPlace,
    ) -> Result<PooledConnection, Failure> {
        let mut builder = http1::Builder::new();
        if let Some(most) = self.cluster.max_headers_count {
            builder.max_headers(most as usize);
        }
        match self.cluster.header_case {
            HeaderCase::Lower => {}
            HeaderCase::Proper => drop(builder.title_case_headers(true)),
            HeaderCase::Preserved => drop(builder.preserve_header_case(true)),
        }
        let (io, watch) = WatchedIo::new(Io::upstream(stream));
        let handshake = builder
            .max_buf_size(crate::http::MAX_HEAD_BYTES)
            // Old servers fold headers (RFC 9112 §5.2): a proxy joins the lines.
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake::<_, RequestBody>(TokioIo::new(io))
            .await;
        let (sender, mut connection) =
            handshake.map_err(|_closed| Failure::ConnectionTermination)?;
        let heir = Rc::<Heir>::default();
        let wanted = Rc::clone(&heir);
        tokio::task::spawn_local(async move {
            // How it ended is the business of the request that was on it.
            let Some(heir) = wanted.drive(&mut connection).await else {
                return drop(place);
            };
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            let switched = Switched {
                end: End::Connection(io.into_inner().into_inner()),
                read: read_buf,
                place: SwitchedPlace::Pool(place),
            };
            let _gone = heir.send(switched);
        });
        Ok(PooledConnection {
            sender,
            local,
            served: 0,
            rested: false,
            is_last: false,
            born: worker.clock.now(),
            heir,
            watch,
        })
    }

    /// Take back a connection whose request and response are complete.
    pub fn put(&self, mut connection: PooledConnection, now: Instant) {
        connection.served += 1;
        let limit = self.cluster.max_requests_per_connection;
        if !connection.is_last && limit.is_none_or(|max| connection.served < max) {
            self.keep(connection, now);
        }
    }

    /// Let a connection serve whoever is next.
    pub(super) fn keep(&self, mut connection: PooledConnection, now: Instant) {
        connection.rested = true;
        if connection.sender.is_closed() {
            return;
        }
        if self.is_too_old(connection.born, now) {
            return;
        }
        while let Some(waiter) = self.waiters.borrow_mut().pop_front() {
            match waiter.send(Some(connection)) {
                Ok(()) => return,
                Err(Some(returned)) => connection = returned,
                Err(None) => return,
            }
        }
        if self.retired.get() {
            return;
        }
        self.idle.borrow_mut().push(Idle {
            connection,
            since: now,
        });
    }

    /// Close connections that idled for too long.
    pub fn expire(&self, now: Instant) {
        let timeout = self.cluster.idle_timeout;
        self.idle.borrow_mut().retain(|idle| {
            let still = now.saturating_duration_since(idle.since);
            !idle.connection.sender.is_closed()
                && timeout.is_none_or(|t| still < t)
                && !self.is_too_old(idle.connection.born, now)
        });
        if self.cluster.max_connection_duration.is_some() {
            self.http2.forget_where(|born| self.is_too_old(born, now));
        }
        if let Some(timeout) = timeout {
            let is_over = |since| now.saturating_duration_since(since) >= timeout;
            self.http2.close_where(is_over);
        }
    }

    /// Close every idle connection.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().clear();
        self.http2.close_where(|_since| true);
    }

    /// Whether it has no connection and no use since `before`.
    pub fn is_unused_since(&self, before: Instant) -> bool {
        let waited_for = !self.waiters.borrow().is_empty() || self.http2.is_waited_for();
        self.open.get() == 0 && !waited_for && self.used_at.get() < before
    }
}

/// A connection of a pool, also while it is being made. Tells the pool when it is gone.
pub struct PoolPlace {
    pool: Rc<Pool>,
    pub(super) open: Option<OpenConnection>,
}

impl PoolPlace {
    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    pub(super) fn take(pool: &Rc<Pool>) -> Self {
        pool.open.set(pool.open.get() + 1);
        Self {
            pool: Rc::clone(pool),
            open: None,
        }
    }
}

impl Drop for PoolPlace {
    fn drop(&mut self) {
        // First the place under the limit, so that whoever waits finds it.
        self.open = None;
        let pool = &self.pool;
        pool.open.set(pool.open.get() - 1);
        pool.http2.wake_for_connection();
        while let Some(waiter) = pool.waiters.borrow_mut().pop_front() {
            if waiter.send(None).is_ok() {
                break;
            }
        }
    }
}
