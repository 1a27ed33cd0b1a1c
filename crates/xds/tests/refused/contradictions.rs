//! Fields that cannot stand beside each other.

use shunt_xds::ProblemKind;

use crate::support::{CLUSTER, Case, HCM, ROUTE, TCP, check};

#[test]
fn contradictions_are_told_with_their_path() {
    let case = |change, path, says| Case {
        change,
        kind: ProblemKind::Invalid,
        path,
        says,
    };
    const LISTENER: &str = "static_resources.listeners[0]";
    check(&[
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          http2_protocol_options: { initial_stream_window_size: 65534 }",
            ),
            (HCM, ".http2_protocol_options.initial_stream_window_size"),
            "65534 is outside of 65535 to 2147483647",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          http2_protocol_options: { connection_keepalive: { interval: 10s } }",
            ),
            (HCM, ".http2_protocol_options.connection_keepalive.timeout"),
            "it is required",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          max_request_headers_kb: 8193",
            ),
            (HCM, ".max_request_headers_kb"),
            "8193 is outside of 1 to 8192",
        ),
        case(
            (
                "          cluster: app\n",
                "          cluster: app\n          access_log: [ { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: { text_format_source: { inline_string: \"%FROBNICATE%\" } } } } ]\n",
            ),
            (
                TCP,
                ".access_log[0].typed_config.log_format.text_format_source",
            ),
            "FROBNICATE",
        ),
        case(
            ("          cluster: app", "          cluster: nowhere"),
            (TCP, ".cluster"),
            "there is no cluster \"nowhere\"",
        ),
        case(
            (
                "{ cluster: app }",
                "{ cluster: app, upgrade_configs: [ { upgrade_type: WebSocket, connect_config: {} } ] }",
            ),
            (ROUTE, ".route.upgrade_configs[0].connect_config"),
            "only the upgrade_type CONNECT",
        ),
        case(
            (
                "{ cluster: app }",
                "{ cluster: app, upgrade_configs: [ { upgrade_type: CONNECT }, { upgrade_type: connect } ] }",
            ),
            (ROUTE, ".route.upgrade_configs[1].upgrade_type"),
            "it is there already",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          http_protocol_options: { default_host_for_http_10: a/b }",
            ),
            (HCM, ".http_protocol_options.default_host_for_http_10"),
            "\"a/b\" is no host",
        ),
        case(
            ("{ cluster: app }", "{ cluster: nowhere }"),
            (ROUTE, ".route.cluster"),
            "there is no cluster",
        ),
        case(
            (
                "{ cluster: app }",
                "{ weighted_clusters: { clusters: [ { name: nowhere, weight: 1 } ] } }",
            ),
            (ROUTE, ".route.weighted_clusters.clusters[0].name"),
            "there is no cluster",
        ),
        case(
            (
                "{ cluster: app }",
                "{ weighted_clusters: { clusters: [ { name: app, weight: 0 } ] } }",
            ),
            (ROUTE, ".route.weighted_clusters"),
            "add up to 0",
        ),
        case(
            (
                "{ cluster: app }",
                "{ weighted_clusters: { clusters: [ { name: app } ] } }",
            ),
            (ROUTE, ".route.weighted_clusters.clusters[0].weight"),
            "required",
        ),
        case(
            (
                "{ cluster: app }",
                "{ weighted_clusters: { total_weight: 100, clusters: [ { name: app, weight: 1 } ] } }",
            ),
            (ROUTE, ".route.weighted_clusters.total_weight"),
            "add up to 1",
        ),
        case(
            ("{ cluster: app }", "{ }"),
            (ROUTE, ".route"),
            "needs cluster or weighted_clusters",
        ),
        case(
            ("{ cluster: app }", "{ cluster: app, timeout: -1s }"),
            (ROUTE, ".route.timeout"),
            "must not be negative",
        ),
        case(
            ("                route: { cluster: app }\n", ""),
            (ROUTE, ""),
            "needs an action",
        ),
        case(
            ("route: { cluster: app }", "direct_response: { status: 99 }"),
            (ROUTE, ".direct_response.status"),
            "200 to 599",
        ),
        case(
            ("{ prefix: / }", "{ }"),
            (ROUTE, ".match"),
            "prefix, path and safe_regex",
        ),
        case(
            ("{ prefix: / }", "{ safe_regex: { regex: \"(\" } }"),
            (ROUTE, ".match.safe_regex.regex"),
            "not a usable regular expression",
        ),
        case(
            (
                "{ prefix: / }",
                "{ prefix: /, headers: [ { name: \"a b\" } ] }",
            ),
            (ROUTE, ".match.headers[0].name"),
            "cannot be the name",
        ),
        case(
            (
                "{ prefix: / }",
                "{ prefix: /, headers: [ { name: a, string_match: { prefix: \"\" } } ] }",
            ),
            (ROUTE, ".match.headers[0].string_match.prefix"),
            "must not be empty",
        ),
        case(
            ("domains: [\"*\"]", "domains: []"),
            (HCM, ".route_config.virtual_hosts[0].domains"),
            "at least one domain",
        ),
        case(
            ("domains: [\"*\"]", "domains: [\"\"]"),
            (HCM, ".route_config.virtual_hosts[0].domains[0]"),
            "must not be empty",
        ),
        case(
            ("domains: [\"*\"]", "domains: [\"a.*.com\"]"),
            (HCM, ".route_config.virtual_hosts[0].domains[0]"),
            "first or last",
        ),
        case(
            ("domains: [\"*\"]", "domains: [a.com, A.com]"),
            (HCM, ".route_config.virtual_hosts[0].domains[1]"),
            "already",
        ),
        case(
            (
                "            - name: all\n",
                "            - { name: all, domains: [other] }\n            - name: all\n",
            ),
            (HCM, ".route_config.virtual_hosts[1].name"),
            "must be unique",
        ),
        case(
            (
                "            - name: all\n",
                "            - { name: other, domains: [\"*\"] }\n            - name: all\n",
            ),
            (HCM, ".route_config.virtual_hosts[1].domains[0]"),
            "virtual host \"other\"",
        ),
        case(
            ("stat_prefix: web", "stat_prefix: \"\""),
            (HCM, ".stat_prefix"),
            "required",
        ),
        case(
            (
                "          http_filters:\n          - name: router\n            typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }\n",
                "",
            ),
            (HCM, ".http_filters"),
            "must be the router",
        ),
        case(
            (
                "          http_filters:\n",
                "          http_filters:\n          - { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }\n",
            ),
            (HCM, ".http_filters[0]"),
            "must be the last",
        ),
        case(
            (
                "    - filters:\n",
                "    - filters:\n      - { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: a, cluster: app } }\n",
            ),
            (LISTENER, ".filter_chains[0].filters"),
            "this one has 2",
        ),
        case(
            (
                "    - filters:\n",
                "    - filters: []\n    - filter_chain_match: { destination_port: 1 }\n      filters:\n",
            ),
            (LISTENER, ".filter_chains[0].filters"),
            "this one has 0",
        ),
        case(
            (
                "    - filters:\n",
                "    - filter_chain_match: { destination_port: 0 }\n      filters:\n",
            ),
            (
                LISTENER,
                ".filter_chains[0].filter_chain_match.destination_port",
            ),
            "1 to 65535",
        ),
        case(
            (
                "    - filters:\n",
                "    - { filters: [ { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: a, cluster: app } } ] }\n    - filters:\n",
            ),
            (LISTENER, ""),
            "match the same connections",
        ),
        case(
            ("  - name: db\n", "  - name: web\n"),
            ("static_resources.listeners[1]", ".name"),
            "must be unique",
        ),
        case(
            ("port_value: 3306", "port_value: 8080"),
            ("static_resources.listeners[1]", ".address"),
            "give each its own",
        ),
        case(
            ("port_value: 8080", "port_value: 80800"),
            (LISTENER, ".address.socket_address.port_value"),
            "0 to 65535",
        ),
        case(
            (
                "address: 127.0.0.1, port_value: 8080",
                "address: 0.0.0.0, port_value: 0",
            ),
            (LISTENER, ".address.socket_address.port_value"),
            "port 0",
        ),
        case(
            (
                "address: 127.0.0.1, port_value: 8080",
                "address: localhost, port_value: 8080",
            ),
            (LISTENER, ".address.socket_address.address"),
            "no IP address",
        ),
        case(
            (
                "    address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }\n",
                "",
            ),
            (LISTENER, ".address"),
            "required",
        ),
        case(
            (", port_value: 8080", ""),
            (LISTENER, ".address.socket_address.port_value"),
            "required",
        ),
        case(
            (
                "  - name: app\n",
                "  - { name: app, type: STATIC }\n  - name: app\n",
            ),
            ("static_resources.clusters[1]", ".name"),
            "must be unique",
        ),
        case(
            ("port_value: 80 ", "port_value: 0 "),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
            ),
            "port 0",
        ),
        case(
            ("endpoint: {", "endpoint: {} #"),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address",
            ),
            "required",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    connect_timeout: 0s\n",
            ),
            (CLUSTER, ".connect_timeout"),
            "more than 0",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    type: ORIGINAL_DST\n    lb_policy: CLUSTER_PROVIDED\n",
            ),
            (CLUSTER, ".load_assignment"),
            "leave it out",
        ),
        case(
            (
                "  - name: app\n",
                "  - { name: other, type: ORIGINAL_DST }\n  - name: app\n",
            ),
            ("static_resources.clusters[0]", ".lb_policy"),
            "must be CLUSTER_PROVIDED",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    lb_policy: CLUSTER_PROVIDED\n",
            ),
            (CLUSTER, ".lb_policy"),
            "must be ROUND_ROBIN",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    upstream_bind_config: { source_address: { address: 127.0.0.6, port_value: 0 }, extra_source_addresses: [ { address: { address: 127.0.0.7, port_value: 0 } } ] }\n",
            ),
            (CLUSTER, ".upstream_bind_config.extra_source_addresses"),
            "one address family",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    circuit_breakers: { thresholds: [ { max_requests: 1 }, { priority: HIGH }, { max_requests: 2 } ] }\n",
            ),
            (CLUSTER, ".circuit_breakers.thresholds[2]"),
            "thresholds already",
        ),
    ]);
}
