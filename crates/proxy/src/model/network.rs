//! Terminal network filters.

use super::{AccessLog, HeadOptions, Name, RouteConfiguration, WeightedClusters};
use http::HeaderValue;
use std::time::Duration;

/// The terminal filter of a chain.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each chain, and it lives until it is compiled"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`.
    Http(HttpConnectionManager),
    /// `envoy.filters.network.tcp_proxy`.
    Tcp(TcpProxy),
}

impl NetworkFilter {
    /// Whether it tells upstreams what the client's certificate is.
    pub fn wants_certificates(&self) -> bool {
        match self {
            Self::Http(http) => http.client_cert_details.cert || http.client_cert_details.chain,
            Self::Tcp(_) => false,
        }
    }

    /// Application protocols that it cannot serve, and that TLS must therefore not agree on.
    pub fn not_served(&self) -> &'static [&'static str] {
        match self {
            Self::Http(http) if http.codec == Codec::Http1 => &["h2"],
            Self::Http(_) | Self::Tcp(_) => &[],
        }
    }
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpProxy {
    /// `stat_prefix`, not empty.
    pub stat_prefix: Name,
    /// Where connections go.
    pub cluster: TcpCluster,
    /// `idle_timeout`: no byte in either direction for this long ends the connection; Envoy's
    /// default is 1 h, `None` = never (0 in the configuration).
    pub idle_timeout: Option<Duration>,
    /// `max_downstream_connection_duration`: a connection ends after this long whatever it does;
    /// `None` = never.
    pub max_duration: Option<Duration>,
    /// `max_connect_attempts`, at least 1: how many endpoints are tried, one after the other.
    pub max_connect_attempts: u32,
    /// `hash_policy` is `source_ip`: clusters that look at a hash choose an endpoint by the
    /// client's address.
    pub hash_source: bool,
    /// `access_log`: one record for each connection.
    pub access_log: Vec<AccessLog>,
}

/// `TcpProxy.cluster_specifier`.
#[derive(Debug, Clone, PartialEq)]
pub enum TcpCluster {
    /// `cluster`.
    Cluster(Name),
    /// `weighted_clusters`.
    Weighted(WeightedClusters),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConnectionManager {
    /// `stat_prefix`, not empty.
    pub stat_prefix: Name,
    /// `route_config` or `rds`.
    pub route_config: RouteSource,
    /// `http_filters`, in order; the last is the router.
    pub http_filters: Vec<HttpFilter>,
    /// `access_log`: one record for each request.
    pub access_log: Vec<AccessLog>,
    /// `codec_type`.
    pub codec: Codec,
    /// `http_protocol_options.accept_http_10`: how HTTP/1.0 is served; `None` = it is refused.
    pub http10: Option<Http10Options>,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `max_request_headers_kb` in bytes; Envoy's default is 60 KiB.
    pub max_request_headers: usize,
    /// `common_http_protocol_options.max_headers_count`; Envoy's default is 100.
    pub max_headers_count: usize,
    /// `common_http_protocol_options.idle_timeout`: a connection without a request for this long
    /// is closed; Envoy's default is 1 h, `None` = never (0 in the configuration).
    pub idle_timeout: Option<Duration>,
    /// `stream_idle_timeout`: a request without a byte for this long is reset; Envoy's default is
    /// 5 min, `None` = never (0 in the configuration).
    pub stream_idle_timeout: Option<Duration>,
    /// What limits its connections and their requests besides.
    pub limits: DownstreamLimits,
    /// `request_headers_timeout`: a head must be whole this long after its first byte; `None` =
    /// no limit, as in Envoy by default (0 in the configuration).
    pub request_headers_timeout: Option<Duration>,
    /// `delayed_close_timeout`: how long a client that is answered before it has sent all may take
    /// to read the answer and close; Envoy's default is 1 s, `None` = closed at once (0 in the
    /// configuration).
    pub delayed_close_timeout: Option<Duration>,
    /// `upgrade_configs` that are enabled: protocols that a connection may switch to, in lower
    /// case; `connect` for the method CONNECT. A route may say otherwise.
    pub upgrades: Vec<Name>,
    /// What becomes of heads besides.
    pub heads: HeadOptions,
    /// `server_name`, default `envoy`.
    pub server_name: Name,
    /// `server_header_transformation`.
    pub server_header: ServerHeader,
    /// `generate_request_id`, default true: make an `x-request-id` where there is none.
    pub generate_request_id: bool,
    /// `use_remote_address`, default false: append the peer to `x-forwarded-for`.
    pub use_remote_address: bool,
    /// `forward_client_cert_details`.
    pub forward_client_cert: ForwardClientCert,
    /// `set_current_client_cert_details`.
    pub client_cert_details: ClientCertDetails,
}

/// How long connections and requests may last, and how many requests a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownstreamLimits {
    /// `common_http_protocol_options.max_connection_duration`: from then on a connection is drained;
    /// `None` = never.
    pub max_connection_duration: Option<Duration>,
    /// `http1_safe_max_connection_duration`: a drained connection of HTTP/1 ends with its next
    /// answer and not before.
    pub http1_ends_with_answer: bool,
    /// `drain_timeout`: a connection that is drained and has nothing to serve is closed after this
    /// long; Envoy's default is 5 s.
    pub drain_timeout: Duration,
    /// `common_http_protocol_options.max_requests_per_connection`; `None` = no limit.
    pub max_requests_per_connection: Option<u32>,
    /// `request_timeout`: a request must have come in whole this long after its head; `None` = no
    /// limit.
    pub request_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`: how long a request and its response may
    /// take together, where their route does not say; `None` = no limit.
    pub max_stream_duration: Option<Duration>,
}

impl Default for DownstreamLimits {
    /// Envoy's: none.
    fn default() -> Self {
        Self {
            max_connection_duration: None,
            http1_ends_with_answer: false,
            drain_timeout: Duration::from_secs(5),
            max_requests_per_connection: None,
            request_timeout: None,
            max_stream_duration: None,
        }
    }
}

/// Where the routes of a connection manager are (`HttpConnectionManager.route_specifier`).
#[derive(Debug, Clone, PartialEq)]
pub enum RouteSource {
    /// `route_config`: they are a part of it, and change with its chain.
    Inline(RouteConfiguration),
    /// `rds`: they are a resource of this name, and change on their own.
    Named(Name),
}

/// Which versions of HTTP a connection may speak (`CodecType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// `AUTO`: what was agreed on by ALPN, else HTTP/2 where the client begins with its preface.
    #[default]
    Auto,
    /// `HTTP1`.
    Http1,
    /// `HTTP2`.
    Http2,
}

