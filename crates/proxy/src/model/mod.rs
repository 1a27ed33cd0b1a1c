//! Validated configuration, as the data path understands it.
//!
//! On the way of configuration this stands between a source (`shunt-xds`) and the compiled
//! snapshot. Values are typed and checked once, at the edge: what is here can be served. Names
//! follow the Envoy v3 field they come from.

mod access_log;
mod balancing;
mod cluster;
mod hash_policy;
mod head;
mod listener;
mod network;
mod route;
mod secret;
mod socket;
mod tls;

pub use access_log::{AccessLog, AccessLogSink, DEFAULT_TEXT_FORMAT};
pub use balancing::{
    Balanced, Choices, ConsistentHashing, HashFunction, LbPolicy, LeastRequest, Maglev, RingHash,
};
pub use cluster::{BindConfig, CircuitBreakers, Cluster, ClusterKind, Endpoint, UpstreamProtocol};
pub use hash_policy::{HashCookie, HashOf, HashPolicy, RegexRewrite};
pub use head::{
    EscapedSlashes, HeadOptions, HeaderCase, HostOptions, PathOptions, StripPort, Underscores,
};
pub use listener::{
    FilterChain, FilterChainMatch, IpRange, Listener, ListenerFilter, ListenerFilterKind,
    PortPredicate, ProxyProtocol, ServerNameMatch, SourceType, TrafficDirection, TransportProtocol,
};
pub use network::{
    ClientCertDetails, Codec, DownstreamLimits, ForwardClientCert, Http2Options, Http10Options,
    HttpConnectionManager, HttpFilter, Keepalive, NetworkFilter, RouteSource, ServerHeader,
    TcpCluster, TcpProxy,
};
pub use route::{
    ClusterWeight, DirectResponse, FullMatchRegex, GrpcTimeouts, HeaderMatch, HeaderMatcher,
    PathMatch, PerTry, Route, RouteAction, RouteConfiguration, RouteForward, RouteMatch,
    RouteTarget, RouteUpgrade, StreamIdle, StringMatch, Timeouts, VirtualHost, WeightedClusters,
};
pub use secret::{Secret, SecretRefs, Secrets};
pub use socket::{ListenerSocket, TcpKeepalive};
pub use tls::{
    CipherSuite12, DownstreamTls, Identity, KeyExchangeGroup, SanKind, SanMatcher, TlsParams,
    UpstreamTls, Validation,
};

use std::net::SocketAddr;
use std::sync::Arc;

/// Why a value cannot be served. The caller knows the path of the field and adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An error with this message; it says what is wrong and what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// All resources of one moment. Shared with those of the next: most do not change.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// In order, names unique.
    pub listeners: Vec<Arc<Listener>>,
    /// In order, names unique.
    pub clusters: Vec<Arc<Cluster>>,
    /// Those that connection managers name ([`RouteSource::Named`]), names unique.
    pub routes: Vec<Arc<RouteConfiguration>>,
    /// Those that transport sockets name ([`SecretRefs`]).
    pub secrets: Secrets,
}

/// What a sidecar starts with (`envoy.config.bootstrap.v3.Bootstrap`).
#[derive(Debug, Clone, Default)]
pub struct Bootstrap {
    /// Where the admin interface listens; `None` = the default, 127.0.0.1:15000. Always loopback.
    pub admin: Option<SocketAddr>,
    /// What is served.
    pub resources: Resources,
}

/// An interned name.
pub type Name = Arc<str>;
