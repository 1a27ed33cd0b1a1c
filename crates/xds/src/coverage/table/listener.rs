//! Listeners, listener filters and filter chains.

use super::{BOUNDED, FOR_OTHERS, NAMED_BY_TYPE, STATIC_NAMES};
use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Inert, Only, Partly};

/// What of a listener is not refused.
pub(super) const LISTENERS: &[Coverage] = &[
    Coverage {
        message: "envoy.config.listener.v3.Listener",
        fields: &[
            ("name", Partly("required")),
            ("address", Implemented),
            ("additional_addresses", Implemented),
            ("bind_to_port", Implemented),
            ("use_original_dst", Implemented),
            ("filter_chains", Implemented),
            ("default_filter_chain", Implemented),
            ("listener_filters", Implemented),
            ("listener_filters_timeout", Implemented),
            ("continue_on_listener_filters_timeout", Implemented),
            (
                "traffic_direction",
                Inert("only tracing and filters that Shunt does not have yet ask for it"),
            ),
            ("access_log", Implemented),
            ("stat_prefix", Implemented),
            ("enable_reuse_port", Implemented),
            ("tcp_backlog_size", Implemented),
            (
                "reuse_port",
                Inert("Shunt always listens with SO_REUSEPORT"),
            ),
            ("tcp_keepalive", Implemented),
            (
                "transparent",
                Partly("needs `CAP_NET_ADMIN`; what TPROXY leads there keeps its destination"),
            ),
            ("freebind", Implemented),
            ("metadata", FOR_OTHERS),
            ("per_connection_buffer_limit_bytes", BOUNDED),
            (
                "max_connections_to_accept_per_socket_event",
                Inert("it tunes Envoy's event loop; Shunt accepts one connection at a time"),
            ),
            (
                "connection_balance_config",
                Inert("the kernel spreads connections over the workers' own sockets"),
            ),
            (
                "ignore_global_conn_limit",
                Inert("there is no global connection limit"),
            ),
            (
                "bypass_overload_manager",
                Inert("there is no overload manager"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.listener.v3.ListenerFilter",
        fields: &[
            ("name", NAMED_BY_TYPE),
            (
                "typed_config",
                Partly(
                    "`OriginalDst`, `OriginalSrc`, `TlsInspector`, `HttpInspector`, `ProxyProtocol`",
                ),
            ),
            ("filter_disabled", Partly("not of `OriginalDst`")),
        ],
    },
    Coverage {
        message: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
        fields: &[
            ("any_match", Implemented),
            ("not_match", Implemented),
            ("and_match", Implemented),
            ("or_match", Implemented),
            ("destination_port_range", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet",
        fields: &[("rules", Implemented)],
    },
    Coverage {
        message: "envoy.type.v3.Int32Range",
        fields: &[("start", Implemented), ("end", Implemented)],
    },
    Coverage {
        message: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        fields: &[
            (
                "initial_read_buffer_size",
                Inert("Shunt reads what has come, whatever its size"),
            ),
            ("max_client_hello_size", Implemented),
            ("enable_ja3_fingerprinting", Only("false")),
            ("enable_ja4_fingerprinting", Only("false")),
            (
                "close_connection_on_client_hello_parsing_errors",
                Only("false"),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
        fields: &[(
            "mark",
            Partly(
                "needs `CAP_NET_ADMIN`, as the filter does; a client of another family than \
                    the upstream's is not called for",
            ),
        )],
    },
    Coverage {
        message: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        fields: &[
            ("allow_requests_without_proxy_protocol", Implemented),
            ("disallowed_versions", Implemented),
            ("stat_prefix", STATIC_NAMES),
        ],
    },
    Coverage {
        message: "envoy.config.listener.v3.AdditionalAddress",
        fields: &[("address", Implemented)],
    },
    Coverage {
        message: "envoy.config.listener.v3.FilterChain",
        fields: &[
            (
                "name",
                Inert("chains are compared by what they hold: equal ones keep their connections"),
            ),
            ("filter_chain_match", Implemented),
            ("filters", Partly("exactly one, a terminal filter")),
            ("transport_socket", Implemented),
            ("transport_socket_connect_timeout", Implemented),
            ("use_proxy_proto", Only("false")),
            ("metadata", FOR_OTHERS),
        ],
    },
    Coverage {
        message: "envoy.config.listener.v3.FilterChainMatch",
        fields: &[
            ("destination_port", Implemented),
            ("prefix_ranges", Implemented),
            ("server_names", Implemented),
            ("transport_protocol", Partly("`raw_buffer`, `tls`")),
            ("application_protocols", Implemented),
            ("direct_source_prefix_ranges", Implemented),
            ("source_type", Implemented),
            ("source_prefix_ranges", Implemented),
            ("source_ports", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.TcpKeepalive",
        fields: &[
            ("keepalive_probes", Partly("up to 127; 0 = no probes")),
            ("keepalive_time", Partly("up to 32767 s; 0 = no probes")),
            ("keepalive_interval", Partly("up to 32767 s; 0 = no probes")),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.CidrRange",
        fields: &[("address_prefix", Implemented), ("prefix_len", Implemented)],
    },
    Coverage {
        message: "envoy.config.listener.v3.Filter",
        fields: &[
            ("name", NAMED_BY_TYPE),
            (
                "typed_config",
                Partly("`HttpConnectionManager`, `TcpProxy`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.TransportSocket",
        fields: &[
            ("name", NAMED_BY_TYPE),
            (
                "typed_config",
                Partly(
                    "`RawBuffer`; `DownstreamTlsContext` of a filter chain, `UpstreamTlsContext` \
                     of a cluster",
                ),
            ),
        ],
    },
];
