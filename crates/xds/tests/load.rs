//! A sidecar's bootstrap, from the file to the model.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use shunt_proxy::model::{
    AccessLogSink, ClusterKind, Codec, GrpcTimeouts, Http2Options, Keepalive, LbPolicy, Listener,
    ListenerFilter, ListenerFilterKind, ListenerSocket, NetworkFilter, PathMatch, PerTry,
    RouteAction, RouteSource, RouteTarget, RouteUpgrade, TcpCluster, Timeouts, TrafficDirection,
    UpstreamProtocol,
};
use shunt_xds::{Converter, Loaded, load_bootstrap, to_json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn sidecar() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sidecar.yaml")
}

fn load(path: &Path) -> Loaded {
    load_bootstrap(path, &Converter::InProcess).unwrap_or_else(|e| panic!("{e}"))
}

fn listener<'a>(loaded: &'a Loaded, name: &str) -> &'a Listener {
    let mut listeners = loaded.model.resources.listeners.iter();
    listeners.find(|l| &*l.name == name).unwrap()
}

#[test]
fn a_sidecars_listeners_arrive_in_the_model() {
    let loaded = load(&sidecar());
    assert_eq!(loaded.model.admin, Some("127.0.0.1:15000".parse().unwrap()));
    let names: Vec<&str> = loaded
        .model
        .resources
        .listeners
        .iter()
        .map(|l| &*l.name)
        .collect();
    assert_eq!(
        names,
        [
            "virtualOutbound",
            "virtualInbound",
            "0.0.0.0_9080",
            "10.96.0.20_3306"
        ]
    );

    let outbound = listener(&loaded, "virtualOutbound");
    assert!(outbound.bind_to_port && outbound.use_original_dst);
    assert_eq!(outbound.traffic_direction, TrafficDirection::Outbound);
    assert_eq!(
        outbound.listener_filters_timeout,
        Some(Duration::from_secs(15))
    );
    assert_eq!(outbound.access_log[0].sink, AccessLogSink::Stdout);
    assert!(outbound.access_log[0].format.ends_with("%ROUTE_NAME%\n"));
    assert_eq!(
        outbound.filter_chains[0].matcher.destination_port,
        Some(15001)
    );

    let inbound = listener(&loaded, "virtualInbound");
    assert_eq!(
        inbound.listener_filters,
        [
            ListenerFilterKind::OriginalDst,
            ListenerFilterKind::HttpInspector
        ]
        .map(ListenerFilter::always)
    );
    assert_eq!(inbound.listener_filters_timeout, None);
    assert!(inbound.continue_on_listener_filters_timeout);
    assert!(inbound.default_filter_chain.is_some());
    let socket = ListenerSocket {
        transparent: true,
        freebind: true,
        backlog: Some(128),
        reuse_port: false,
    };
    assert_eq!(inbound.socket, socket);
    assert_eq!(outbound.socket, ListenerSocket::default());
    let interval = inbound.keepalive.unwrap().interval;
    assert_eq!(interval, Some(Duration::from_secs(5)));

    let database = listener(&loaded, "10.96.0.20_3306");
    assert!(!database.bind_to_port);
    let NetworkFilter::Tcp(tcp) = &database.filter_chains[0].filter else {
        panic!("not TCP")
    };
    assert_eq!(tcp.idle_timeout, None);
    assert_eq!(tcp.max_duration, Some(Duration::from_secs(7200)));
    assert_eq!(tcp.max_connect_attempts, 3);
    let TcpCluster::Weighted(weighted) = &tcp.cluster else {
        panic!("not weighted")
    };
    assert_eq!(weighted.total(), 2);
}

