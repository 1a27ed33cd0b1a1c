//! The HTTP connection manager and the protocols that it speaks.

use super::{NAMED_BY_TYPE, NO_TRACING, STATIC_NAMES};
use crate::coverage::Coverage;
use crate::coverage::Verdict::{self, Implemented, Inert, Only, Partly};

const STREAM_ERROR: Verdict = Inert("a message that is wrong always ends its own stream alone");
const ANSWERED: Verdict =
    Inert("no frame is read before the answers to earlier ones are on their way");

/// What of HTTP is not refused.
pub(super) const HTTP: &[Coverage] = &[
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
            (
                "stream_idle_timeout",
                Partly("at 0, a tunnel of which one side has ended may still rest for an hour"),
            ),
            ("server_name", Implemented),
            ("server_header_transformation", Implemented),
            ("generate_request_id", Implemented),
            ("use_remote_address", Implemented),
            ("forward_client_cert_details", Implemented),
            ("set_current_client_cert_details", Implemented),
            ("request_id_extension", Partly("`UuidRequestIdConfig`")),
            ("add_user_agent", Only("false")),
            ("normalize_path", Implemented),
            ("merge_slashes", Implemented),
            (
                "path_with_escaped_slashes_action",
                Partly("`IMPLEMENTATION_SPECIFIC_DEFAULT` is `KEEP_UNCHANGED`"),
            ),
            ("strip_matching_host_port", Implemented),
            ("strip_any_host_port", Implemented),
            ("strip_trailing_host_dot", Implemented),
            ("via", Implemented),
            ("xff_num_trusted_hops", Implemented),
            ("skip_xff_append", Implemented),
            ("append_x_forwarded_port", Implemented),
            ("preserve_external_request_id", Implemented),
            ("always_set_request_id_in_response", Implemented),
            (
                "proxy_100_continue",
                Partly("an upstream that says nothing is sent the body after a second"),
            ),
            ("request_timeout", Implemented),
            (
                "drain_timeout",
                Partly("not for the drain of a chain or of the process"),
            ),
            ("http1_safe_max_connection_duration", Implemented),
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
            ("cert", Implemented),
            ("chain", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        fields: &[
            ("upgrade_type", Partly("not `CONNECT-UDP`")),
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
            ("max_headers_count", Implemented),
            ("max_requests_per_connection", Implemented),
            ("max_connection_duration", Implemented),
            (
                "headers_with_underscores_action",
                Partly("of a listener; in HTTP/2 too a refused request is answered with 400"),
            ),
            (
                "max_stream_duration",
                Partly("of a listener, for routes that do not say; not of a cluster"),
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
            ("allow_connect", Implemented),
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
        fields: &[
            ("allow_absolute_url", Only("true")),
            (
                "accept_http_10",
                Partly("of a listener; a cluster has no clients"),
            ),
            (
                "default_host_for_http_10",
                Partly("of a listener; a cluster has no clients"),
            ),
            ("header_key_format", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat",
        fields: &[
            ("proper_case_words", Partly("words are parted by `-` alone")),
            (
                "stateful_formatter",
                Partly("`PreserveCaseFormatterConfig`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.TypedExtensionConfig",
        fields: &[("name", NAMED_BY_TYPE), ("typed_config", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        fields: &[
            ("forward_reason_phrase", Only("false")),
            ("formatter_type_on_envoy_headers", Only("DEFAULT")),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.http.router.v3.Router",
        fields: &[
            ("suppress_envoy_headers", Implemented),
            ("dynamic_stats", STATIC_NAMES),
        ],
    },
];
