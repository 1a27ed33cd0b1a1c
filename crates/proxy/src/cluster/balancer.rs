//! A worker's own part of a cluster's load balancing: whose turn it is.

use crate::cluster::lb::edf::Schedule;
use crate::cluster::lb::least_request;
use crate::cluster::lb::round_robin::RoundRobin;
use crate::cluster::load::Loads;
use crate::model::{Choices, LeastRequest};
use crate::snapshot::{Balancing, Cluster};
use crate::worker::Worker;
use std::cell::RefCell;

/// Chooses endpoints of one version of a cluster.
#[derive(Debug)]
pub struct Balancer {
    turns: RefCell<Turns>,
}

#[derive(Debug, Clone)]
enum Turns {
    /// All endpoints have the same weight.
    Alike(RoundRobin),
    /// Some get more than others.
    Weighted(Schedule),
}

impl Balancer {
    /// Where nobody has had a turn; or all go on from where they were in the version before.
    pub fn new(cluster: &Cluster, before: Option<&Self>, rng: &mut fastrand::Rng) -> Self {
        let endpoints = cluster.endpoints.fixed();
        let alike = endpoints.windows(2).all(|w| w[0].weight == w[1].weight);
        let by_weight = matches!(
            cluster.balancing,
            Balancing::RoundRobin | Balancing::LeastRequest(_)
        );
        let turns = if by_weight && !alike {
            let weights = endpoints.iter().map(|endpoint| f64::from(endpoint.weight));
            Turns::Weighted(Schedule::new(weights, || rng.f64()))
        } else {
            let before = before.and_then(|before| match &*before.turns.borrow() {
                Turns::Alike(cursor) => Some(cursor.clone()),
                Turns::Weighted(_) => None,
            });
            Turns::Alike(before.unwrap_or_else(|| RoundRobin::starting_at(rng.u16(..))))
        };
        Self {
            turns: RefCell::new(turns),
        }
    }

    /// The endpoint for the next request or connection, by its hash where the policy looks at one;
    /// without one it is any. `None` where there is no endpoint.
    pub fn pick(&self, worker: &Worker, cluster: &Cluster, hash: Option<u64>) -> Option<usize> {
        let endpoints = cluster.endpoints.fixed();
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        let picked = match &cluster.balancing {
            Balancing::RoundRobin => match &mut *self.turns.borrow_mut() {
                Turns::Alike(cursor) => return cursor.pick(endpoints.len()),
                Turns::Weighted(schedule) => {
                    schedule.pick(|i| f64::from(endpoints[i as usize].weight))
                }
            },
            Balancing::Random => least_request::of_some(count, 1, || worker.random(), |_| 0),
            Balancing::LeastRequest(config) => self.least_loaded(worker, cluster, *config),
            Balancing::Hash(table) => {
                let hash = hash.unwrap_or_else(|| worker.random());
                let total = cluster.loads.as_ref().map_or(0, Loads::total);
                table.pick(hash, total, |i| load(cluster, i))
            }
        };
        picked.map(|picked| picked as usize)
    }

    fn least_loaded(
        &self,
        worker: &Worker,
        cluster: &Cluster,
        config: LeastRequest,
    ) -> Option<u32> {
        let endpoints = cluster.endpoints.fixed();
        let load = |i| load(cluster, i);
        let len = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        if let Turns::Weighted(schedule) = &mut *self.turns.borrow_mut() {
            return schedule.pick(|i| {
                let busy = f64::from(load(i)) + 1.0;
                f64::from(endpoints[i as usize].weight) / busy.powf(config.bias)
            });
        }
        match config.choices {
            Choices::Some(count) => least_request::of_some(len, count, || worker.random(), load),
            Choices::All => least_request::of_all(len, || worker.random(), load),
        }
    }
}

fn load(cluster: &Cluster, endpoint: u32) -> u32 {
    let loads = cluster.loads.as_ref();
    loads.map_or(0, |loads| loads.at(endpoint as usize))
}
