//! What a matched route does, and how it chooses its cluster.

use crate::ids::ClusterId;
use crate::model::{
    DirectResponse, HashPolicy, Name, PerTry, RouteAction, RouteForward, RouteTarget, RouteUpgrade,
    StreamIdle, TcpCluster, Timeouts, WeightedClusters,
};
use http::StatusCode;

/// What a matched route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// `route`: send the request to a cluster.
    Forward(Forward),
    /// `direct_response`: answer without an upstream.
    DirectResponse(DirectResponse),
}

/// `envoy.config.route.v3.RouteAction`, its clusters interned.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Which cluster.
    pub target: Target,
    /// How long a request may take.
    pub timeouts: Timeouts,
    /// How long its upstream may take.
    pub per_try: PerTry,
    /// How long a request may go without a byte.
    pub idle: StreamIdle,
    /// What is answered where the chosen cluster does not exist.
    pub cluster_not_found: StatusCode,
    /// What its requests may ask for, whatever the connection manager says.
    pub upgrades: Box<[RouteUpgrade]>,
    /// What an endpoint is chosen by, where the cluster looks at a hash.
    pub hash_policy: Box<[HashPolicy]>,
}

/// Which cluster a request or connection goes to. Interned: it may not exist (any more).
#[derive(Debug, Clone)]
pub enum Target {
    /// Always this one.
    Cluster(ClusterId),
    /// One of several, by weight.
    Weighted(WeightedTarget),
}

/// Clusters with the sums of their weights.
#[derive(Debug, Clone)]
pub struct WeightedTarget {
    /// In the order of the configuration, each with the sum of the weights up to and including
    /// its own.
    clusters: Box<[(u32, ClusterId)]>,
    /// The last of those sums, never 0 (the model checks it).
    total: u32,
}

impl Action {
    pub(super) fn compile(
        action: &RouteAction,
        intern: &mut dyn FnMut(&Name) -> ClusterId,
    ) -> Self {
        match action {
            RouteAction::Forward(forward) => Self::Forward(Forward::compile(forward, intern)),
            RouteAction::DirectResponse(response) => Self::DirectResponse(response.clone()),
        }
    }
}

impl Forward {
    fn compile(forward: &RouteForward, intern: &mut dyn FnMut(&Name) -> ClusterId) -> Self {
        Self {
            target: match &forward.target {
                RouteTarget::Cluster(name) => Target::Cluster(intern(name)),
                RouteTarget::Weighted(clusters) => Target::weighted(clusters, intern),
            },
            timeouts: forward.timeouts,
            per_try: forward.per_try,
            idle: forward.idle,
            cluster_not_found: forward.cluster_not_found,
            upgrades: forward.upgrades.clone().into(),
            hash_policy: forward.hash_policy.clone().into(),
        }
    }

    /// What is configured for a protocol that a request asks for, in any case.
    pub fn upgrade(&self, protocol: &[u8]) -> Option<&RouteUpgrade> {
        let is_it =
            |upgrade: &&RouteUpgrade| upgrade.protocol.as_bytes().eq_ignore_ascii_case(protocol);
        self.upgrades.iter().find(is_it)
    }
}

impl Target {
    /// The target of a `tcp_proxy`.
    pub fn compile_tcp(cluster: &TcpCluster, intern: &mut dyn FnMut(&Name) -> ClusterId) -> Self {
        match cluster {
            TcpCluster::Cluster(name) => Self::Cluster(intern(name)),
            TcpCluster::Weighted(clusters) => Self::weighted(clusters, intern),
        }
    }

    fn weighted(clusters: &WeightedClusters, intern: &mut dyn FnMut(&Name) -> ClusterId) -> Self {
        // The model has checked that the sum fits.
        let mut sum = 0;
        let cumulative = clusters.clusters().iter().map(|cluster| {
            sum += cluster.weight;
            (sum, intern(&cluster.name))
        });
        Self::Weighted(WeightedTarget {
            clusters: cumulative.collect(),
            total: clusters.total(),
        })
    }

    /// Choose a cluster. `random` is uniform over all of `u64`; a cluster with weight `w` of
    /// `total` is chosen for `w` of any `total` consecutive values. One with weight 0 never is.
    pub fn choose(&self, random: u64) -> ClusterId {
        match self {
            Self::Cluster(cluster) => *cluster,
            Self::Weighted(target) => {
                let point = random % u64::from(target.total);
                let chosen = target
                    .clusters
                    .partition_point(|&(sum, _)| u64::from(sum) <= point);
                // `point` is less than the total, which is the last sum.
                target.clusters[chosen].1
            }
        }
    }

    /// All clusters that are named, also those with weight 0.
    pub fn clusters(&self) -> impl Iterator<Item = ClusterId> {
        let (one, several): (_, &[_]) = match self {
            Self::Cluster(cluster) => (Some(*cluster), &[]),
            Self::Weighted(target) => (None, &target.clusters),
        };
        one.into_iter()
            .chain(several.iter().map(|&(_, cluster)| cluster))
    }
}