#[test]
fn a_sidecars_routes_arrive_in_the_model() {
    let loaded = load(&sidecar());
    let reviews = listener(&loaded, "0.0.0.0_9080");
    let NetworkFilter::Http(manager) = &reviews.filter_chains[0].filter else {
        panic!("not HTTP")
    };
    assert_eq!(&*manager.server_name, "envoy");
    assert_eq!(manager.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(manager.stream_idle_timeout, Some(Duration::from_secs(300)));
    let RouteSource::Inline(routes) = &manager.route_config else {
        panic!("not inline")
    };
    assert!(routes.ignore_port_in_host_matching);
    let host = &routes.virtual_hosts[1];
    assert_eq!(host.domains.len(), 5);
    let [canary, health, split] = &host.routes[..] else {
        panic!("not three routes")
    };
    assert!(matches!(&canary.matcher.path, PathMatch::Prefix(p) if p == "/"));
    assert_eq!(canary.matcher.headers.len(), 1);
    let RouteAction::DirectResponse(response) = &health.action else {
        panic!("not a direct response")
    };
    assert_eq!(
        (response.status.as_u16(), &response.body[..]),
        (200, &b"ok"[..])
    );
    assert!(split.matcher.headers[1].invert);
    let RouteAction::Forward(forward) = &split.action else {
        panic!("not forwarded")
    };
    let timeouts = Timeouts::Response {
        timeout: Some(Duration::from_secs(10)),
        grpc: None,
    };
    assert_eq!(forward.timeouts, timeouts);
    assert_eq!(forward.cluster_not_found.as_u16(), 500);
    let RouteTarget::Weighted(weighted) = &forward.target else {
        panic!("not weighted")
    };
    let weights: Vec<u32> = weighted.clusters().iter().map(|c| c.weight).collect();
    assert_eq!(weights, [90, 10]);
}

#[test]
fn a_sidecars_clusters_arrive_in_the_model() {
    let loaded = load(&sidecar());
    let cluster = |name: &str| {
        let mut clusters = loaded.model.resources.clusters.iter();
        clusters.find(|c| &*c.name == name).unwrap()
    };
    let black_hole = cluster("BlackHoleCluster");
    assert!(matches!(&black_hole.kind, ClusterKind::Static(e) if e.is_empty()));

    let passthrough = cluster("PassthroughCluster");
    assert_eq!(passthrough.lb_policy, LbPolicy::ClusterProvided);
    assert_eq!(passthrough.circuit_breakers.max_connections, u32::MAX);
    assert_eq!(passthrough.idle_timeout, Some(Duration::from_secs(60)));
    let age = passthrough.max_connection_duration;
    assert_eq!(age, Some(Duration::from_secs(600)));
    assert_eq!(passthrough.max_headers_count, Some(200));
    let keepalive = passthrough.keepalive.unwrap();
    assert_eq!(
        (keepalive.probes, keepalive.time, keepalive.interval),
        (Some(3), Some(Duration::from_secs(7200)), None)
    );
    assert_eq!(passthrough.max_requests_per_connection, Some(1000));

    let own = cluster("inbound|8080||");
    assert!(matches!(
        own.kind,
        ClusterKind::OriginalDst {
            port_override: Some(8080)
        }
    ));
    // ::6 is implied by 127.0.0.6, and said in so many words by the other.
    for name in ["inbound|8080||", "InboundPassthroughCluster"] {
        let bind = cluster(name).bind;
        assert_eq!(bind.v4, Some("127.0.0.6".parse().unwrap()), "{name}");
        assert_eq!(bind.v6, Some("::6".parse().unwrap()), "{name}");
    }

    let v1 = cluster("outbound|9080|v1|reviews");
    assert_eq!(v1.connect_timeout, Duration::from_secs(1));
    assert_eq!(v1.circuit_breakers.max_requests, 1024);
    let ClusterKind::Static(endpoints) = &v1.kind else {
        panic!("not static")
    };
    let healthy: Vec<bool> = endpoints.iter().map(|e| e.healthy).collect();
    assert_eq!(healthy, [true, false]);
    assert_eq!(
        cluster("outbound|9080|v2|reviews").connect_timeout,
        Duration::from_secs(5)
    );
}

#[test]
fn json_loads_to_the_same_model_as_yaml() {
    let yaml = load(&sidecar());
    let dump = to_json(&yaml.wire, None, &Converter::InProcess).unwrap();
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let config = &dump["configs"][0];
    assert_eq!(
        config["@type"],
        "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.json");
    fs::write(&path, config["bootstrap"].to_string()).unwrap();
    let json = load(&path);
    assert_eq!(format!("{:?}", json.model), format!("{:?}", yaml.model));
}

#[test]
fn the_dump_shows_extensions_in_full_and_field_names_as_in_the_proto() {
    let loaded = load(&sidecar());
    let dump = to_json(&loaded.wire, None, &Converter::InProcess).unwrap();
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let listeners = &dump["configs"][0]["bootstrap"]["static_resources"]["listeners"];
    let filter = &listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(
        filter["@type"],
        "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    );
    assert_eq!(filter["stat_prefix"], "BlackHoleCluster");
}

/// A bootstrap with a listener and a cluster that are as the test wants them.
fn load_http(manager: &str, route: &str, cluster: &str) -> Loaded {
    let text = format!(
        r#"static_resources:
  listeners:
  - name: web
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8080 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          {manager}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: app, {route} }} }} ] }}
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: app
    {cluster}
