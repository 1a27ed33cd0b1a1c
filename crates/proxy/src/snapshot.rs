//! Compiled configuration: what the data path works with, immutable and shared by all workers.
//!
//! Names have become ids, statistics have become handles, chains have become a match table. On
//! the way of configuration this stands between [`crate::model`] and [`crate::store`]. One thing
//! changes in place: a TLS context whose secret is renewed ([`crate::transport::tls::rotating`]).

mod balancing;
mod compiler;

pub use balancing::{Balancing, HashTable};
pub use compiler::{Compiler, Kept};

use crate::addr::Client;
use crate::cluster::breaker::Breaker;
use crate::cluster::load::Loads;
use crate::http::guard::HeadLimits;
use crate::ids::RouteTableId;
use crate::listener::draining::ChainDrain;
use crate::listener::filter_chain::FilterChains;
use crate::model::{
    self, BindConfig, ClientCertDetails, Codec, DownstreamLimits, ForwardClientCert, HeadOptions,
    HeaderCase, Http2Options, Http10Options, HttpFilter, ListenerFilter, ListenerFilterKind,
    ListenerSocket, Name, ServerHeader, TcpKeepalive, UpstreamProtocol,
};
use crate::observe::access_log::LogSet;
use crate::observe::series::{
    ClusterSeries, ClusterTlsSeries, Http2Series, HttpSeries, ListenerSeries, ListenerTlsSeries,
    TcpSeries,
};
use crate::observe::stats::WorkerStats;
use crate::route::{RouteTable, Target};
use crate::transport::tls::HandshakeError;
use crate::transport::tls::client::ClientTls;
use crate::transport::tls::rotating::Rotating;
use crate::transport::tls::server::ServerTls;
use http::HeaderValue;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// Every listener of the process.
#[derive(Debug, Default)]
pub struct Listeners {
    /// In the order of the configuration.
    pub all: Vec<Arc<Listener>>,
    by_address: HashMap<SocketAddr, Arc<Listener>>,
    capture_ports: Vec<u16>,
}

impl Listeners {
    /// These, in this order; where two have one address, the first stands for it.
    pub fn new(all: Vec<Arc<Listener>>) -> Self {
        let mut by_address = HashMap::new();
        let mut capture_ports = Vec::new();
        for listener in &all {
            for address in &listener.addresses {
                let first = by_address.entry(*address);
                first.or_insert_with(|| Arc::clone(listener));
            }
            if listener.bind_to_port && listener.is_capture() {
                capture_ports.extend(listener.addresses.iter().map(SocketAddr::port));
            }
        }
        Self {
            all,
            by_address,
            capture_ports,
        }
    }

    /// Whether redirected connections arrive at this port.
    pub fn is_capture_port(&self, port: u16) -> bool {
        self.capture_ports.contains(&port)
    }

    /// The listener that serves connections to this original destination: the one with exactly
    /// this address, else the wildcard of this port. A wildcard of IPv4 (`0.0.0.0`) serves IPv6
    /// too, where there is no wildcard of IPv6 of that port: a captured family is always served.
    pub fn for_original_dst(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let at = |ip: IpAddr| {
            self.by_address
                .get(&SocketAddr::new(ip, destination.port()))
        };
        at(destination.ip())
            .or_else(|| {
                destination
                    .is_ipv6()
                    .then(|| at(Ipv6Addr::UNSPECIFIED.into()))
                    .flatten()
            })
            .or_else(|| at(Ipv4Addr::UNSPECIFIED.into()))
    }
}

/// One compiled listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: Name,
    /// Where it listens, or which original destinations it stands for; at least one.
    pub addresses: Box<[SocketAddr]>,
    /// Whether it has a socket of its own.
    pub bind_to_port: bool,
    /// Hand connections to the listener of their original destination.
    pub use_original_dst: bool,
    /// Listener filters in order.
    pub filters: Box<[ListenerFilter]>,
    /// How long the listener filters may take; `None` = for ever.
    pub inspect_timeout: Option<Duration>,
    /// Choose a chain after that time; else the connection is closed.
    pub continue_on_timeout: bool,
    /// How its sockets are made.
    pub socket: ListenerSocket,
    /// Probes on its connections that rest.
    pub keepalive: Option<TcpKeepalive>,
    /// Its filter chains as a match table.
    pub chains: FilterChains<Arc<Chain>>,
    /// Counters.
    pub series: ListenerSeries,
    /// For connections that find no chain.
    pub log: Arc<LogSet>,
    /// For connections that are refused at the door: the listener's own log, else that of its
    /// first chain that has one.
    pub shed_log: Arc<LogSet>,
}

