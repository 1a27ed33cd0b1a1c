//! What Envoy knows and Shunt does not do.

use shunt_xds::ProblemKind;

use crate::support::{CLUSTER, Case, HCM, ROUTE, TCP, check};

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
            ("", "dynamic_resources.ads_config"),
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
            ("  - name: app\n", "  - name: app\n    type: STRICT_DNS\n"),
            (CLUSTER, ".type"),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    common_lb_config: { locality_weighted_lb_config: {} }\n",
            ),
            (CLUSTER, ".common_lb_config.locality_weighted_lb_config"),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    load_balancing_policy: { policies: [ { typed_extension_config: { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality } } } ] }\n",
            ),
            (
                CLUSTER,
                ".load_balancing_policy.policies[0].typed_extension_config.typed_config",
            ),
            NOT_YET,
        ),
        case(
            (
                "  - name: app\n",
                "  - name: app\n    lb_policy: LEAST_REQUEST\n    least_request_lb_config: { slow_start_config: {} }\n",
            ),
            (CLUSTER, ".least_request_lb_config.slow_start_config"),
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
                "  - name: app\n    typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, auto_config: { http3_protocol_options: {} } } }\n",
            ),
            (
                CLUSTER,
                ".typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].auto_config.http3_protocol_options",
            ),
            NOT_YET,
        ),
        case(
            (
                "  - name: web\n",
                "  - name: web\n    tcp_fast_open_queue_length: 5\n",
            ),
            (LISTENER, ".tcp_fast_open_queue_length"),
            NOT_YET,
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
                "  - name: web\n    listener_filters: [ { name: tls, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit } } ]\n",
            ),
            (LISTENER, ".listener_filters[0].typed_config"),
            "LocalRateLimit is known to Envoy",
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
                "stat_prefix: web\n          http2_protocol_options: { allow_metadata: true }",
            ),
            (HCM, ".http2_protocol_options.allow_metadata"),
            NOT_YET,
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
                "stat_prefix: web\n          upgrade_configs: [ { upgrade_type: CONNECT-UDP } ]",
            ),
            (HCM, ".upgrade_configs[0].upgrade_type"),
            "websocket and others are",
        ),
        case(
            (
                "{ cluster: app }",
                "{ cluster: app, upgrade_configs: [ { upgrade_type: CONNECT, connect_config: { allow_post: true } } ] }",
            ),
            (ROUTE, ".route.upgrade_configs[0].connect_config.allow_post"),
            NOT_YET,
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          path_normalization_options: {}",
            ),
            (HCM, ".path_normalization_options"),
            NOT_YET,
        ),
        case(
            (
                "stat_prefix: web",
                "stat_prefix: web\n          scheme_header_transformation: { scheme_to_overwrite: https }",
            ),
            (HCM, ".scheme_header_transformation"),
            NOT_YET,
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
                "{ cluster: app, retry_policy: { retry_on: 5xx, num_retries: 2 } }",
            ),
            (ROUTE, ".route.retry_policy.retry_on"),
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
                "          cluster: app\n          max_downstream_connection_duration_jitter_percentage: { value: 10 }\n",
            ),
            (TCP, ".max_downstream_connection_duration_jitter_percentage"),
            NOT_YET,
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
