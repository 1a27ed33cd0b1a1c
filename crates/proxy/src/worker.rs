//! A worker: one thread, one runtime, and all the connections it accepted.
//!
//! Workers share nothing on the hot path but the store's cells and atomic counters. What a worker
//! owns is behind `Rc` and never leaves its thread.

use crate::addr::{Destination, Downstream, OrigDst};
use crate::clock::Clock;
use crate::cluster::manager::{WorkerCluster, WorkerClusters};
use crate::connection::{Kick, Tracked};
use crate::drain::{Drain, Phase};
use crate::ids::ClusterId;
use crate::listener::draining::ChainDrain;
use crate::network::{Pipes, SCRATCH_BYTES};
use crate::observe::access_log::{AccessLogWriter, LogSet};
use crate::observe::outcome::{Begin, Outcome, Recorder};
use crate::observe::series::ProcessSeries;
use crate::observe::stats::{CodeCounters, Registry};
use crate::overload::Overload;
use crate::route::RouteTable;
use crate::snapshot::{Cluster, Routes};
use crate::store::{Store, View};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What all workers share.
#[derive(Debug)]
pub struct Process {
    /// The current configuration.
    pub store: Arc<Store>,
    /// Statistics.
    pub registry: Registry,
    /// Counters that belong to no resource.
    pub series: ProcessSeries,
    /// Access logs.
    pub logs: AccessLogWriter,
    /// How far the end of the process is.
    pub drain: Drain,
    /// How many connections there may be.
    pub overload: Arc<Overload>,
    /// Our own address, by which others know a client that is on our side of the network; unknown
    /// where nothing but the loopback interface has one.
    pub address: Option<IpAddr>,
}

/// How long an end at once may take to let records be written.
const AT_ONCE: Duration = Duration::from_millis(100);

