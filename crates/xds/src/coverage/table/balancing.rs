//! Load balancing.

use crate::coverage::Coverage;
use crate::coverage::Verdict::{self, Implemented, Inert, Partly};

const HOSTNAMES: Verdict = Partly("an endpoint without a `hostname` is hashed by its address");
const HEAVY: &str = "`FULL_SCAN` is for endpoints of equal weights, as in Envoy";

/// What of load balancing is not refused.
pub(super) const BALANCING: &[Coverage] = &[
    Coverage {
        message: "envoy.config.cluster.v3.LoadBalancingPolicy",
        fields: &[("policies", Implemented)],
    },
    Coverage {
        message: "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
        fields: &[("typed_extension_config", Implemented)],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
        fields: &[
            ("choice_count", Implemented),
            ("active_request_bias", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
        fields: &[
            ("minimum_ring_size", Partly("at least 1")),
            ("maximum_ring_size", Implemented),
            ("hash_function", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.MaglevLbConfig",
        fields: &[("table_size", Implemented)],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
        fields: &[
            (
                "use_hostname_for_hashing",
                Partly("clusters that are resolved by DNS may have it here, and those are refused"),
            ),
            ("hash_balance_factor", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        fields: &[
            ("choice_count", Implemented),
            ("active_request_bias", Implemented),
            ("enable_full_scan", Partly(HEAVY)),
            ("selection_method", Partly(HEAVY)),
        ],
    },
    Coverage {
        message: "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
        fields: &[
            ("hash_function", Implemented),
            ("minimum_ring_size", Implemented),
            ("maximum_ring_size", Implemented),
            ("use_hostname_for_hashing", HOSTNAMES),
            ("hash_balance_factor", Implemented),
            ("consistent_hashing_lb_config", Implemented),
            ("locality_weighted_lb_config", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
        fields: &[
            ("table_size", Implemented),
            ("consistent_hashing_lb_config", Implemented),
            ("locality_weighted_lb_config", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
        fields: &[
            ("use_hostname_for_hashing", HOSTNAMES),
            ("hash_balance_factor", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.RuntimeDouble",
        fields: &[
            ("default_value", Implemented),
            (
                "runtime_key",
                Inert("no value can be changed by the runtime"),
            ),
        ],
    },
];
