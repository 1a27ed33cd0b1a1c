//! A worker's own state of each cluster it uses: pools and the load balancer's cursor.

use crate::addr::{Client, Destination, Upstream};
use crate::cluster::balancer::Balancer;
use crate::cluster::load::InFlight;
use crate::error::Failure;
use crate::ids::ClusterId;
use crate::observe::stats::CodeCounters;
use crate::snapshot::{Balancing, Cluster, ClusterTls, Endpoints};
use crate::store::{Store, View};
use crate::upstream::pool::Pool;
use crate::worker::Worker;
use hashbrown::{HashMap, HashSet};
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
    /// Version of the store when it was last looked for what is gone.
    looked_at: u64,
    used: Vec<Option<Rc<WorkerCluster>>>,
}

impl WorkerClusters {
    /// The cluster of this id as it is now, or `None` where there is none. `make` is given the
    /// version before.
    pub fn get(
        &mut self,
        store: &Store,
        id: ClusterId,
        make: impl FnOnce(&Arc<Cluster>, Option<&WorkerCluster>) -> WorkerCluster,
    ) -> Option<Rc<WorkerCluster>> {
        let config = self.view.cluster(store, id)?;
        let index = id.0 as usize;
        if self.used.len() <= index {
            self.used.resize_with(index + 1, || None);
        }
        let slot = &mut self.used[index];
        match slot {
            Some(cluster) if Arc::ptr_eq(&cluster.config, config) => {}
            _ => {
                let now = Rc::new(make(config, slot.as_deref()));
                if let Some(before) = slot.replace(Rc::clone(&now)) {
                    before.retire(Some(&now));
                }
            }
        }
        slot.clone()
    }

    /// Let go of versions that are no longer current, also of clusters that nobody asks for.
    pub fn let_go(
        &mut self,
        store: &Store,
        make: impl Fn(&Arc<Cluster>, &WorkerCluster) -> WorkerCluster,
    ) {
        if self.looked_at == store.version() {
            return;
        }
        self.looked_at = store.version();
        self.view.let_go(store);
        for (id, slot) in (0..).map(ClusterId).zip(&mut self.used) {
            let Some(used) = slot else { continue };
            match self.view.cluster(store, id) {
                Some(current) if Arc::ptr_eq(current, &used.config) => {}
                Some(current) => {
                    let now = Rc::new(make(current, used));
                    used.retire(Some(&now));
                    *used = now;
                }
                None => {
                    used.retire(None);
                    *slot = None;
                }
            }
        }
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

/// Where connections of a pool go, and whose address they leave from where that is not ours.
type Way = (SocketAddr, Option<Client>);

/// A cluster, as one worker uses it.
#[derive(Debug)]
pub struct WorkerCluster {
    /// What it is.
    pub config: Arc<Cluster>,
    codes: CodeCounters,
    balancer: Balancer,
    /// For a static cluster: one for each endpoint, in order.
    fixed: Box<[Rc<Pool>]>,
    /// For an `ORIGINAL_DST` cluster, and for connections that leave from a client's address: made
    /// on first use.
    by_destination: RefCell<HashMap<Way, Rc<Pool>>>,
}

/// An endpoint that was chosen.
#[derive(Debug)]
pub struct Picked {
    /// Connections to it.
    pub pool: Rc<Pool>,
    /// What was chosen for it counts as in flight as long as this is held, where the policy asks
    /// how much is.
    pub in_flight: Option<InFlight>,
}

impl WorkerCluster {
    /// The worker's state of a cluster, or of a version of it, that it uses for the first time.
    /// Endpoints that were in the version `before` keep their connections, where nothing else of
    /// the cluster changed.
    pub fn new(
        config: &Arc<Cluster>,
        before: Option<&Self>,
        codes: CodeCounters,
        rng: &mut fastrand::Rng,
        now: Instant,
    ) -> Self {
        let kept: HashMap<SocketAddr, &Rc<Pool>> = before
            .into_iter()
            .flat_map(|before| before.fixed.iter())
            .map(|pool| (pool.upstream.0, pool))
            .collect();
        let fixed = config.endpoints.fixed().iter();
        let fixed = fixed.map(|endpoint| match kept.get(&endpoint.address) {
            Some(pool) if pool.serves(&config.info, endpoint) => Rc::clone(pool),
            _ => {
                let upstream = Upstream(endpoint.address);
                let info = Arc::clone(&config.info);
                Pool::new(info, upstream, None, endpoint.tls.clone(), now)
            }
        });
        Self {
            config: Arc::clone(config),
            codes,
            balancer: Balancer::new(config, before.map(|before| &before.balancer), rng),
            fixed: fixed.collect(),
            by_destination: RefCell::default(),
        }
    }

    /// Whether it looks at a hash to choose an endpoint.
    pub fn is_hashed(&self) -> bool {
        matches!(self.config.balancing, Balancing::Hash(_))
    }

    /// The endpoint that the next request or connection goes to; `hash` is of what it is to be
    /// chosen by.
    ///
    /// # Errors
    /// Where the cluster has no endpoint, or would send the connection back to this proxy.
    pub fn pick(
        &self,
        worker: &Worker,
        destination: Destination,
        hash: Option<u64>,
    ) -> Result<Picked, Failure> {
        let port_override = match &self.config.endpoints {
            Endpoints::Static(endpoints) => {
                let chosen = self.balancer.pick(worker, &self.config, hash);
                let index = chosen.ok_or(Failure::NoHealthyUpstream)?;
                let pool = match destination.client {
                    Some(client) => {
                        let endpoint = &endpoints[index];
                        let (address, tls) = (endpoint.address, &endpoint.tls);
                        self.pool(worker, address, Some(client), tls)
                    }
                    None => Rc::clone(&self.fixed[index]),
                };
                let loads = self.config.loads.as_ref();
                let in_flight = loads.and_then(|loads| loads.begin(index));
                return Ok(Picked { pool, in_flight });
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
        Ok(Picked {
            pool: self.pool(worker, original, destination.client, &self.config.tls),
            in_flight: None,
        })
    }

    /// The pool of connections to this address, and from a client's where that is wanted.
    fn pool(
        &self,
        worker: &Worker,
        to: SocketAddr,
        client: Option<Client>,
        tls: &Option<Arc<ClusterTls>>,
    ) -> Rc<Pool> {
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry((to, client)).or_insert_with(|| {
            let info = Arc::clone(&self.config.info);
            let now = worker.clock.now();
            Pool::new(info, Upstream(to), client, tls.clone(), now)
        });
        Rc::clone(pool)
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

    /// It is no longer current: close what idles, and what is in use when it becomes idle, but for
    /// pools that the version after it took over.
    fn retire(&self, after: Option<&Self>) {
        let taken: HashSet<*const Pool> = after
            .into_iter()
            .flat_map(|after| after.fixed.iter().map(Rc::as_ptr))
            .collect();
        let gone = |pool: &&Rc<Pool>| !taken.contains(&Rc::as_ptr(pool));
        let by_destination = self.by_destination.borrow();
        let pools = self.fixed.iter().chain(by_destination.values());
        pools.filter(gone).for_each(|pool| pool.retire());
    }

    fn close_idle(&self) {
        self.fixed.iter().for_each(|pool| pool.close_idle());
        self.by_destination
            .borrow()
            .values()
            .for_each(|pool| pool.close_idle());
    }
}
