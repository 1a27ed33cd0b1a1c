//! A worker: one thread, one runtime, and all the connections it accepted.
//!
//! Workers share nothing on the hot path but the store's cells and atomic counters. What a worker
//! owns is behind `Rc` and never leaves its thread.

use crate::addr::{Destination, Downstream, OrigDst};
use crate::clock::Clock;
use crate::cluster::manager::{WorkerCluster, WorkerClusters};
use crate::connection::{Kick, Tracked};
use crate::drain::{Drain, Phase};
use crate::ids::{ClusterId, RouteTableId};
use crate::network::{Pipes, SCRATCH_BYTES};
use crate::observe::access_log::{AccessLogWriter, LogSet};
use crate::observe::outcome::{Begin, Outcome, Recorder};
use crate::observe::series::ProcessSeries;
use crate::observe::stats::{CodeCounters, Registry};
use crate::overload::Overload;
use crate::route::RouteTable;
use crate::snapshot::Cluster;
use crate::store::{Store, View};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
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
    /// Ports where redirected connections arrive.
    pub capture_ports: Vec<u16>,
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
        self.capture_ports.contains(&original.0.port())
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
    connections: RefCell<HashMap<u64, Rc<Tracked>>>,
    next_connection: Cell<u64>,
    /// The shortest idle timeout of any connection so far.
    shortest_timeout: Cell<Duration>,
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
            .get(&self.process.store, id, |config: &Arc<Cluster>| {
                let codes = CodeCounters::new(&self.process.registry, &config.name);
                let offset = self.rng.borrow_mut().u16(..);
                WorkerCluster::new(config, codes, offset, self.clock.now())
            })
    }

    /// The route table of this id, as it is now.
    pub fn route_table(&self, id: RouteTableId) -> Option<Arc<RouteTable>> {
        self.routes
            .borrow_mut()
            .route_table(&self.process.store, id)
            .cloned()
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

    /// Keep track of a connection until the guard is dropped.
    pub fn track(self: &Rc<Self>, tracked: &Rc<Tracked>) -> TrackGuard {
        let id = self.next_connection.get();
        self.next_connection.set(id.wrapping_add(1));
        let shortest = self.shortest_timeout.get().min(tracked.shortest_timeout());
        self.shortest_timeout.set(shortest);
        self.connections.borrow_mut().insert(id, Rc::clone(tracked));
        TrackGuard {
            worker: Rc::clone(self),
            id,
        }
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
        self.connections
            .borrow()
            .values()
            .for_each(|connection| connection.check_idle(now));
        self.clusters.borrow().expire(now);
    }

    /// Let every connection look at what has changed.
    pub(crate) fn wake_connections(&self) {
        self.connections.borrow().values().for_each(|c| c.wake());
    }

    /// Whether any connection is open.
    pub(crate) fn has_connections(&self) -> bool {
        !self.connections.borrow().is_empty()
    }

    /// End every connection; returns how many were in use: a TCP stream, or a request in flight.
    pub(crate) fn kick_all(&self) -> usize {
        let connections = self.connections.borrow();
        let in_use = connections.values();
        let in_use = in_use.filter(|c| c.in_request() && !c.is_stream()).count();
        connections
            .values()
            .for_each(|connection| connection.kick(Kick::DrainEnd));
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
