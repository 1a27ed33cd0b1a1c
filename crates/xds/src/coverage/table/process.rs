//! The process, addresses and access logs.

use super::{NAMED_BY_TYPE, NO_DNS, STATIC_NAMES};
use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Inert, Only, Partly};

/// What of the process is not refused.
pub(super) const PROCESS: &[Coverage] = &[
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
        fields: &[
            ("listeners", Implemented),
            ("clusters", Implemented),
            (
                "secrets",
                Partly("`tls_certificate`, `validation_context`; their files are read once"),
            ),
        ],
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
