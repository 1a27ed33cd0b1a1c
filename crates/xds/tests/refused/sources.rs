//! Sources of resources that Shunt does not have, or that contradict the resource.

use shunt_xds::ProblemKind::{Invalid, Refused};

use crate::support::{CLUSTER, Case, HCM, check};

const NOT_YET: &str = "not implemented by Shunt yet";
const ROUTES: &str = "          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: { prefix: / }
                route: { cluster: app }
";
const ENDPOINTS: &str = "    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } }
";

#[test]
fn sources_other_than_files_are_refused_with_their_path() {
    let case = |change, path, says| Case {
        change,
        kind: Refused,
        path,
        says,
    };
    check(&[
        case(
            ("", "dynamic_resources: { lds_config: { ads: {} } }\n"),
            ("dynamic_resources", ".lds_config.ads"),
            NOT_YET,
        ),
        case(
            (
                "",
                "dynamic_resources: { cds_config: { path_config_source: { path: /, poll_interval: 1s } } }\n",
            ),
            (
                "dynamic_resources.cds_config",
                ".path_config_source.poll_interval",
            ),
            NOT_YET,
        ),
        case(
            (
                "",
                "dynamic_resources: { cds_config: { path: /, resource_api_version: V2 } }\n",
            ),
            ("dynamic_resources", ".cds_config.resource_api_version"),
            "only V3",
        ),
        case(
            (
                ROUTES,
                "          rds: { route_config_name: r, config_source: { ads: {} } }\n",
            ),
            (HCM, ".rds.config_source.ads"),
            NOT_YET,
        ),
        case(
            (
                "port_value: 3306 } }\n",
                "port_value: 3306 } }\n    additional_addresses: [{ tcp_keepalive: {} }]\n",
            ),
            (
                "static_resources.listeners[1]",
                ".additional_addresses[0].tcp_keepalive",
            ),
            NOT_YET,
        ),
    ]);
}

#[test]
fn sources_that_are_wrong_are_told_with_their_path() {
    let case = |change, path, says| Case {
        change,
        kind: Invalid,
        path,
        says,
    };
    check(&[
        case(
            ("", "dynamic_resources: { lds_config: {} }\n"),
            ("dynamic_resources", ".lds_config"),
            "it needs a source: path_config_source",
        ),
        case(
            (
                "",
                "dynamic_resources: { lds_config: { path_config_source: { path: /, watched_directory: { path: /not/there } } } }\n",
            ),
            (
                "dynamic_resources.lds_config",
                ".path_config_source.watched_directory.path",
            ),
            "/not/there",
        ),
        case(
            (ROUTES, "          rds: { route_config_name: r }\n"),
            (HCM, ".rds.config_source"),
            "required",
        ),
        case(
            (
                ROUTES,
                "          rds: { config_source: { path_config_source: { path: / } } }\n",
            ),
            (HCM, ".rds.route_config_name"),
            "required",
        ),
        case(
            (ENDPOINTS, "    type: EDS\n"),
            (CLUSTER, ".eds_cluster_config.eds_config"),
            "required",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    type: EDS\n    eds_cluster_config: { eds_config: { path_config_source: { path: / } } }\n",
            ),
            (CLUSTER, ".load_assignment"),
            "leave it out",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    eds_cluster_config: { eds_config: { path_config_source: { path: / } } }\n",
            ),
            (CLUSTER, ".eds_cluster_config"),
            "only a cluster of type EDS",
        ),
        case(
            (
                "port_value: 3306 } }\n",
                "port_value: 3306 } }\n    additional_addresses: [{ address: { socket_address: { address: 127.0.0.1, port_value: 8080 } } }]\n",
            ),
            ("static_resources.listeners[1]", ".additional_addresses[0]"),
            "the listener at position 0 has the address 127.0.0.1:8080 too",
        ),
    ]);
}
