//! Bootstraps that cannot be served: each is refused with the path of the field and a remedy.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use shunt_xds::{Converter, LoadError, LoadErrorKind, Problem, ProblemKind, load_bootstrap};
use std::path::Path;
use std::{fs, iter};

const SMALL: &str = include_str!("data/small.yaml");

const HCM: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
const TCP: &str = "static_resources.listeners[1].filter_chains[0].filters[0].typed_config";
const ROUTE: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config\
                     .route_config.virtual_hosts[0].routes[0]";
const CLUSTER: &str = "static_resources.clusters[0]";

/// A change to the small bootstrap, and the one problem that it makes.
struct Case {
    /// What stands in the small bootstrap, and what shall stand there. `""` appends.
    change: (&'static str, &'static str),
    kind: ProblemKind,
    /// Below which path, and the rest of it.
    path: (&'static str, &'static str),
    /// What the message says.
    says: &'static str,
}

fn load(text: &str, name: &str) -> Result<shunt_xds::Loaded, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    load_bootstrap(&path, &Converter::InProcess)
}

fn problems(text: &str) -> Vec<Problem> {
    match load(text, "bootstrap.yaml") {
        Ok(_) => Vec::new(),
        Err(LoadError::Invalid { problems, .. }) => problems.list().to_vec(),
        Err(other) => panic!("{other}"),
    }
}

fn changed((from, to): (&str, &str)) -> String {
    if from.is_empty() {
        return format!("{SMALL}{to}");
    }
    assert!(SMALL.contains(from), "the small bootstrap has no {from:?}");
    SMALL.replacen(from, to, 1)
}

fn check(cases: &[Case]) {
    for case in cases {
        let found = problems(&changed(case.change));
        let path = format!("{}{}", case.path.0, case.path.1);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        let [problem] = &found[..] else {
            panic!("{:?}: not one problem: {told:#?}", case.change)
        };
        assert_eq!(problem.path, path, "{:?}: {told:#?}", case.change);
        assert_eq!(problem.kind, case.kind, "{:?}: {told:#?}", case.change);
        assert!(
            problem.message.contains(case.says),
            "{:?}: {told:#?}",
            case.change
        );
    }
}

#[test]
fn the_small_bootstrap_loads_as_it_stands() {
    assert_eq!(problems(SMALL), []);
}

#[test]
fn text_that_is_neither_yaml_nor_json_is_told_with_line_and_column() {
    let cases = [
        ("a.yaml", "a: [1, 2", 1),
        ("a.yaml", "a: 1\nb: {c: 2\n", 2),
        ("a.yaml", "a:\n  b: 1\n c: 2\n", 3),
        ("a.yaml", "a: 1\na: 2\n", 2),
        ("a.yaml", "a: \"unfinished\n", 1),
        ("a.yaml", "a:\n\tb: 1\n", 2),
        ("a.yaml", "a: *nothing\n", 1),
        ("a.yaml", "a: 1\n---\nb: 2\n", 2),
        ("a.yaml", "{\"a\": 1, \"a\": 2}", 1),
        ("a.json", "{\"a\": 1,\n \"a\": 2}", 2),
        ("a.json", "{\"a\": }", 1),
        ("a.json", "{\"a\": 1} x", 1),
        ("a.json", "a: 1", 1),
    ];
    for (name, text, line) in cases {
        let error = load(text, name).map(drop).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Syntax, "{text:?}: {error}");
        let LoadError::Syntax { error, .. } = error else {
            panic!("{error}")
        };
        assert!(error.line.abs_diff(line) <= 1, "{text:?}: {error}");
        assert!(error.column > 0, "{text:?}: {error}");
        assert!(!error.message.is_empty());
    }
}

#[test]
fn an_alias_bomb_is_refused_and_not_expanded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let error = load(&bomb, "a.yaml").map(drop).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Syntax, "{error}");
}

#[test]
fn a_text_that_is_too_deep_is_refused() {
    for (name, open) in [
        ("a.json", "["),
        ("a.yaml", "["),
        ("a.yaml", "- "),
        ("a.yaml", "{a: "),
    ] {
        let deep: String = iter::repeat_n(open, 50_000).collect();
        let error = load(&deep, name).map(drop).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Syntax, "{name} {open} {error}");
    }
}

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