/// How clients of HTTP/1.0 are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http10Options {
    /// `default_host_for_http_10`: the host of a request that names none; `None` = such a request
    /// is refused.
    pub default_host: Option<HeaderValue>,
}

/// `Http2ProtocolOptions`, of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`, 1..2^31; Envoy's default is 1024.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size` in bytes, 65535..2^31.
    pub stream_window: u32,
    /// `initial_connection_window_size` in bytes, 65535..2^31.
    pub connection_window: u32,
    /// `hpack_table_size` in bytes: what the peer's encoder may use; Envoy's default is 4096.
    pub hpack_table: u32,
    /// `connection_keepalive`.
    pub keepalive: Option<Keepalive>,
    /// `allow_connect`: protocols may be switched to by an extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `stream_reset_burst`: so many streams a client may reset at once; Envoy's default is 1000.
    pub reset_burst: u64,
    /// `stream_reset_rate`: and so many more with each second; Envoy's default is 33.
    pub reset_rate: u64,
}

impl Default for Http2Options {
    /// Envoy's defaults, but for the windows: each byte of them may have to be held for a peer
    /// that does not read, and 1 MiB keeps a stream of 80 Gbit/s busy over 0.1 ms.
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            stream_window: 1024 * 1024,
            connection_window: 16 * 1024 * 1024,
            hpack_table: 4096,
            keepalive: None,
            allow_connect: false,
            reset_burst: 1000,
            reset_rate: 33,
        }
    }
}

/// `KeepaliveSettings`: a PING now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// `interval`, more than 0.
    pub interval: Duration,
    /// `interval_jitter`: up to so many percent are added at random; Envoy's default is 15.
    pub jitter_percent: u8,
    /// `timeout`: the connection ends if its answer takes longer; more than 0.
    pub timeout: Duration,
}

/// What becomes of `x-forwarded-client-cert` (`ForwardClientCertDetails`). Where the client showed
/// no certificate it is removed, but for `AlwaysForwardOnly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    /// `SANITIZE`: removed.
    #[default]
    Sanitize,
    /// `FORWARD_ONLY`: kept.
    ForwardOnly,
    /// `APPEND_FORWARD`: kept, and the client's own certificate is appended.
    AppendForward,
    /// `SANITIZE_SET`: replaced by the client's own certificate.
    SanitizeSet,
    /// `ALWAYS_FORWARD_ONLY`: kept, whoever sent it.
    AlwaysForwardOnly,
}

/// What is told of a client's certificate besides its hash (`SetCurrentClientCertDetails`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `subject`.
    pub subject: bool,
    /// `uri`.
    pub uri: bool,
    /// `dns`.
    pub dns: bool,
    /// `cert`: the certificate itself.
    pub cert: bool,
    /// `chain`: the certificate and those that vouch for it.
    pub chain: bool,
}

/// `ServerHeaderTransformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// `OVERWRITE`: always our name.
    #[default]
    Overwrite,
    /// `APPEND_IF_ABSENT`: our name where the upstream gave none.
    AppendIfAbsent,
    /// `PASS_THROUGH`: as the upstream gave it, or none.
    PassThrough,
}

/// An HTTP filter of a connection manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFilter {
    /// `envoy.filters.http.router`.
    Router {
        /// `suppress_envoy_headers`: leave out `x-envoy-*` headers of our making.
        suppress_envoy_headers: bool,
    },
}
