//! The table itself, in the order in which a bootstrap is read. `docs/config.md` shows it.

mod files;
mod listener;
mod tls;

use super::Coverage;
use super::Verdict::{self, Implemented, Inert, Only, Partly};

const NO_TRACING: Verdict = Inert("nothing is traced yet");
const NO_DNS: Verdict =
    Inert("only clusters that are resolved by DNS use it, and those are refused");
const NO_RETRIES: Verdict = Inert("nothing is retried yet: `retry_policy` is refused");
const FOR_OTHERS: Verdict = Inert("only filters and tools that Shunt does not have read it");
const NAMED_BY_TYPE: Verdict = Inert("the type of `typed_config` says which extension it is");
const STATIC_NAMES: Verdict = Inert("Shunt's metrics have their own names and labels");
const STREAM_ERROR: Verdict = Inert("a message that is wrong always ends its own stream alone");
const ANSWERED: Verdict =
    Inert("no frame is read before the answers to earlier ones are on their way");
const BOUNDED: Verdict =
    Inert("Shunt reads no more than it can pass on, so its buffers are bounded without it");

/// Everything that is not refused, by message and field.
pub fn table() -> impl Iterator<Item = &'static Coverage> {
    [files::FILES, listener::LISTENERS, tls::TLS, TABLE]
        .into_iter()
        .flatten()
}

