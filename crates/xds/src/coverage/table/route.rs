//! Routes and virtual hosts.

use super::{FOR_OTHERS, NO_RETRIES, NO_TRACING, STATIC_NAMES};
use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Inert, Only, Partly};

/// What of routes is not refused.
pub(super) const ROUTES: &[Coverage] = &[
    Coverage {
        message: "envoy.config.route.v3.RouteConfiguration",
        fields: &[
            ("name", Implemented),
            ("virtual_hosts", Implemented),
            ("ignore_port_in_host_matching", Implemented),
            (
                "validate_clusters",
                Partly("not where there is `cds_config`, whose clusters come and go"),
            ),
            ("max_direct_response_body_size_bytes", Implemented),
            ("metadata", FOR_OTHERS),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.VirtualHost",
        fields: &[
            ("name", Implemented),
            ("domains", Implemented),
            ("routes", Implemented),
            ("retry_policy", Implemented),
            ("metadata", FOR_OTHERS),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.Route",
        fields: &[
            ("name", Implemented),
            ("match", Implemented),
            ("route", Implemented),
            ("direct_response", Implemented),
            ("metadata", FOR_OTHERS),
            ("decorator", NO_TRACING),
            ("tracing", NO_TRACING),
            ("stat_prefix", STATIC_NAMES),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteMatch",
        fields: &[
            ("prefix", Implemented),
            ("path", Implemented),
            ("safe_regex", Implemented),
            ("connect_matcher", Implemented),
            ("case_sensitive", Implemented),
            ("headers", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.HeaderMatcher",
        fields: &[
            ("name", Implemented),
            ("string_match", Implemented),
            ("exact_match", Implemented),
            ("prefix_match", Implemented),
            ("suffix_match", Implemented),
            ("contains_match", Implemented),
            ("safe_regex_match", Implemented),
            ("present_match", Implemented),
            ("invert_match", Implemented),
            ("treat_missing_header_as_empty", Implemented),
        ],
    },
    Coverage {
        message: "envoy.type.matcher.v3.StringMatcher",
        fields: &[
            ("exact", Implemented),
            ("prefix", Implemented),
            ("suffix", Implemented),
            ("contains", Implemented),
            ("safe_regex", Implemented),
            ("ignore_case", Implemented),
        ],
    },
    Coverage {
        message: "envoy.type.matcher.v3.RegexMatcher",
        fields: &[
            ("regex", Implemented),
            (
                "google_re2",
                Inert("there is no other engine, and its size limit is fixed at 1 MiB"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction",
        fields: &[
            ("cluster", Implemented),
            ("weighted_clusters", Implemented),
            ("timeout", Implemented),
            ("idle_timeout", Implemented),
            ("cluster_not_found_response_code", Implemented),
            ("max_stream_duration", Implemented),
            ("max_grpc_timeout", Implemented),
            ("retry_policy", Implemented),
            ("upgrade_configs", Implemented),
            (
                "hash_policy",
                Partly("it counts with `RING_HASH` and `MAGLEV`, as in Envoy"),
            ),
            ("auto_host_rewrite", Only("false")),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy",
        fields: &[
            ("header", Implemented),
            ("cookie", Implemented),
            ("connection_properties", Implemented),
            ("query_parameter", Implemented),
            ("terminal", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.Header",
        fields: &[("header_name", Implemented), ("regex_rewrite", Implemented)],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
        fields: &[
            ("name", Implemented),
            ("ttl", Implemented),
            ("path", Implemented),
            ("attributes", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute",
        fields: &[("name", Implemented), ("value", Implemented)],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties",
        fields: &[("source_ip", Implemented)],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter",
        fields: &[("name", Implemented)],
    },
    Coverage {
        message: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
        fields: &[("pattern", Implemented), ("substitution", Implemented)],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.UpgradeConfig",
        fields: &[
            ("upgrade_type", Partly("not `CONNECT-UDP`")),
            ("enabled", Implemented),
            ("connect_config", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
        fields: &[
            ("max_stream_duration", Implemented),
            ("grpc_timeout_header_max", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.RetryPolicy",
        fields: &[
            (
                "per_try_timeout",
                Partly("of the one attempt that there is, since `retry_on` is refused"),
            ),
            (
                "per_try_idle_timeout",
                Partly(
                    "as `per_try_timeout`; time in which the client takes none of the response does not count",
                ),
            ),
            ("num_retries", NO_RETRIES),
            ("retry_priority", NO_RETRIES),
            ("retry_host_predicate", NO_RETRIES),
            ("retry_options_predicates", NO_RETRIES),
            ("host_selection_retry_max_attempts", NO_RETRIES),
            ("retriable_status_codes", NO_RETRIES),
            ("retry_back_off", NO_RETRIES),
            ("rate_limited_retry_back_off", NO_RETRIES),
            ("retriable_headers", NO_RETRIES),
            ("retriable_request_headers", NO_RETRIES),
            ("refresh_cluster_on_retry", NO_RETRIES),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.WeightedCluster",
        fields: &[
            ("clusters", Implemented),
            ("total_weight", Partly("it must be the sum")),
            (
                "runtime_key_prefix",
                Inert("no weight can be changed by the runtime"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        fields: &[("name", Implemented), ("weight", Implemented)],
    },
    Coverage {
        message: "envoy.config.route.v3.DirectResponseAction",
        fields: &[("status", Implemented), ("body", Implemented)],
    },
    Coverage {
        message: "envoy.config.core.v3.DataSource",
        fields: &[
            ("inline_string", Implemented),
            ("inline_bytes", Implemented),
            ("filename", Partly("of certificates and keys")),
        ],
    },
];