#[test]
fn what_envoy_knows_and_shunt_does_not_do_is_refused_with_its_path() {
    let case = |change, path, says| Case {
        change,
        kind: ProblemKind::Refused,
        path,
        says,
    };
    const NOT_YET: &str = "known to Envoy, not implemented by Shunt yet";
    const LISTENER: &str = "static_resources.listeners[0]";
    check(&[
        case(
            (
                "",
                "dynamic_resources: { ads_config: { api_type: GRPC } }\n",
            ),
            ("", "dynamic_resources"),
            NOT_YET,
        ),
        case(
            ("", "overload_manager: {}\n"),
            ("", "overload_manager"),
            NOT_YET,
        ),
        case(
            (
                "",
                "admin: { address: { socket_address: { address: 0.0.0.0, port_value: 15000 } } }\n",
            ),
            ("", "admin.address"),
            "admin is loopback only",
        ),
        case(
            ("", "admin: { access_log_path: /tmp/admin.log }\n"),
            ("", "admin.access_log_path"),
            "not logged",
        ),
        case(
            (
                "",
                "layered_runtime: { layers: [ { name: a, static_layer: { overload: { global_downstream_max_connections: 5 } } } ] }\n",
            ),
            (
                "",
                "layered_runtime.layers[0].static_layer[\"overload\"][\"global_downstream_max_connections\"]",
            ),
            "overload.global_downstream_max_connections",
        ),
        case(
            ("  - name: app\n", "  - name: app\n    type: EDS\n"),
            (CLUSTER, ".type"),
            NOT_YET,
        ),
        case(
            ("  - name: app\n", "  - name: app\n    type: STRICT_DNS\n"),
            (CLUSTER, ".type"),
            NOT_YET,
        ),
        case(
            ("  - name: app\n", "  - name: app\n    lb_policy: MAGLEV\n"),
            (CLUSTER, ".lb_policy"),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    health_checks: [ { timeout: 1s } ]\n",
            ),
            (CLUSTER, ".health_checks"),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    transport_socket: { name: tls, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext } }\n",
            ),
            (CLUSTER, ".transport_socket.typed_config"),
            "RawBuffer or UpstreamTlsContext",
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    common_lb_config: { healthy_panic_threshold: { value: 50 } }\n",
            ),
            (CLUSTER, ".common_lb_config.healthy_panic_threshold.value"),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, auto_config: {} } }\n",
            ),
            (
                CLUSTER,
                ".typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].auto_config",
            ),
            NOT_YET,
        ),
        case(
            ("  - name: web\n", "  - name: web\n    transparent: true\n"),
            (LISTENER, ".transparent"),
            "leave it out or at false",
        ),
        case(
            (
                "  - name: web\n",
                "  - name: web\n    deprecated_v1: { bind_to_port: false }\n",
            ),
            (LISTENER, ".deprecated_v1"),
            NOT_YET,
        ),
        case(
            (
                "  - name: web\n",
                "  - name: web\n    listener_filters: [ { name: tls, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc } } ]\n",
            ),
            (LISTENER, ".listener_filters[0].typed_config"),
            "OriginalSrc is known to Envoy",
        ),
        case(
            (
                "    - filters:\n",
                "    - filter_chain_match: { address_suffix: 10.0.0.1 }\n      filters:\n",
            ),
            (
                LISTENER,
                ".filter_chains[0].filter_chain_match.address_suffix",
            ),
            NOT_YET,
        ),
        case(
            (
                "    - filters:\n",
                "    - filter_chain_match: { transport_protocol: quic }\n      filters:\n",
            ),
            (
                LISTENER,
                ".filter_chains[0].filter_chain_match.transport_protocol",
            ),
            "raw_buffer and tls are",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          http2_protocol_options: { allow_connect: true }",
            ),
            (HCM, ".http2_protocol_options.allow_connect"),
            NOT_YET,
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          upgrade_configs: [ { upgrade_type: CONNECT } ]",
            ),
            (HCM, ".upgrade_configs[0].upgrade_type"),
            "websocket and others are",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          codec_type: HTTP3",
            ),
            (HCM, ".codec_type"),
            "AUTO, HTTP1 and HTTP2 are",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          normalize_path: true",
            ),
            (HCM, ".normalize_path"),
            "leave it out or at false",
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          request_timeout: 10s",
            ),
            (HCM, ".request_timeout"),
            "at 0s",
        ),
        case(
            (
                "          http_filters:\n",
                "          http_filters:\n          - { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault } }\n",
            ),
            (HCM, ".http_filters[0].typed_config"),
            "HTTPFault is known to Envoy",
        ),
        case(
            (
                "          http_filters:\n",
                "          http_filters:\n          - { name: istio.stats, typed_config: { \"@type\": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: a } }\n",
            ),
            (HCM, ".http_filters[0].typed_config"),
            "not implemented by Shunt yet",
        ),
        case(
            (
                "{ cluster: app }",
                "{ cluster: app, retry_policy: { num_retries: 2 } }",
            ),
            (ROUTE, ".route.retry_policy"),
            NOT_YET,
        ),
        case(
            (
                "{ prefix: / }",
                "{ prefix: /, headers: [ { name: a, range_match: { start: 1, end: 2 } } ] }",
            ),
            (ROUTE, ".match.headers[0].range_match"),
            NOT_YET,
        ),
        case(
            ("{ cluster: app }", "{ cluster_header: x-cluster }"),
            (ROUTE, ".route.cluster_header"),
            NOT_YET,
        ),
        case(
            (
                "          cluster: app\n",
                "          cluster: app\n          max_connect_attempts: 3\n",
            ),
            (TCP, ".max_connect_attempts"),
            "at 1",
        ),
        case(
            (
                "          cluster: app\n",
                "          cluster: app\n          access_log: [ { name: a, filter: { not_health_check_filter: {} }, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog } } ]\n",
            ),
            (TCP, ".access_log[0].filter"),
            NOT_YET,
        ),
        case(
            (
                "          cluster: app\n",
                "          cluster: app\n          access_log: [ { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout, log_format: { json_format: { a: b } } } } ]\n",
            ),
            (TCP, ".access_log[0].typed_config.log_format.json_format"),
            NOT_YET,
        ),
        case(
            (
                "port_value: 3306 } }",
                "port_value: 3306, protocol: UDP } }",
            ),
            (
                "static_resources.listeners[1]",
                ".address.socket_address.protocol",
            ),
            NOT_YET,
        ),
    ]);
}

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

