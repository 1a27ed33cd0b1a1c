//! The configuration of the rows that use the proxy library: the same service that the bootstrap
//! of `cargo xtask bench` describes, as the library's own model.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use shunt_proxy::model::{
    Balanced, BindConfig, CircuitBreakers, ClientCertDetails, Cluster, ClusterKind, ClusterWeight,
    Codec, DownstreamLimits, Endpoint, FilterChain, FilterChainMatch, ForwardClientCert,
    HeadOptions, HeaderCase, HeaderMatch, HeaderMatcher, Http2Options, HttpConnectionManager,
    HttpFilter, LbPolicy, Listener, ListenerFilter, ListenerFilterKind, ListenerSocket, Name,
    NetworkFilter, PathMatch, PerTry, Resources, Route, RouteAction, RouteConfiguration,
    RouteForward, RouteMatch, RouteSource, RouteTarget, Secrets, ServerHeader, StreamIdle,
    StringMatch, TcpCluster, TcpProxy, Timeouts, TrafficDirection, TransportProtocol,
    UpstreamProtocol, VirtualHost, WeightedClusters,
};

const HOUR: Duration = Duration::from_secs(3600);

/// One listener that balances `reviews` over these upstreams.
///
/// # Errors
/// Never for the weights given here; the model checks them all the same.
pub(super) fn resources(listen: SocketAddr, upstreams: &[SocketAddr]) -> Result<Resources> {
    let filter = NetworkFilter::Http(connection_manager()?);
    let tcp = TcpProxy {
        stat_prefix: Name::from("outbound"),
        cluster: TcpCluster::Cluster(Name::from("reviews-v1")),
        idle_timeout: Some(HOUR),
        max_duration: None,
        max_connect_attempts: 1,
        hash_source: false,
        access_log: Vec::new(),
    };
    let listener = Listener {
        name: Name::from("outbound"),
        address: listen,
        additional_addresses: Vec::new(),
        bind_to_port: true,
        use_original_dst: false,
        listener_filters: vec![ListenerFilter::always(ListenerFilterKind::HttpInspector)],
        listener_filters_timeout: Some(Duration::from_secs(15)),
        continue_on_listener_filters_timeout: false,
        filter_chains: vec![FilterChain {
            name: Name::from(""),
            matcher: FilterChainMatch {
                transport_protocol: Some(TransportProtocol::RawBuffer),
                application_protocols: ["http/1.0", "http/1.1"].map(Name::from).to_vec(),
                ..FilterChainMatch::default()
            },
            tls: None,
            handshake_timeout: None,
            filter,
        }],
        default_filter_chain: Some(FilterChain {
            name: Name::from(""),
            matcher: FilterChainMatch::default(),
            tls: None,
            handshake_timeout: None,
            filter: NetworkFilter::Tcp(tcp),
        }),
        traffic_direction: TrafficDirection::Outbound,
        access_log: Vec::new(),
        stat_prefix: None,
        socket: ListenerSocket::default(),
        keepalive: None,
    };
    let clusters = ["reviews-v1", "reviews-v2"].map(|name| cluster(name, upstreams));
    Ok(Resources {
        listeners: vec![Arc::new(listener)],
        clusters: clusters.map(Arc::new).to_vec(),
        routes: Vec::new(),
        secrets: Secrets::default(),
    })
}

fn cluster(name: &str, upstreams: &[SocketAddr]) -> Cluster {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: *address,
        healthy: true,
        tls: None,
        balanced: Balanced::default(),
    };
    Cluster {
        name: Name::from(name),
        kind: ClusterKind::Static(upstreams.iter().map(endpoint).collect()),
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: Duration::from_secs(10),
        bind: BindConfig::default(),
        circuit_breakers: CircuitBreakers {
            max_connections: 4096,
            max_pending_requests: 4096,
            max_requests: 4096,
        },
        protocol: UpstreamProtocol::Http1,
        http2: Http2Options::default(),
        idle_timeout: Some(HOUR),
        max_requests_per_connection: None,
        header_case: HeaderCase::Lower,
        max_connection_duration: None,
        max_headers_count: None,
        keepalive: None,
        tls: None,
    }
}

fn connection_manager() -> Result<HttpConnectionManager> {
    let mut virtual_hosts: Vec<_> = (1..20).map(other_service).collect();
    virtual_hosts.push(reviews()?);
    Ok(HttpConnectionManager {
        stat_prefix: Name::from("outbound"),
        route_config: RouteSource::Inline(RouteConfiguration {
            name: "9080".to_owned(),
            virtual_hosts,
            ignore_port_in_host_matching: false,
        }),
        http_filters: vec![HttpFilter::Router {
            suppress_envoy_headers: false,
        }],
        access_log: Vec::new(),
        codec: Codec::Auto,
        http10: None,
        http2: Http2Options::default(),
        max_request_headers: 60 * 1024,
        max_headers_count: 100,
        upgrades: Vec::new(),
        idle_timeout: Some(HOUR),
        stream_idle_timeout: Some(Duration::from_secs(300)),
        limits: DownstreamLimits::default(),
        heads: HeadOptions::default(),
        request_headers_timeout: None,
        delayed_close_timeout: Some(Duration::from_secs(1)),
        server_name: Name::from("envoy"),
        server_header: ServerHeader::Overwrite,
        generate_request_id: true,
        use_remote_address: false,
        forward_client_cert: ForwardClientCert::Sanitize,
        client_cert_details: ClientCertDetails::default(),
    })
}

fn other_service(number: u8) -> VirtualHost {
    let domain = format!("service-{number}.default.svc.cluster.local");
    VirtualHost {
        name: format!("service-{number}"),
        domains: vec![format!("{domain}:9080"), domain],
        routes: vec![forward("/", None, to("reviews-v1"))],
    }
}

fn reviews() -> Result<VirtualHost> {
    let weight = |name, weight| ClusterWeight {
        name: Name::from(name),
        weight,
    };
    let split = WeightedClusters::new(vec![weight("reviews-v1", 90), weight("reviews-v2", 10)])?;
    let canary = HeaderMatcher {
        name: HeaderMatch::Name(http::HeaderName::from_static("x-canary")),
        value: Some(StringMatch::Exact {
            value: "always".to_owned(),
            ignore_case: false,
        }),
        invert: false,
        treat_missing_as_empty: false,
    };
    let domains = [
        "reviews",
        "reviews:9080",
        "reviews.default.svc.cluster.local",
        "reviews.default.svc.cluster.local:9080",
    ];
    Ok(VirtualHost {
        name: "reviews".to_owned(),
        domains: domains.map(str::to_owned).to_vec(),
        routes: vec![
            forward("/", Some(canary), to("reviews-v2")),
            forward("/api/v2/", None, to("reviews-v2")),
            forward("/", None, RouteTarget::Weighted(split)),
        ],
    })
}

fn to(cluster: &str) -> RouteTarget {
    RouteTarget::Cluster(Arc::from(cluster))
}

fn forward(prefix: &str, header: Option<HeaderMatcher>, target: RouteTarget) -> Route {
    Route {
        name: Name::from(""),
        matcher: RouteMatch {
            path: PathMatch::Prefix(prefix.to_owned()),
            case_sensitive: true,
            headers: header.into_iter().collect(),
        },
        action: RouteAction::Forward(RouteForward {
            target,
            timeouts: Timeouts::Response {
                timeout: None,
                grpc: None,
            },
            per_try: PerTry::default(),
            idle: StreamIdle::Inherited,
            cluster_not_found: http::StatusCode::SERVICE_UNAVAILABLE,
            upgrades: Vec::new(),
            hash_policy: vec![],
        }),
    }
}
