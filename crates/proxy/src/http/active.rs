//! A request in flight upstream, as its cluster counts it until it ends.

use crate::cluster::breaker::{Permit, Resource};
use crate::cluster::load::InFlight;
use crate::cluster::manager::WorkerCluster;
use crate::error::Failure;
use crate::http::cut::Cut;
use crate::worker::Worker;
use std::cell::Cell;
use std::rc::Rc;

/// A request in flight, as the cluster's counters and circuit breaker see it.
#[derive(Debug)]
pub struct ActiveRequest {
    worker: Rc<Worker>,
    cluster: Rc<WorkerCluster>,
    _permit: Permit,
    /// At which endpoint.
    pub(super) in_flight: Option<InFlight>,
    counted: bool,
}

impl ActiveRequest {
    /// A request begins, unless as many are in flight as may be.
    pub(super) fn begin(worker: &Rc<Worker>, cluster: &Rc<WorkerCluster>) -> Result<Self, Failure> {
        let series = &cluster.config.series;
        let Some(permit) = cluster.config.breaker.take(Resource::Request) else {
            worker.stats.inc(series.rq_pending_overflow);
            return Err(Failure::Overflow);
        };
        worker.stats.gauge_add(series.rq_active, 1);
        Ok(Self {
            worker: Rc::clone(worker),
            cluster: Rc::clone(cluster),
            _permit: permit,
            in_flight: None,
            counted: false,
        })
    }

    /// The request is given to a connection; one that was given back counts once.
    pub(super) fn sent(&mut self, given: &Cell<bool>) {
        given.set(true);
        if !std::mem::replace(&mut self.counted, true) {
            self.worker.stats.inc(self.cluster.config.series.rq_total);
        }
    }

    /// Its response was not let go on.
    pub(super) fn was_cut(&self, cut: Cut) {
        let series = &self.cluster.config.series;
        self.worker.stats.inc(match cut {
            Cut::Timeout => series.rq_timeout,
            Cut::Resting => series.rq_per_try_idle_timeout,
            Cut::Duration | Cut::Idle => return,
        });
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.worker
            .stats
            .gauge_add(self.cluster.config.series.rq_active, -1);
    }
}