#[test]
fn a_bootstrap_where_nothing_listens_is_refused() {
    for text in ["{}", "static_resources: {}", "node: { id: a }"] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "static_resources.listeners");
        assert!(
            found[0].message.contains("no listener binds a port"),
            "{found:?}"
        );
    }
    let unbound = SMALL
        .replace(
            "  - name: web\n",
            "  - name: web\n    bind_to_port: false\n",
        )
        .replace("  - name: db\n", "  - name: db\n    bind_to_port: false\n");
    assert_eq!(problems(&unbound)[0].path, "static_resources.listeners");
    // One that is wrong in itself may have been meant to listen: one problem, not two.
    let wrong = unbound.replace("stat_prefix: db", "stat_prefix: \"\"");
    let found = problems(&wrong);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, format!("{TCP}.stat_prefix"));
}

#[test]
fn all_problems_of_a_file_are_told_at_once_up_to_twenty() {
    let text = SMALL
        .replace("cluster: app }", "cluster: nowhere }")
        .replace("stat_prefix: db", "stat_prefix: \"\"")
        .replace("port_value: 80 ", "port_value: 0 ");
    assert_eq!(problems(&text).len(), 3);

    let fields: String = (0..50).map(|i| format!("nothing{i}: 1\n")).collect();
    let error = load(&fields, "a.yaml").map(drop).unwrap_err();
    let told = error.problems().unwrap();
    assert_eq!((told.list().len(), told.more()), (20, 30));
    assert!(error.to_string().ends_with("and 30 more"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_name_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Option<&[u8]>, &str); 4] = [
        ("missing.yaml", None, "no such file"),
        ("empty.yaml", Some(b" \n"), "it is empty"),
        ("binary.yaml", Some(b"a: \xff\xfe"), "not UTF-8"),
        (
            "large.yaml",
            Some(&[b'#'; (64 << 20) + 1]),
            "larger than 64 MiB",
        ),
    ];
    for (name, content, says) in cases {
        let path = folder.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let error = load_bootstrap(&path, &Converter::InProcess)
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Unreadable);
        assert!(
            error.to_string().contains(name) && error.to_string().contains(says),
            "{error}"
        );
    }
    let error = load_bootstrap(Path::new("/"), &Converter::InProcess)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");
}