impl Listener {
    /// Whether redirected connections arrive here, so that their destination must be asked for.
    pub fn is_capture(&self) -> bool {
        let restores = |f: &ListenerFilter| f.kind == ListenerFilterKind::OriginalDst;
        self.use_original_dst || self.filters.iter().any(restores)
    }

    /// Whether its connections may call upstreams from their clients' addresses.
    pub fn calls_as_clients(&self) -> bool {
        let kinds = self.filters.iter().map(|f| f.kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, ListenerFilterKind::OriginalSrc { .. }))
    }

    /// As whom a connection of this client to this port calls upstreams, where not as ourselves.
    pub fn client(&self, client: IpAddr, port: u16) -> Option<Client> {
        self.filters.iter().find_map(|filter| match filter.kind {
            ListenerFilterKind::OriginalSrc { mark } if filter.runs_for(port) => {
                Some(Client { ip: client, mark })
            }
            _ => None,
        })
    }
}

/// One filter chain.
#[derive(Debug)]
pub struct Chain {
    /// Terminates TLS; `None` = bytes are taken as they come.
    pub tls: Option<Box<ChainTls>>,
    /// Its terminal filter.
    pub filter: NetworkFilter,
    /// Whether it was replaced or removed.
    pub drain: Arc<ChainDrain>,
}

/// How a filter chain terminates TLS.
#[derive(Debug)]
pub struct ChainTls {
    /// The handshake.
    pub server: Rotating<ServerTls>,
    /// How long it may take; `None` = for ever.
    pub timeout: Option<Duration>,
    /// Counters.
    pub series: ListenerTlsSeries,
}

/// A terminal network filter.
#[derive(Debug)]
pub enum NetworkFilter {
    /// HTTP connection manager.
    Http(Arc<HttpChain>),
    /// TCP proxy.
    Tcp(Arc<TcpChain>),
}

impl NetworkFilter {
    /// Where its records go.
    pub fn log(&self) -> &Arc<LogSet> {
        match self {
            Self::Http(http) => &http.log,
            Self::Tcp(tcp) => &tcp.log,
        }
    }
}

/// A compiled HTTP connection manager.
#[derive(Debug)]
pub struct HttpChain {
    /// Its route table.
    pub routes: Routes,
    /// HTTP filters in order.
    pub filters: Box<[HttpFilter]>,
    /// One record for each request.
    pub log: Arc<LogSet>,
    /// Counters.
    pub series: HttpSeries,
    /// Which versions of HTTP its connections may speak.
    pub codec: Codec,
    /// How HTTP/1.0 is served; `None` = it is refused.
    pub http10: Option<Http10Options>,
    /// How HTTP/2 is spoken.
    pub http2: Http2Options,
    /// Counters of HTTP/2.
    pub http2_series: Http2Series,
    /// How much a head may be.
    pub head_limits: HeadLimits,
    /// A connection without a request for this long is closed.
    pub idle_timeout: Option<Duration>,
    /// A request without a byte for this long is reset.
    pub stream_idle_timeout: Option<Duration>,
    /// What limits its connections and their requests besides.
    pub limits: DownstreamLimits,
    /// Timeout from the first byte of a head to its last.
    pub request_headers_timeout: Option<Duration>,
    /// How long a client may take to read an answer that came before it had sent all.
    pub delayed_close_timeout: Option<Duration>,
    /// Protocols that a connection may switch to, unless a route says otherwise.
    pub upgrades: Box<[Name]>,
    /// What becomes of heads.
    pub heads: HeadOptions,
    /// Whether one may have to be brought into another form before a route is looked for.
    pub rewrites_heads: bool,
    /// The `server` header.
    pub server_name: HeaderValue,
    /// What to do with it.
    pub server_header: ServerHeader,
    /// Make an `x-request-id` where there is none.
    pub generate_request_id: bool,
    /// Append the peer to `x-forwarded-for`.
    pub use_remote_address: bool,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// What is told in it of the client's certificate.
    pub client_cert_details: ClientCertDetails,
    /// Whether its chain was replaced or removed.
    pub drain: Arc<ChainDrain>,
}

/// Where a connection manager finds its routes.
#[derive(Debug)]
pub enum Routes {
    /// They are a part of its configuration.
    Inline(Arc<RouteTable>),
    /// They are in the store, if they are there.
    Named(RouteTableId),
}

impl HttpChain {
    /// Whether its router leaves out `x-envoy-*` headers of our making.
    pub fn suppresses_envoy_headers(&self) -> bool {
        self.filters.iter().any(|filter| match filter {
            HttpFilter::Router {
                suppress_envoy_headers,
            } => *suppress_envoy_headers,
        })
    }
}