"#
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bootstrap.yaml");
    fs::write(&path, text).unwrap();
    load(&path)
}

#[test]
fn how_http2_is_spoken_arrives_in_the_model() {
    let loaded = load_http(
        "codec_type: HTTP2\n          upgrade_configs: [ { upgrade_type: WebSocket }, \
         { upgrade_type: other, enabled: false }, { upgrade_type: CONNECT } ]\n          max_request_headers_kb: 96\n          \
         common_http_protocol_options: { max_headers_count: 50 }\n          \
         http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'shop:80' }\n          \
         http2_protocol_options: { max_concurrent_streams: 7, initial_stream_window_size: 65536, \
         initial_connection_window_size: 131072, hpack_table_size: 0, stream_reset_burst: 5, \
         stream_reset_rate: 6, allow_connect: true, connection_keepalive: { interval: 30s, timeout: 10s } }",
        "upgrade_configs: [ { upgrade_type: CONNECT, connect_config: {} }, \
         { upgrade_type: WebSocket, enabled: false } ]",
        "http2_protocol_options: { max_concurrent_streams: 9 }",
    );
    let NetworkFilter::Http(manager) = &listener(&loaded, "web").filter_chains[0].filter else {
        panic!("HTTP")
    };
    assert_eq!(manager.codec, Codec::Http2);
    let host = manager.http10.as_ref().and_then(|h| h.default_host.clone());
    assert_eq!(host.unwrap(), "shop:80");
    assert_eq!(manager.upgrades, ["websocket".into(), "connect".into()]);
    assert_eq!(
        (manager.max_request_headers, manager.max_headers_count),
        (96 * 1024, 50)
    );
    let expected = Http2Options {
        max_concurrent_streams: 7,
        stream_window: 65_536,
        connection_window: 131_072,
        hpack_table: 0,
        keepalive: Some(Keepalive {
            interval: Duration::from_secs(30),
            jitter_percent: 15,
            timeout: Duration::from_secs(10),
        }),
        allow_connect: true,
        reset_burst: 5,
        reset_rate: 6,
    };
    assert_eq!(manager.http2, expected);
    let RouteSource::Inline(routes) = &manager.route_config else {
        panic!("inline")
    };
    let RouteAction::Forward(forward) = &routes.virtual_hosts[0].routes[0].action else {
        panic!("forward")
    };
    let upgrade = |protocol: &str, enabled, terminates| RouteUpgrade {
        protocol: protocol.into(),
        enabled,
        terminates,
    };
    let expected = [
        upgrade("connect", true, true),
        upgrade("websocket", false, false),
    ];
    assert_eq!(forward.upgrades, expected);
    let cluster = &loaded.model.resources.clusters[0];
    assert_eq!(cluster.protocol, UpstreamProtocol::Http2);
    assert_eq!(cluster.http2.max_concurrent_streams, 9);
}

