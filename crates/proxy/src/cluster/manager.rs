//! A worker's own state of each cluster it uses: pools and the load balancer's cursor.

use crate::addr::Destination;
use crate::addr::Upstream;
use crate::cluster::lb::round_robin::RoundRobin;
use crate::error::Failure;
use crate::ids::ClusterId;
use crate::observe::stats::CodeCounters;
use crate::snapshot::{Cluster, Endpoints};
use crate::store::{Store, View};
use crate::upstream::pool::Pool;
use crate::worker::Worker;
use hashbrown::HashMap;
use http::StatusCode;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a pool to an original destination is kept without a connection or use.
const UNUSED_POOL_LIFE: Duration = Duration::from_secs(60);

/// The clusters that a worker has used.
#[derive(Debug, Default)]
pub struct WorkerClusters {
    view: View<Cluster>,
    used: Vec<Option<Rc<WorkerCluster>>>,
}

impl WorkerClusters {
    /// The cluster of this id as it is now, or `None` where there is none.
    pub fn get(
        &mut self,
        store: &Store,
        id: ClusterId,
        make: impl FnOnce(&Arc<Cluster>) -> WorkerCluster,
    ) -> Option<Rc<WorkerCluster>> {
        let config = self.view.cluster(store, id)?;
        let index = id.0 as usize;
        if self.used.len() <= index {
            self.used.resize_with(index + 1, || None);
        }
        let slot = &mut self.used[index];
        match slot {
            Some(cluster) if Arc::ptr_eq(&cluster.config, config) => {}
            _ => *slot = Some(Rc::new(make(config))),
        }
        slot.clone()
    }

    /// Close what idled for too long.
    pub fn expire(&self, now: Instant) {
        self.used
            .iter()
            .flatten()
            .for_each(|cluster| cluster.expire(now));
    }

    /// Close every idle upstream connection.
    pub fn close_idle(&self) {
        self.used
            .iter()
            .flatten()
            .for_each(|cluster| cluster.close_idle());
    }
}

/// A cluster, as one worker uses it.
#[derive(Debug)]
pub struct WorkerCluster {
    /// What it is.
    pub config: Arc<Cluster>,
    codes: CodeCounters,
    balancer: RefCell<RoundRobin>,
    /// For a static cluster: one for each endpoint, in order.
    fixed: Box<[Rc<Pool>]>,
    /// For an `ORIGINAL_DST` cluster: made on first use.
    by_destination: RefCell<HashMap<SocketAddr, Rc<Pool>>>,
}

impl WorkerCluster {
    /// The worker's state of a cluster that it uses for the first time.
    pub fn new(config: &Arc<Cluster>, codes: CodeCounters, offset: u16, now: Instant) -> Self {
        let fixed = match &config.endpoints {
            Endpoints::Static(endpoints) => endpoints
                .iter()
                .map(|endpoint| {
                    let upstream = Upstream(endpoint.address);
                    Pool::new(Arc::clone(config), upstream, endpoint.tls.clone(), now)
                })
                .collect(),
            Endpoints::OriginalDst { .. } => Box::default(),
        };
        Self {
            config: Arc::clone(config),
            codes,
            balancer: RefCell::new(RoundRobin::starting_at(offset)),
            fixed,
            by_destination: RefCell::default(),
        }
    }

    /// The pool of the endpoint that the next request or connection goes to.
    ///
    /// # Errors
    /// Where the cluster has no endpoint, or would send the connection back to this proxy.
    pub fn pick(&self, worker: &Worker, destination: Destination) -> Result<Rc<Pool>, Failure> {
        let port_override = match &self.config.endpoints {
            Endpoints::Static(_) => {
                let chosen = self.balancer.borrow_mut().pick(self.fixed.len());
                let pool = chosen.map(|index| Rc::clone(&self.fixed[index]));
                return pool.ok_or(Failure::NoHealthyUpstream);
            }
            Endpoints::OriginalDst { port_override } => *port_override,
        };
        // A connection that was made to us directly has no other destination than ourselves.
        let mut original = match destination.original {
            Some(original) if !worker.process.is_own(original, destination) => original.0,
            _ => return Err(Failure::NoHealthyUpstream),
        };
        if let Some(port) = port_override {
            original.set_port(port);
        }
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry(original).or_insert_with(|| {
            Pool::new(
                Arc::clone(&self.config),
                Upstream(original),
                self.config.tls.clone(),
                worker.clock.now(),
            )
        });
        Ok(Rc::clone(pool))
    }

    /// Count a response by its status.
    pub fn count_status(&self, worker: &Worker, status: StatusCode) {
        self.codes.inc(&worker.stats, status);
    }

    fn expire(&self, now: Instant) {
        self.fixed.iter().for_each(|pool| pool.expire(now));
        let mut pools = self.by_destination.borrow_mut();
        pools.values().for_each(|pool| pool.expire(now));
        if let Some(before) = now.checked_sub(UNUSED_POOL_LIFE) {
            pools.retain(|_, pool| !pool.is_unused_since(before));
        }
    }

    fn close_idle(&self) {
        self.fixed.iter().for_each(|pool| pool.close_idle());
        self.by_destination
            .borrow()
            .values()
            .for_each(|pool| pool.close_idle());
    }
}
