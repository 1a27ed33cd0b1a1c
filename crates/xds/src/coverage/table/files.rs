//! Files of resources that are read again when they change.

use crate::coverage::Coverage;
use crate::coverage::Verdict::{Implemented, Inert, Partly};

/// What of a source of resources, and of a file of them, is not refused.
pub(super) const FILES: &[Coverage] = &[
    Coverage {
        message: "envoy.config.bootstrap.v3.Bootstrap.DynamicResources",
        fields: &[
            ("lds_config", Partly("a file")),
            ("cds_config", Partly("a file")),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.ConfigSource",
        fields: &[
            ("path_config_source", Implemented),
            ("path", Implemented),
            ("resource_api_version", Partly("`V3`")),
            (
                "initial_fetch_timeout",
                Inert(
                    "a file answers at once; what it does not hold yet is waited for without limit",
                ),
            ),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.PathConfigSource",
        fields: &[
            (
                "path",
                Partly("read again when a file is moved to its place, never when it is written to"),
            ),
            ("watched_directory", Implemented),
        ],
    },
    Coverage {
        message: "envoy.config.core.v3.WatchedDirectory",
        fields: &[("path", Implemented)],
    },
    Coverage {
        message: "envoy.service.discovery.v3.DiscoveryResponse",
        fields: &[
            ("resources", Implemented),
            ("type_url", Implemented),
            ("version_info", Inert("a file is known by what it holds")),
            ("nonce", Inert("nobody is answered")),
            (
                "control_plane",
                Inert("it names who wrote the file to nobody"),
            ),
        ],
    },
];
