//! What is in flight at an endpoint, in the whole process: requests, and connections of TCP.

use crate::snapshot::StaticEndpoint;
use hashbrown::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A count of what is in flight.
#[derive(Debug, Default)]
struct Load(AtomicU32);

impl Load {
    fn get(&self) -> u32 {
        // Relaxed: it is a hint for a choice between endpoints, and guards nothing.
        self.0.load(Ordering::Relaxed)
    }
}

/// What is in flight in a cluster.
#[derive(Debug)]
pub struct Loads {
    total: Arc<Load>,
    each: Box<[Arc<Load>]>,
}

impl Loads {
    /// Those of these endpoints; who was there in the version `before`, goes on being counted.
    pub fn new(endpoints: &[StaticEndpoint], before: Option<(&[StaticEndpoint], &Self)>) -> Self {
        let known: HashMap<SocketAddr, &Arc<Load>> = before
            .into_iter()
            .flat_map(|(endpoints, loads)| endpoints.iter().zip(&loads.each))
            .map(|(endpoint, load)| (endpoint.address, load))
            .collect();
        let each = endpoints.iter().map(|endpoint| {
            let known = known.get(&endpoint.address);
            known.map_or_else(Arc::default, |load| Arc::clone(load))
        });
        Self {
            total: before.map_or_else(Arc::default, |(_, loads)| Arc::clone(&loads.total)),
            each: each.collect(),
        }
    }

    /// What is in flight at all endpoints together.
    pub fn total(&self) -> u32 {
        self.total.get()
    }

    /// What is in flight at one endpoint.
    pub fn at(&self, endpoint: usize) -> u32 {
        self.each.get(endpoint).map_or(0, |load| load.get())
    }

    /// One more at an endpoint.
    pub fn begin(&self, endpoint: usize) -> Option<InFlight> {
        let endpoint = self.each.get(endpoint)?;
        Some(InFlight::begin(endpoint, &self.total))
    }
}

/// Something in flight at an endpoint and in its cluster, until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Load>,
    cluster: Arc<Load>,
}

impl InFlight {
    fn begin(endpoint: &Arc<Load>, cluster: &Arc<Load>) -> Self {
        for load in [endpoint, cluster] {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            endpoint: Arc::clone(endpoint),
            cluster: Arc::clone(cluster),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for load in [&self.endpoint, &self.cluster] {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