/// A compiled TCP proxy.
#[derive(Debug)]
pub struct TcpChain {
    /// Where connections go.
    pub target: Target,
    /// No byte in either direction for this long ends the connection.
    pub idle_timeout: Option<Duration>,
    /// A connection ends after this long whatever it does.
    pub max_duration: Option<Duration>,
    /// How many endpoints are tried.
    pub max_connect_attempts: u32,
    /// Choose endpoints by the client's address, where a cluster looks at a hash.
    pub hash_source: bool,
    /// One record for each connection.
    pub log: Arc<LogSet>,
    /// Counters.
    pub series: TcpSeries,
    /// Whether its chain was replaced or removed.
    pub drain: Arc<ChainDrain>,
}

/// A compiled cluster.
#[derive(Debug)]
pub struct Cluster {
    /// All but its endpoints; the same where a new version has other endpoints alone.
    pub info: Arc<ClusterInfo>,
    /// Where its endpoints come from.
    pub endpoints: Endpoints,
    /// How one of them is chosen.
    pub balancing: Balancing,
    /// What is in flight at each of them, where the policy asks for it.
    pub loads: Option<Loads>,
    /// What each of its transport sockets was compiled to.
    transports: Transports,
}

/// Compiled transport sockets, for endpoints to share, and for the next version of a cluster: they
/// have a memory of sessions.
type Transports = Vec<(Arc<model::UpstreamTls>, Arc<ClusterTls>)>;

impl Deref for Cluster {
    type Target = ClusterInfo;

    fn deref(&self) -> &ClusterInfo {
        &self.info
    }
}

/// What is the same for all endpoints of a cluster.
#[derive(Debug)]
pub struct ClusterInfo {
    /// Its name.
    pub name: Name,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Source addresses.
    pub bind: BindConfig,
    /// What is in flight, in the whole process.
    pub breaker: Arc<Breaker>,
    /// Counters.
    pub series: ClusterSeries,
    /// Which version of HTTP its endpoints speak.
    pub protocol: UpstreamProtocol,
    /// How HTTP/2 is spoken with them.
    pub http2: Http2Options,
    /// How long a pooled connection may idle; `None` = for ever.
    pub idle_timeout: Option<Duration>,
    /// Requests a connection may serve.
    pub max_requests_per_connection: Option<u32>,
    /// How names of headers of HTTP/1 are written.
    pub header_case: HeaderCase,
    /// How old a connection may be to serve another; `None` = as old as it gets.
    pub max_connection_duration: Option<Duration>,
    /// Headers that a response may have; `None` = 100.
    pub max_headers_count: Option<u32>,
    /// Probes on connections that rest.
    pub keepalive: Option<TcpKeepalive>,
    /// How an original destination is reached by TLS; `None` = in plaintext.
    pub tls: Option<Arc<ClusterTls>>,
}

impl Cluster {
    /// What its transport sockets were compiled to.
    pub(crate) fn transports(&self) -> impl Iterator<Item = &Arc<ClusterTls>> {
        self.transports.iter().map(|(_, compiled)| compiled)
    }
}

/// How an endpoint is reached by TLS.
#[derive(Debug)]
pub struct ClusterTls {
    /// The handshake.
    pub client: Rotating<ClientTls>,
    /// Counters.
    pub series: ClusterTlsSeries,
}

/// An endpoint of a static cluster.
#[derive(Debug)]
pub struct StaticEndpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is reached by TLS; `None` = in plaintext.
    pub tls: Option<Arc<ClusterTls>>,
    /// How much it gets beside others.
    pub weight: u32,
}

/// The endpoints of a cluster.
#[derive(Debug)]
pub enum Endpoints {
    /// The healthy ones of a static cluster.
    Static(Box<[StaticEndpoint]>),
    /// Where the downstream wanted to go.
    OriginalDst {
        /// Another port than the original one.
        port_override: Option<u16>,
    },
}

impl Endpoints {
    /// Those that are known beforehand.
    pub fn fixed(&self) -> &[StaticEndpoint] {
        match self {
            Self::Static(endpoints) => endpoints,
            Self::OriginalDst { .. } => &[],
        }
    }
}

impl ClusterTls {
    /// Count a handshake: whether it resumed a session, or why it failed.
    pub fn count(&self, stats: &WorkerStats, handshake: Result<bool, &HandshakeError>) {
        let series = &self.series;
        match handshake {
            Ok(resumed) => {
                stats.inc(series.handshake);
                if resumed {
                    stats.inc(series.session_reused);
                }
            }
            Err(HandshakeError::Untrusted(_)) => stats.inc(series.fail_verify_error),
            Err(HandshakeError::WrongName(_)) => stats.inc(series.fail_verify_san),
            Err(HandshakeError::Protocol(_) | HandshakeError::NoCertificate) => {
                stats.inc(series.connection_error);
            }
            Err(HandshakeError::Connection(_)) => {}
        }
    }
}
