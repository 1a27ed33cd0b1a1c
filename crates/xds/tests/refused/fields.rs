//! Names and values that the API does not have.

use shunt_xds::ProblemKind;

use crate::support::{CLUSTER, Case, HCM, ROUTE, check, problems};

#[test]
fn unknown_fields_values_and_extensions_are_named() {
    use ProblemKind::{Invalid, Unknown};
    check(&[
        Case {
            change: ("  - name: web\n", "  - name: web\n    \"@type\": a/b\n"),
            kind: Unknown,
            path: ("static_resources.listeners[0]", ".@type"),
            says: "no such field",
        },
        Case {
            change: ("  listeners:", "  listener:"),
            kind: Unknown,
            path: ("static_resources", ".listener"),
            says: "did you mean listeners?",
        },
        Case {
            change: (
                "  - name: web\n",
                "  - name: web\n    bind_to_prot: false\n",
            ),
            kind: Unknown,
            path: ("static_resources.listeners[0]", ".bind_to_prot"),
            says: "did you mean bind_to_port?",
        },
        Case {
            change: (
                "stat_prefix: web",
                "stat_prefix: web\n          frobnicate: 1",
            ),
            kind: Unknown,
            path: (HCM, ".frobnicate"),
            says: "HttpConnectionManager has no such field",
        },
        Case {
            change: (
                "route: { cluster: app }",
                "route: { cluster: app, timeuot: 1s }",
            ),
            kind: Unknown,
            path: (ROUTE, ".route.timeuot"),
            says: "did you mean timeout?",
        },
        Case {
            change: ("router.v3.Router", "router.v3.Ruoter"),
            kind: Unknown,
            path: (HCM, ".http_filters[0].typed_config.@type"),
            says: "did you mean envoy.extensions.filters.http.router.v3.Router?",
        },
        Case {
            change: ("router.v3.Router", "example.v9.Nothing"),
            kind: Unknown,
            path: (HCM, ".http_filters[0].typed_config.@type"),
            says: "unknown extension envoy.extensions.filters.http.example.v9.Nothing",
        },
        Case {
            change: (
                "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "com.example.Filter",
            ),
            kind: Invalid,
            path: (HCM, ".http_filters[0].typed_config.@type"),
            says: "no type URL",
        },
        Case {
            change: (
                "{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }",
                "{ suppress_envoy_headers: true }",
            ),
            kind: Invalid,
            path: (HCM, ".http_filters[0].typed_config"),
            says: "has no \"@type\"",
        },
        Case {
            change: ("  - name: app\n", "  - name: app\n    type: STATICK\n"),
            kind: Unknown,
            path: (CLUSTER, ".type"),
            says: "did you mean STATIC?",
        },
        Case {
            change: ("  - name: app\n", "  - name: app\n    lb_policy: 99\n"),
            kind: Unknown,
            path: (CLUSTER, ".lb_policy"),
            says: "ROUND_ROBIN",
        },
    ]);
}

#[test]
fn values_of_the_wrong_type_are_told_with_what_would_be_right() {
    use ProblemKind::Invalid;
    let case = |change, path, says| Case {
        change,
        kind: Invalid,
        path,
        says,
    };
    check(&[
        case(
            ("port_value: 80 ", "port_value: http "),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
            ),
            "an integer from 0",
        ),
        case(
            ("port_value: 80 ", "port_value: -1 "),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
            ),
            "an integer from 0",
        ),
        case(
            ("port_value: 80 ", "port_value: 1.5 "),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
            ),
            "an integer from 0",
        ),
        case(
            ("prefix: /", "prefix: 7"),
            (ROUTE, ".match.prefix"),
            "put it in quotes",
        ),
        case(
            ("prefix: /", "prefix: [a]"),
            (ROUTE, ".match.prefix"),
            "expected a string, got a list",
        ),
        case(
            ("{ cluster: app }", "{ cluster: app, timeout: 5 }"),
            (ROUTE, ".route.timeout"),
            "a duration in seconds such as 1.5s",
        ),
        case(
            ("{ cluster: app }", "{ cluster: app, timeout: 5 minutes }"),
            (ROUTE, ".route.timeout"),
            "a duration in seconds",
        ),
        case(
            ("domains: [\"*\"]", "domains: \"*\""),
            (HCM, ".route_config.virtual_hosts[0].domains"),
            "expected a list",
        ),
        case(
            ("domains: [\"*\"]", "domains: [~]"),
            (HCM, ".route_config.virtual_hosts[0].domains[0]"),
            "got nothing",
        ),
        case(
            (
                "    address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }",
                "    address: 127.0.0.1:8080",
            ),
            ("static_resources.listeners[0]", ".address"),
            "expected a mapping",
        ),
        case(
            (
                "  - name: web\n",
                "  - name: web\n    bind_to_port: maybe\n",
            ),
            ("static_resources.listeners[0]", ".bind_to_port"),
            "true or false",
        ),
        case(
            (
                "{ cluster: app }",
                "{ cluster: app, weighted_clusters: { clusters: [] } }",
            ),
            (ROUTE, ".route.weighted_clusters"),
            "cannot stand beside cluster",
        ),
        case(
            ("  - name: app\n", "  - name: app\n    loadAssignment: {}\n"),
            (CLUSTER, ".load_assignment"),
            "given twice",
        ),
    ]);
    let found = problems("just a string");
    assert_eq!(found[0].path, "");
    assert!(
        found[0]
            .to_string()
            .contains("the bootstrap: expected a mapping"),
        "{found:?}"
    );
}