#[test]
fn which_version_an_upstream_speaks_arrives_in_the_model() {
    for (options, protocol) in [
        (
            "explicit_http_config: { http_protocol_options: {} }",
            UpstreamProtocol::Http1,
        ),
        (
            "explicit_http_config: { http2_protocol_options: {} }",
            UpstreamProtocol::Http2,
        ),
        (
            "use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} }",
            UpstreamProtocol::Downstream,
        ),
        (
            "auto_config: { http_protocol_options: {}, http2_protocol_options: {} }",
            UpstreamProtocol::Negotiated,
        ),
    ] {
        let tls = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let cluster = format!(
            "typed_extension_protocol_options: {{ {kind}: {{ \"@type\": type.googleapis.com/{kind}, {options} }} }}\n    \
             transport_socket: {{ name: tls, typed_config: {{ \"@type\": type.googleapis.com/{tls} }} }}"
        );
        let loaded = load_http("codec_type: AUTO", "timeout: 1s", &cluster);
        assert_eq!(
            loaded.model.resources.clusters[0].protocol, protocol,
            "{options}"
        );
    }
}

#[test]
fn the_timeouts_of_grpc_arrive_in_the_model() {
    let second = Some(Duration::from_secs(1));
    let grpc = |max| Some(GrpcTimeouts { max });
    for (route, expected) in [
        (
            "timeout: 1s",
            Timeouts::Response {
                timeout: second,
                grpc: None,
            },
        ),
        (
            "timeout: 1s, max_grpc_timeout: 0s",
            Timeouts::Response {
                timeout: second,
                grpc: grpc(None),
            },
        ),
        (
            "timeout: 0s, max_grpc_timeout: 1s",
            Timeouts::Response {
                timeout: None,
                grpc: grpc(second),
            },
        ),
        (
            "timeout: 1s, max_grpc_timeout: 0s, max_stream_duration: { max_stream_duration: 0s, grpc_timeout_header_max: 0s }",
            Timeouts::Stream {
                duration: None,
                grpc: grpc(None),
            },
        ),
        (
            "max_stream_duration: { max_stream_duration: 1s }",
            Timeouts::Stream {
                duration: second,
                grpc: None,
            },
        ),
    ] {
        let loaded = load_http("codec_type: AUTO", route, "type: STATIC");
        let NetworkFilter::Http(manager) = &listener(&loaded, "web").filter_chains[0].filter else {
            panic!("HTTP")
        };
        let RouteSource::Inline(routes) = &manager.route_config else {
            panic!("{route}")
        };
        let action = &routes.virtual_hosts[0].routes[0].action;
        let RouteAction::Forward(forward) = action else {
            panic!("{route}")
        };
        assert_eq!(forward.timeouts, expected, "{route}");
    }
}

#[test]
fn how_long_an_attempt_may_take_arrives_in_the_model() {
    let of_host = PerTry {
        timeout: Some(Duration::from_secs(3)),
        idle: None,
    };
    let own = PerTry {
        timeout: Some(Duration::from_secs(1)),
        idle: Some(Duration::from_millis(500)),
    };
    for (route, expected) in [
        ("timeout: 1s", of_host),
        ("retry_policy: { num_retries: 2 }", PerTry::default()),
        (
            "retry_policy: { per_try_timeout: 0s, per_try_idle_timeout: 0s }",
            PerTry::default(),
        ),
        (
            "retry_policy: { per_try_timeout: 1s, per_try_idle_timeout: 0.5s, retriable_status_codes: [ 503 ] }",
            own,
        ),
    ] {
        // The template goes on with what ends a route and its virtual host.
        let route = format!(
            "{route} }} }} ], retry_policy: {{ per_try_timeout: 3s }} }}\n            \
             - {{ name: other, domains: [a], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: app"
        );
        let loaded = load_http("codec_type: AUTO", &route, "type: STATIC");
        let NetworkFilter::Http(manager) = &listener(&loaded, "web").filter_chains[0].filter else {
            panic!("HTTP")
        };
        let RouteSource::Inline(routes) = &manager.route_config else {
            panic!("{route}")
        };
        let per_try = |host: usize| match &routes.virtual_hosts[host].routes[0].action {
            RouteAction::Forward(forward) => forward.per_try,
            RouteAction::DirectResponse(_) => panic!("{route}"),
        };
        assert_eq!(per_try(0), expected, "{route}");
        assert_eq!(per_try(1), PerTry::default(), "of another host: {route}");
    }
}
