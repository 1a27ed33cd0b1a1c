//! Clusters and endpoints.

use super::{BOUNDED, FOR_OTHERS, NO_DNS, NO_RETRIES, STATIC_NAMES};
use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Inert, Partly};

/// What of clusters is not refused.
pub(super) const CLUSTERS: &[Coverage] = &[
    Coverage {
        message: "envoy.config.cluster.v3.Cluster",
        fields: &[
            ("name", Implemented),
            ("type", Partly("`STATIC`, `EDS`, `ORIGINAL_DST`")),
            (
                "lb_policy",
                Partly("`CLUSTER_PROVIDED` for `ORIGINAL_DST`, any other for other types"),
            ),
            (
                "load_balancing_policy",
                Partly("the first of its policies must be one that is served"),
            ),
            ("connect_timeout", Implemented),
            ("load_assignment", Implemented),
            ("eds_cluster_config", Implemented),
            ("circuit_breakers", Implemented),
            ("upstream_bind_config", Implemented),
            ("original_dst_lb_config", Implemented),
            ("round_robin_lb_config", Implemented),
            ("least_request_lb_config", Implemented),
            ("ring_hash_lb_config", Implemented),
            ("maglev_lb_config", Implemented),
            ("common_lb_config", Implemented),
            (
                "typed_extension_protocol_options",
                Partly("`HttpProtocolOptions`"),
            ),
            ("common_http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
            ("http_protocol_options", Implemented),
            ("max_requests_per_connection", Implemented),
            ("upstream_connection_options", Implemented),
            ("transport_socket", Implemented),
            ("transport_socket_matches", Implemented),
            ("alt_stat_name", STATIC_NAMES),
            ("track_cluster_stats", STATIC_NAMES),
            ("track_timeout_budgets", STATIC_NAMES),
            ("metadata", FOR_OTHERS),
            ("per_connection_buffer_limit_bytes", BOUNDED),
            ("dns_lookup_family", NO_DNS),
            ("dns_refresh_rate", NO_DNS),
            ("dns_failure_refresh_rate", NO_DNS),
            ("dns_jitter", NO_DNS),
            ("respect_dns_ttl", NO_DNS),
            ("use_tcp_for_dns_lookups", NO_DNS),
            ("typed_dns_resolver_config", NO_DNS),
            (
                "wait_for_warm_on_init",
                Inert("a cluster whose endpoints are in a file serves when they have come"),
            ),
            (
                "cleanup_interval",
                Inert("an original destination is forgotten with its last connection"),
            ),
            (
                "ignore_health_on_host_removal",
                Inert("there are no health checks"),
            ),
            (
                "close_connections_on_host_health_failure",
                Inert("there are no health checks"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
        fields: &[
            ("eds_config", Partly("a file")),
            ("service_name", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
        fields: &[
            (
                "name",
                Inert("it names the match to nobody but metrics of Envoy"),
            ),
            ("match", Implemented),
            ("transport_socket", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
        fields: &[("upstream_port_override", Implemented)],
    },
    Coverage {
        message: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        fields: &[
            (
                "healthy_panic_threshold",
                Partly("0: an unhealthy endpoint is never used"),
            ),
            ("consistent_hashing_lb_config", Implemented),
            (
                "locality_weighted_lb_config",
                Partly("with `RING_HASH` and `MAGLEV`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.UpstreamConnectionOptions",
        fields: &[
            ("tcp_keepalive", Implemented),
            (
                "set_local_interface_name_on_upstream_connections",
                FOR_OTHERS,
            ),
            (
                "happy_eyeballs_config",
                Inert("an endpoint has one address"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.cluster.v3.CircuitBreakers",
        fields: &[("thresholds", Implemented)],
    },
    Coverage {
        message: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        fields: &[
            (
                "priority",
                Partly("`HIGH` is inert: no route has that priority"),
            ),
            ("max_connections", Implemented),
            ("max_pending_requests", Implemented),
            ("max_requests", Implemented),
            ("max_retries", NO_RETRIES),
            ("retry_budget", NO_RETRIES),
            ("track_remaining", STATIC_NAMES),
        ],
    },
    Coverage {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        fields: &[
            ("common_http_protocol_options", Implemented),
            ("explicit_http_config", Implemented),
            ("use_downstream_protocol_config", Implemented),
            ("auto_config", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        fields: &[
            ("http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        fields: &[
            ("http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        fields: &[
            ("http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.ClusterLoadAssignment",
        fields: &[("cluster_name", Implemented), ("endpoints", Implemented)],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.LocalityLbEndpoints",
        fields: &[
            ("lb_endpoints", Implemented),
            (
                "locality",
                Partly("with locality-weighted balancing; else endpoints are balanced alike"),
            ),
            (
                "load_balancing_weight",
                Partly("with locality-weighted balancing, as in Envoy"),
            ),
            ("proximity", Inert("Envoy does not read it")),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.Locality",
        fields: &[
            ("region", Implemented),
            ("zone", Implemented),
            ("sub_zone", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.LbEndpoint",
        fields: &[
            ("endpoint", Implemented),
            (
                "health_status",
                Partly("`DEGRADED` counts with `RING_HASH` and `MAGLEV`; else it is healthy"),
            ),
            ("load_balancing_weight", Implemented),
            (
                "metadata",
                Inert(
                    "but for `envoy.transport_socket_match` and `hash_key` of `envoy.lb`, which \
                     are implemented",
                ),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.Endpoint",
        fields: &[
            ("address", Implemented),
            ("hostname", Partly("with `use_hostname_for_hashing`")),
            ("health_check_config", Inert("there are no health checks")),
            ("observability_name", STATIC_NAMES),
        ],
    },
];