impl Process {
    /// Cut every connection and write the records of that, without waiting for anybody long.
    pub async fn end_at_once(&self) {
        self.drain.advance(Phase::Ended);
        let gone = async {
            while self.overload.open() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _over = tokio::time::timeout(AT_ONCE, gone).await;
        self.logs.shutdown(AT_ONCE);
    }

    /// Whether this destination is one of our own capture ports on this pod: connecting to it
    /// would come back to us, for ever.
    pub fn is_own(&self, original: OrigDst, destination: Destination) -> bool {
        let ip = original.0.ip();
        self.store.is_capture_port(original.0.port())
            && (ip.is_loopback() || ip.is_unspecified() || ip == destination.arrived_at.ip())
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub process: Arc<Process>,
    /// This worker's counters, log lines, and the time.
    pub recorder: Rc<Recorder>,
    /// What reads go into before they are written elsewhere.
    pub scratch: RefCell<Box<[u8]>>,
    /// What bulk goes through that is not read.
    pub(crate) pipes: Pipes,
    rng: RefCell<fastrand::Rng>,
    clusters: RefCell<WorkerClusters>,
    routes: RefCell<View<RouteTable>>,
    connections: RefCell<HashMap<u64, Open>>,
    next_connection: Cell<u64>,
    /// The shortest idle timeout of any connection so far.
    shortest_timeout: Cell<Duration>,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    tracked: Rc<Tracked>,
    /// The end of the chain that serves it.
    chain: Arc<ChainDrain>,
}

/// How often a worker flushes its access log and looks for what timed out, unless a timeout is so
/// short that this would be late.
const TICK: Duration = Duration::from_millis(250);

/// The shortest tick, and how much of a timeout one may take: a connection idles that much longer.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
const TICKS_IN_A_TIMEOUT: u32 = 10;

impl Deref for Worker {
    type Target = Recorder;

    fn deref(&self) -> &Recorder {
        &self.recorder
    }
}

impl Worker {
    /// The worker of this index, `0..` workers.
    pub fn new(process: Arc<Process>, index: usize) -> Rc<Self> {
        Rc::new(Self {
            recorder: Rc::new(Recorder {
                stats: process.registry.worker(index),
                log: process.logs.worker(),
                clock: Clock::new(),
            }),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            pipes: Pipes::default(),
            rng: RefCell::new(fastrand::Rng::new()),
            clusters: RefCell::default(),
            routes: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            shortest_timeout: Cell::new(Duration::MAX),
            process,
        })
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    /// Use the worker's random numbers.
    pub fn with_rng<T>(&self, make: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        make(&mut self.rng.borrow_mut())
    }

    /// The cluster of this id, as it is now.
    pub fn cluster(&self, id: ClusterId) -> Option<Rc<WorkerCluster>> {
        self.clusters
            .borrow_mut()
            .get(&self.process.store, id, |config, before| {
                self.worker_cluster(config, before)
            })
    }

    fn worker_cluster(
        &self,
        config: &Arc<Cluster>,
        before: Option<&WorkerCluster>,
    ) -> WorkerCluster {
        let codes = CodeCounters::new(&self.process.registry, &config.name);
        let rng = &mut self.rng.borrow_mut();
        WorkerCluster::new(config, before, codes, rng, self.clock.now())
    }

    /// The route table of a connection manager, as it is now.
    pub fn route_table(&self, routes: &Routes) -> Option<Arc<RouteTable>> {
        match routes {
            Routes::Inline(table) => Some(Arc::clone(table)),
            Routes::Named(id) => self
                .routes
                .borrow_mut()
                .route_table(&self.process.store, *id)
                .cloned(),
        }
    }

    /// Close every idle upstream connection of this worker.
    pub fn close_idle_upstreams(&self) {
        self.clusters.borrow().close_idle();
    }

    /// The beginning of a record of a connection; it ends when it is dropped.
    pub fn record(
        &self,
        log: &Arc<LogSet>,
        downstream: Downstream,
        destination: Destination,
    ) -> Outcome {
        let begin = Begin {
            downstream_remote: downstream.0,
            downstream_local: destination.address,
            logs: log,
            captured: None,
            http: None,
        };
        Outcome::begin(&self.recorder, begin)
    }

    /// Keep track of a connection until the guard is dropped, or the drain of its chain is over.
    pub fn track(self: &Rc<Self>, tracked: &Rc<Tracked>, chain: &Arc<ChainDrain>) -> TrackGuard {
        let id = self.next_connection.get();
        self.next_connection.set(id.wrapping_add(1));
        self.expect_timeout(tracked.shortest_timeout());
        let open = Open {
            tracked: Rc::clone(tracked),
            chain: Arc::clone(chain),
        };
        self.connections.borrow_mut().insert(id, open);
        TrackGuard {
            worker: Rc::clone(self),
            id,
        }
    }

    /// Tick often enough for a timeout.
    pub fn expect_timeout(&self, timeout: Duration) {
        let shortest = self.shortest_timeout.get().min(timeout);
        self.shortest_timeout.set(shortest);
    }

    /// How long to wait for the next [`Worker::tick`].
    pub(crate) fn tick_interval(&self) -> Duration {
        (self.shortest_timeout.get() / TICKS_IN_A_TIMEOUT).clamp(SHORTEST_TICK, TICK)
    }

    /// Flush the access log and end what timed out; called every now and then.
    pub(crate) fn tick(&self) {
        self.clock.resynchronise();
        self.log.flush();
        let now = self.clock.now();
        for Open { tracked, chain } in self.connections.borrow().values() {
            tracked.check_idle(now);
            if chain.is_over(now) {
                tracked.kick(Kick::DrainEnd);
            } else if chain.has_begun() {
                // A connection of HTTP/2 tells its client before the next answer.
                tracked.wake();
            }
        }
        let mut clusters = self.clusters.borrow_mut();
        clusters.let_go(&self.process.store, |config, before| {
            self.worker_cluster(config, Some(before))
        });
        clusters.expire(now);
        self.routes.borrow_mut().let_go(&self.process.store);
    }

    /// Let every connection look at what has changed.
    pub(crate) fn wake_connections(&self) {
        let connections = self.connections.borrow();
        connections.values().for_each(|open| open.tracked.wake());
    }

    /// Whether any connection is open.
    pub(crate) fn has_connections(&self) -> bool {
        !self.connections.borrow().is_empty()
    }

    /// End every connection; returns how many were in use: a TCP stream, or a request in flight.
    pub(crate) fn kick_all(&self) -> usize {
        let connections = self.connections.borrow();
        let tracked = || connections.values().map(|open| &open.tracked);
        let in_use = tracked();
        let in_use = in_use.filter(|c| c.in_request() && !c.is_stream()).count();
        tracked().for_each(|connection| connection.kick(Kick::DrainEnd));
        in_use
    }
}

/// Ends the tracking of a connection.
#[derive(Debug)]
pub struct TrackGuard {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for TrackGuard {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.id);
    }
}
