//! The TCP proxy.

use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Partly};

/// What of the TCP proxy is not refused.
pub(super) const TCP_PROXY: &[Coverage] = &[
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        fields: &[
            ("stat_prefix", Implemented),
            ("cluster", Implemented),
            ("weighted_clusters", Implemented),
            ("idle_timeout", Implemented),
            ("access_log", Implemented),
            ("max_downstream_connection_duration", Implemented),
            ("max_connect_attempts", Implemented),
            (
                "hash_policy",
                Partly("`source_ip`; it counts with `RING_HASH` and `MAGLEV`, as in Envoy"),
            ),
        ],
    },
    Coverage {
        message: "envoy.type.v3.HashPolicy",
        fields: &[("source_ip", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
        fields: &[("clusters", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        fields: &[("name", Implemented), ("weight", Implemented)],
    },
];