const TABLE: &[Coverage] = &[
    // The process.
    Coverage {
        message: "envoy.config.bootstrap.v3.Bootstrap",
        fields: &[
            ("admin", Implemented),
            ("static_resources", Implemented),
            ("dynamic_resources", Implemented),
            (
                "layered_runtime",
                Partly("switches of Envoy's own code only"),
            ),
            (
                "node",
                Inert("it names the proxy to a control plane, and there is none"),
            ),
            ("stats_config", STATIC_NAMES),
            (
                "stats_flush_interval",
                Inert("metrics are scraped, never pushed"),
            ),
            (
                "stats_flush_on_admin",
                Inert("metrics are scraped, never pushed"),
            ),
            (
                "stats_server_version_override",
                Inert("it is a value of an Envoy metric"),
            ),
            (
                "deferred_stat_options",
                Inert("a series that is not used never exists"),
            ),
            ("enable_dispatcher_stats", Inert("Shunt has no dispatcher")),
            (
                "memory_allocator_manager",
                Inert("it tunes Envoy's allocator"),
            ),
            ("use_tcp_for_dns_lookups", NO_DNS),
        ],
    },
    Coverage {
        message: "envoy.config.bootstrap.v3.Bootstrap.StaticResources",
        fields: &[("listeners", Implemented), ("clusters", Implemented)],
    },
    Coverage {
        message: "envoy.config.bootstrap.v3.Admin",
        fields: &[
            ("address", Partly("loopback only")),
            ("access_log_path", Partly("`/dev/null` only")),
            ("profile_path", Inert("Shunt has no such profiler")),
            (
                "ignore_global_conn_limit",
                Inert("there is no global connection limit"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.bootstrap.v3.LayeredRuntime",
        fields: &[("layers", Implemented)],
    },
    Coverage {
        message: "envoy.config.bootstrap.v3.RuntimeLayer",
        fields: &[
            ("name", Inert("it names the layer to the admin interface")),
            (
                "static_layer",
                Partly(
                    "keys below `envoy.reloadable_features`, `envoy.restart_features`, \
                     `envoy.deprecated_features` and `re2`, which switch Envoy's own code and are \
                     inert; any other key is refused",
                ),
            ),
            (
                "admin_layer",
                Inert("the runtime cannot be changed by the admin interface"),
            ),
        ],
    },
    // Addresses.
    Coverage {
        message: "envoy.config.core.v3.Address",
        fields: &[("socket_address", Implemented)],
    },
    Coverage {
        message: "envoy.config.core.v3.SocketAddress",
        fields: &[
            ("address", Partly("an IP address, never a name")),
            ("port_value", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.BindConfig",
        fields: &[
            (
                "source_address",
                Partly("port 0; 127.0.0.6 without a v6 source implies ::6 for v6 upstreams"),
            ),
            ("extra_source_addresses", Partly("one of the other family")),
            ("freebind", Only("false")),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.ExtraSourceAddress",
        fields: &[("address", Implemented)],
    },
    // Network filters.
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        fields: &[
            ("stat_prefix", Implemented),
            ("cluster", Implemented),
            ("weighted_clusters", Implemented),
            ("idle_timeout", Implemented),
            ("access_log", Implemented),
            ("max_connect_attempts", Only("1")),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
        fields: &[("clusters", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        fields: &[("name", Implemented), ("weight", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        fields: &[
            ("codec_type", Partly("`AUTO`, `HTTP1`, `HTTP2`")),
            ("stat_prefix", Implemented),
            ("route_config", Implemented),
            ("rds", Implemented),
            ("http_filters", Partly("the router, once, last")),
            ("access_log", Implemented),
            ("common_http_protocol_options", Implemented),
            ("http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
            ("upgrade_configs", Implemented),
            ("stream_idle_timeout", Implemented),
            ("server_name", Implemented),
            ("server_header_transformation", Implemented),
            ("generate_request_id", Implemented),
            ("use_remote_address", Implemented),
            ("forward_client_cert_details", Implemented),
            ("set_current_client_cert_details", Implemented),
            ("request_id_extension", Partly("`UuidRequestIdConfig`")),
            ("add_user_agent", Only("false")),
            ("normalize_path", Only("false")),
            ("path_with_escaped_slashes_action", Only("KEEP_UNCHANGED")),
            ("request_timeout", Only("0s")),
            ("request_headers_timeout", Implemented),
            ("delayed_close_timeout", Implemented),
            ("max_request_headers_kb", Implemented),
            ("stream_error_on_invalid_http_message", STREAM_ERROR),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
        fields: &[
            ("config_source", Partly("a file")),
            ("route_config_name", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
        fields: &[
            ("subject", Implemented),
            ("uri", Implemented),
            ("dns", Implemented),
            ("cert", Only("false")),
            ("chain", Only("false")),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        fields: &[
            (
                "upgrade_type",
                Partly(
                    "not `CONNECT`; between HTTP/1.1 on both sides, elsewhere it is answered with 403",
                ),
            ),
            ("enabled", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        fields: &[
            ("name", NAMED_BY_TYPE),
            ("typed_config", Partly("`Router`")),
            (
                "is_optional",
                Inert("an unknown filter is refused even where it is optional"),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension",
        fields: &[("typed_config", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        fields: &[
            ("pack_trace_reason", NO_TRACING),
            ("use_request_id_for_trace_sampling", NO_TRACING),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.HttpProtocolOptions",
        fields: &[
            ("idle_timeout", Implemented),
            (
                "max_headers_count",
                Partly("of a listener; not of a cluster"),
            ),
            (
                "max_requests_per_connection",
                Partly("of a cluster; not of a listener"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.Http2ProtocolOptions",
        fields: &[
            ("hpack_table_size", Implemented),
            ("max_concurrent_streams", Implemented),
            ("initial_stream_window_size", Implemented),
            ("initial_connection_window_size", Implemented),
            ("connection_keepalive", Implemented),
            (
                "stream_reset_burst",
                Partly("of a listener; a cluster has no clients"),
            ),
            (
                "stream_reset_rate",
                Partly("of a listener; a cluster has no clients"),
            ),
            ("allow_connect", Only("false")),
            ("allow_metadata", Only("false")),
            ("disallow_obs_text", Only("false")),
            ("max_outbound_frames", ANSWERED),
            ("max_outbound_control_frames", ANSWERED),
            (
                "max_consecutive_inbound_frames_with_empty_payload",
                Inert("the codec ends a connection that sends many small or empty frames"),
            ),
            (
                "max_inbound_priority_frames_per_stream",
                Inert("a priority is read and forgotten"),
            ),
            (
                "max_inbound_window_update_frames_per_data_frame_sent",
                Inert("a window is a number, whatever it is made of"),
            ),
            ("stream_error_on_invalid_http_messaging", STREAM_ERROR),
            (
                "override_stream_error_on_invalid_http_message",
                STREAM_ERROR,
            ),
            (
                "use_oghttp2_codec",
                Inert("it chooses between codecs of Envoy"),
            ),
            (
                "enable_huffman_encoding",
                Inert("Shunt always encodes headers so"),
            ),
            (
                "max_metadata_size",
                Inert("frames of METADATA are ignored, as RFC 9113 wants"),
            ),
            (
                "max_header_field_size_kb",
                Inert("a header may be as large as all of them together"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.KeepaliveSettings",
        fields: &[
            ("interval", Implemented),
            ("timeout", Implemented),
            (
                "interval_jitter",
                Partly("0; 15 percent where it is missing"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.Http1ProtocolOptions",
        fields: &[("allow_absolute_url", Only("true"))],
    },
    Coverage {
        message: "envoy.extensions.filters.http.router.v3.Router",
        fields: &[
            ("suppress_envoy_headers", Implemented),
            ("dynamic_stats", STATIC_NAMES),
        ],
    },
    // Routes.
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
            ("cluster_not_found_response_code", Implemented),
            ("max_stream_duration", Implemented),
            ("max_grpc_timeout", Implemented),
            ("auto_host_rewrite", Only("false")),
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
    // Clusters.
    Coverage {
        message: "envoy.config.cluster.v3.Cluster",
        fields: &[
            ("name", Implemented),
            ("type", Partly("`STATIC`, `EDS`, `ORIGINAL_DST`")),
            (
                "lb_policy",
                Partly("`ROUND_ROBIN`; `CLUSTER_PROVIDED` for `ORIGINAL_DST`"),
            ),
            ("connect_timeout", Implemented),
            ("load_assignment", Implemented),
            ("eds_cluster_config", Implemented),
            ("circuit_breakers", Implemented),
            ("upstream_bind_config", Implemented),
            ("original_dst_lb_config", Implemented),
            ("round_robin_lb_config", Implemented),
            ("common_lb_config", Implemented),
            (
                "typed_extension_protocol_options",
                Partly("`HttpProtocolOptions`"),
            ),
            ("common_http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
            ("http_protocol_options", Implemented),
            ("max_requests_per_connection", Implemented),
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
        fields: &[(
            "healthy_panic_threshold",
            Partly("0: an unhealthy endpoint is never used"),
        )],
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
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        fields: &[
            ("http_protocol_options", Implemented),
            ("http2_protocol_options", Implemented),
        ],
    },
    // Endpoints.
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
                Inert("all endpoints of a cluster are balanced alike"),
            ),
            (
                "load_balancing_weight",
                Inert("Envoy reads it with locality-weighted balancing only"),
            ),
            ("proximity", Inert("Envoy does not read it")),
        ],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.LbEndpoint",
        fields: &[
            ("endpoint", Implemented),
            ("health_status", Implemented),
            ("load_balancing_weight", Only("1")),
            (
                "metadata",
                Inert("but for `envoy.transport_socket_match`, which is implemented"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.endpoint.v3.Endpoint",
        fields: &[
            ("address", Implemented),
            (
                "hostname",
                Inert("only health checks and `auto_host_rewrite` use it"),
            ),
            ("health_check_config", Inert("there are no health checks")),
            ("observability_name", STATIC_NAMES),
        ],
    },
    // Access logs.
    Coverage {
        message: "envoy.config.accesslog.v3.AccessLog",
        fields: &[
            ("name", NAMED_BY_TYPE),
            (
                "typed_config",
                Partly("`FileAccessLog`, `StdoutAccessLog`, `StderrAccessLog`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        fields: &[
            ("path", Implemented),
            ("format", Implemented),
            ("log_format", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        fields: &[("log_format", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
        fields: &[("log_format", Implemented)],
    },
    Coverage {
        message: "envoy.config.core.v3.SubstitutionFormatString",
        fields: &[
            ("text_format", Implemented),
            (
                "text_format_source",
                Partly("`inline_string`, `inline_bytes`"),
            ),
        ],
    },
];
