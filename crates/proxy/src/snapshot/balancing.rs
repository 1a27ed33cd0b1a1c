//! How a cluster's endpoints are chosen, compiled: tables of hashes are built here, once for each
//! change of the endpoints, on the thread of the configuration.

use crate::cluster::lb::bounded::Bounds;
use crate::cluster::lb::maglev::Maglev;
use crate::cluster::lb::ring_hash::Ring;
use crate::cluster::lb::shares::{Candidate, Shares};
use crate::model::{self, ConsistentHashing, LbPolicy, LeastRequest};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How an endpoint is chosen among those of a static cluster.
#[derive(Debug, Clone)]
pub enum Balancing {
    /// In turn, by weight.
    RoundRobin,
    /// At random.
    Random,
    /// By what is in flight.
    LeastRequest(LeastRequest),
    /// By a hash of the request or connection.
    Hash(Arc<HashTable>),
}

/// Which endpoint a hash leads to, for one version of a cluster's endpoints.
#[derive(Debug)]
pub struct HashTable {
    table: Table,
    bounds: Option<Bounds>,
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl HashTable {
    /// The endpoint for a hash, as its place among the healthy ones; `None` where there is none.
    /// `total` and `load` are what is in flight in the cluster and at an endpoint.
    pub fn pick(&self, hash: u64, total: u32, load: impl Fn(u32) -> u32) -> Option<u32> {
        let chosen = match &self.table {
            Table::Ring(ring) => ring.pick(hash),
            Table::Maglev(maglev) => maglev.pick(hash),
        }?;
        Some(match &self.bounds {
            None => chosen,
            Some(bounds) => bounds.pick(hash, chosen, total, load),
        })
    }

    fn new(table: Table, shares: &Shares<'_>, hashing: &ConsistentHashing) -> Self {
        let factor = hashing.balance_factor;
        Self {
            table,
            bounds: factor.map(|factor| Bounds::new(shares, factor)),
        }
    }
}

impl Balancing {
    /// Compile a policy for these endpoints. A table stays the one of the version `before` where
    /// nothing differs that it is made of.
    pub(super) fn compile(
        config: &model::Cluster,
        before: Option<(&model::Cluster, &Self)>,
    ) -> Self {
        let model::ClusterKind::Static(endpoints) = &config.kind else {
            // There is but one endpoint.
            return Self::RoundRobin;
        };
        if let Some((before, Self::Hash(table))) = before
            && before.lb_policy == config.lb_policy
            && before.kind.is_balanced_like(&config.kind)
        {
            return Self::Hash(Arc::clone(table));
        }
        match &config.lb_policy {
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided => Self::RoundRobin,
            LbPolicy::Random => Self::Random,
            LbPolicy::LeastRequest(config) => Self::LeastRequest(*config),
            LbPolicy::RingHash(config, hashing) => with_shares(endpoints, hashing, |shares| {
                Table::Ring(Ring::build(shares, config))
            }),
            LbPolicy::Maglev(config, hashing) => with_shares(endpoints, hashing, |shares| {
                Table::Maglev(Maglev::build(shares, config.table_size()))
            }),
        }
    }
}

fn with_shares(
    endpoints: &[model::Endpoint],
    hashing: &ConsistentHashing,
    build: impl FnOnce(&Shares<'_>) -> Table,
) -> Balancing {
    let healthy = || endpoints.iter().filter(|endpoint| endpoint.healthy);
    // The spelling of Envoy: 10.0.0.1:80, [2001:db8::1]:80.
    let addresses: Vec<String> = healthy().map(|e| e.address.to_string()).collect();
    let candidates = (0..).zip(healthy()).zip(&addresses);
    let candidates = candidates.map(|((place, endpoint), address)| {
        let balanced = &endpoint.balanced;
        let by_name = balanced.hostname.as_ref().filter(|_| hashing.by_hostname);
        let named = balanced.hash_key.as_ref().or(by_name);
        let candidate = Candidate {
            endpoint: place,
            key: named.map_or(address.as_str(), |name| &**name),
            weight: balanced.weight,
        };
        (balanced.locality, candidate)
    });
    let shares = if hashing.by_locality {
        let of_all = endpoints.iter().map(|endpoint| &endpoint.balanced);
        // Also those without a healthy endpoint.
        let mut localities: BTreeMap<u32, (u32, Vec<Candidate<'_>>)> = of_all
            .map(|balanced| (balanced.locality, (balanced.locality_weight, Vec::new())))
            .collect();
        for (locality, candidate) in candidates {
            let (_, members) = localities.entry(locality).or_default();
            members.push(candidate);
        }
        let localities: Vec<_> = localities.into_values().collect();
        Shares::by_locality(&localities)
    } else {
        let candidates: Vec<_> = candidates.map(|(_, candidate)| candidate).collect();
        Shares::of(&candidates)
    };
    Balancing::Hash(Arc::new(HashTable::new(build(&shares), &shares, hashing)))
}
