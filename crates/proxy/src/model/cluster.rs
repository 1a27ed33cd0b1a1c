//! Clusters (`envoy.config.cluster.v3.Cluster`).

use super::{Balanced, HeaderCase, Http2Options, LbPolicy, Name, TcpKeepalive, UpstreamTls};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One upstream cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `name`, not empty, unique.
    pub name: Name,
    /// Where its endpoints come from.
    pub kind: ClusterKind,
    /// `lb_policy`.
    pub lb_policy: LbPolicy,
    /// `connect_timeout`; Envoy's default is 5 s. Never zero.
    pub connect_timeout: Duration,
    /// `upstream_bind_config`: source addresses of upstream connections.
    pub bind: BindConfig,
    /// `circuit_breakers`, the thresholds of the default priority.
    pub circuit_breakers: CircuitBreakers,
    /// Which version of HTTP its endpoints speak.
    pub protocol: UpstreamProtocol,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `HttpProtocolOptions.common_http_protocol_options.idle_timeout`: how long a pooled
    /// connection may idle; Envoy's default is 1 h, `None` = for ever (0 in the configuration).
    pub idle_timeout: Option<Duration>,
    /// `max_requests_per_connection`; `None` = no limit.
    pub max_requests_per_connection: Option<u32>,
    /// `http_protocol_options.header_key_format`.
    pub header_case: HeaderCase,
    /// `common_http_protocol_options.max_connection_duration`: a connection that is older serves no
    /// further request; `None` = no limit.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_headers_count` of a response; `None` = 100.
    pub max_headers_count: Option<u32>,
    /// `upstream_connection_options.tcp_keepalive`; `None` = no probes.
    pub keepalive: Option<TcpKeepalive>,
    /// `transport_socket`, of endpoints that are not configured one by one; `None` = plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
}

impl Cluster {
    /// Whether the other differs in its endpoints alone, or not at all.
    pub fn differs_in_endpoints_only(&self, other: &Self) -> bool {
        let Self {
            name,
            kind,
            lb_policy,
            connect_timeout,
            bind,
            circuit_breakers,
            idle_timeout,
            max_requests_per_connection,
            header_case,
            max_connection_duration,
            max_headers_count,
            keepalive,
            protocol,
            http2,
            tls,
        } = self;
        let endpoints = match (kind, &other.kind) {
            (ClusterKind::Static(_), ClusterKind::Static(_)) => true,
            (kind, other) => kind == other,
        };
        endpoints
            && *name == other.name
            && *lb_policy == other.lb_policy
            && *connect_timeout == other.connect_timeout
            && *bind == other.bind
            && *circuit_breakers == other.circuit_breakers
            && *idle_timeout == other.idle_timeout
            && *max_requests_per_connection == other.max_requests_per_connection
            && *header_case == other.header_case
            && *max_connection_duration == other.max_connection_duration
            && *max_headers_count == other.max_headers_count
            && *keepalive == other.keepalive
            && *protocol == other.protocol
            && *http2 == other.http2
            && *tls == other.tls
    }
}

impl ClusterKind {
    /// Whether the endpoints of the other are the same to a balancer, whatever else they are.
    pub fn is_balanced_like(&self, other: &Self) -> bool {
        let (Self::Static(mine), Self::Static(theirs)) = (self, other) else {
            return false;
        };
        mine.len() == theirs.len()
            && mine.iter().zip(theirs).all(|(mine, theirs)| {
                mine.address == theirs.address
                    && mine.healthy == theirs.healthy
                    && mine.balanced == theirs.balanced
            })
    }
}

/// `HttpProtocolOptions.upstream_protocol_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// `explicit_http_config.http_protocol_options`.
    #[default]
    Http1,
    /// `explicit_http_config.http2_protocol_options`.
    Http2,
    /// `use_downstream_protocol_config`: what the request came by.
    Downstream,
    /// `auto_config`: what is agreed on by ALPN; HTTP/1.1 where nothing is, or without TLS.
    Negotiated,
}

/// Where a cluster's endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterKind {
    /// `STATIC`: the addresses in `load_assignment`. May be empty (a black hole).
    Static(Vec<Endpoint>),
    /// `ORIGINAL_DST`: the address that the downstream connection was made to.
    /// `port_override`: `original_dst_lb_config.upstream_port_override`.
    OriginalDst {
        /// Port to use instead of the original one, 1..=65535.
        port_override: Option<u16>,
    },
}

/// One endpoint of a static cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Address and port (port never 0).
    pub address: SocketAddr,
    /// `health_status` is neither `UNHEALTHY`, `DRAINING` nor `TIMEOUT`.
    pub healthy: bool,
    /// What its metadata choose of `transport_socket_matches`, else the cluster's
    /// `transport_socket`; `None` = plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What balancers know of it.
    pub balanced: Balanced,
}

/// Source address of upstream connections, by family; `None` = the kernel chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BindConfig {
    /// Source for IPv4 upstreams.
    pub v4: Option<Ipv4Addr>,
    /// Source for IPv6 upstreams.
    pub v6: Option<Ipv6Addr>,
}

impl BindConfig {
    /// The source to bind for an upstream of this family, or `None`.
    pub fn for_upstream(&self, upstream: IpAddr) -> Option<IpAddr> {
        match upstream {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// Limits of one cluster, for the whole process (`CircuitBreakers.Thresholds`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_pending_requests`.
    pub max_pending_requests: u32,
    /// `max_requests`.
    pub max_requests: u32,
}

impl Default for CircuitBreakers {
    /// Envoy's defaults: 1024 each.
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
        }
    }
}
