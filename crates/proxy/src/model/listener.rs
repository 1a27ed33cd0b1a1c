//! Listeners and filter chains (`envoy.config.listener.v3`).

use super::{AccessLog, DownstreamTls, Invalid, ListenerSocket, Name, NetworkFilter, TcpKeepalive};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// One listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// `name`, not empty, unique.
    pub name: Name,
    /// `address`. The port is 0 only where the kernel shall choose it (tests).
    pub address: SocketAddr,
    /// `additional_addresses`: where it listens, or which it stands for, besides.
    pub additional_addresses: Vec<SocketAddr>,
    /// `bind_to_port`, default true. False: reached only through a listener with
    /// `use_original_dst`.
    pub bind_to_port: bool,
    /// `use_original_dst`: hand the connection to the listener that matches its original
    /// destination.
    pub use_original_dst: bool,
    /// `listener_filters`, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// `listener_filters_timeout`; Envoy's default is 15 s, `None` = wait for ever (0 in the
    /// configuration).
    pub listener_filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`.
    pub continue_on_listener_filters_timeout: bool,
    /// `filter_chains`, in order.
    pub filter_chains: Vec<FilterChain>,
    /// `default_filter_chain`, taken where no chain matches.
    pub default_filter_chain: Option<FilterChain>,
    /// `traffic_direction`.
    pub traffic_direction: TrafficDirection,
    /// `access_log` of the listener: one record for each connection that found no chain.
    pub access_log: Vec<AccessLog>,
    /// `stat_prefix`, else derived from the address.
    pub stat_prefix: Option<Name>,
    /// How its sockets are made.
    pub socket: ListenerSocket,
    /// `tcp_keepalive` of its connections; `None` = no probes.
    pub keepalive: Option<TcpKeepalive>,
}

impl Listener {
    /// All its addresses, `address` first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.address).chain(self.additional_addresses.iter().copied())
    }

    /// Whether the other differs in its filter chains alone, or not at all.
    pub fn differs_in_chains_only(&self, other: &Self) -> bool {
        let Self {
            name,
            address,
            additional_addresses,
            bind_to_port,
            use_original_dst,
            listener_filters,
            listener_filters_timeout,
            continue_on_listener_filters_timeout,
            filter_chains: _,
            default_filter_chain: _,
            traffic_direction,
            access_log,
            stat_prefix,
            socket,
            keepalive,
        } = self;
        *name == other.name
            && *address == other.address
            && *additional_addresses == other.additional_addresses
            && *bind_to_port == other.bind_to_port
            && *use_original_dst == other.use_original_dst
            && *listener_filters == other.listener_filters
            && *listener_filters_timeout == other.listener_filters_timeout
            && *continue_on_listener_filters_timeout == other.continue_on_listener_filters_timeout
            && *traffic_direction == other.traffic_direction
            && *access_log == other.access_log
            && *stat_prefix == other.stat_prefix
            && *socket == other.socket
            && *keepalive == other.keepalive
    }
}

/// A filter that runs on an accepted connection before its chain is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerFilter {
    /// Which one.
    pub kind: ListenerFilterKind,
    /// `filter_disabled`: where it does not run; `None` = it runs for every connection.
    pub disabled: Option<PortPredicate>,
}

impl ListenerFilter {
    /// A filter that runs for every connection.
    pub fn always(kind: ListenerFilterKind) -> Self {
        Self {
            kind,
            disabled: None,
        }
    }

    /// Whether it runs for a connection to this destination port.
    pub fn runs_for(&self, destination_port: u16) -> bool {
        !self
            .disabled
            .as_ref()
            .is_some_and(|disabled| disabled.holds(destination_port))
    }
}

/// What a listener filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// `envoy.filters.listener.original_dst`: restore the original destination.
    OriginalDst,
    /// `envoy.filters.listener.original_src`: call upstreams from the client's address.
    OriginalSrc {
        /// `mark` of those connections; `None` = none (0 in the configuration).
        mark: Option<NonZeroU32>,
    },
    /// `envoy.filters.listener.proxy_protocol`: take both addresses from a PROXY header.
    ProxyProtocol(ProxyProtocol),
    /// `envoy.filters.listener.tls_inspector`: tell TLS from plaintext; find the server name and
    /// the application protocols that the client offers.
    TlsInspector {
        /// `max_client_hello_size` in bytes: a longer ClientHello ends the connection.
        max_client_hello: usize,
    },
    /// `envoy.filters.listener.http_inspector`: sniff the HTTP version.
    HttpInspector,
}

impl ListenerFilterKind {
    /// Whether it is the TLS inspector.
    pub fn is_tls_inspector(self) -> bool {
        matches!(self, Self::TlsInspector { .. })
    }
}

/// `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// `allow_requests_without_proxy_protocol`: connections without a header pass as they are.
    pub optional: bool,
    /// Version 1 is not in `disallowed_versions`.
    pub v1: bool,
    /// Version 2 is not in `disallowed_versions`.
    pub v2: bool,
}

/// A condition on the destination port (`ListenerFilterChainMatchPredicate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortPredicate {
    /// `any_match`.
    Any,
    /// `not_match`.
    Not(Box<Self>),
    /// `and_match`.
    And(Vec<Self>),
    /// `or_match`.
    Or(Vec<Self>),
    /// `destination_port_range`: from the first, up to but without the second.
    Range(i32, i32),
}

impl PortPredicate {
    /// Whether it holds for this port.
    pub fn holds(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Not(inner) => !inner.holds(port),
            Self::And(all) => all.iter().all(|p| p.holds(port)),
            Self::Or(any) => any.iter().any(|p| p.holds(port)),
            Self::Range(start, end) => (*start..*end).contains(&i32::from(port)),
        }
    }
}

/// Which way a listener's traffic goes, as the sidecar sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// One filter chain: what it matches and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterChain {
    /// `name`; may be empty.
    pub name: Name,
    /// `filter_chain_match`.
    pub matcher: FilterChainMatch,
    /// `transport_socket`; `None` = plaintext, or whatever it is is passed on.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`: how long the handshake may take; `None` = for ever (0
    /// in the configuration).
    pub handshake_timeout: Option<Duration>,
    /// The terminal network filter.
    pub filter: NetworkFilter,
}

/// What a chain matches (`FilterChainMatch`); an empty matcher matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterChainMatch {
    /// `destination_port`, of the original destination.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`: any of these holds the original destination.
    pub prefix_ranges: Vec<IpRange>,
    /// `server_names`: any of these is what the client asks for.
    pub server_names: Vec<ServerNameMatch>,
    /// `transport_protocol`.
    pub transport_protocol: Option<TransportProtocol>,
    /// `application_protocols`: any of these (`http/1.0`, `http/1.1`, `h2c` from the HTTP
    /// inspector, what the client offers by ALPN from the TLS inspector).
    pub application_protocols: Vec<Name>,
    /// `direct_source_prefix_ranges`: any of these holds the address that connected to us.
    pub direct_source_prefix_ranges: Vec<IpRange>,
    /// `source_type`; `None` = `ANY`.
    pub source_type: Option<SourceType>,
    /// `source_prefix_ranges`: any of these holds the peer, which a PROXY header may name.
    pub source_prefix_ranges: Vec<IpRange>,
    /// `source_ports`: any of these is the peer's.
    pub source_ports: Vec<u16>,
}

impl FilterChainMatch {
    /// Whether a connection can match only where a TLS inspector looked at it.
    pub fn needs_tls_inspector(&self) -> bool {
        let asks = !self.server_names.is_empty() || !self.application_protocols.is_empty();
        match self.transport_protocol {
            Some(TransportProtocol::Tls) => true,
            Some(TransportProtocol::RawBuffer) => false,
            None => asks,
        }
    }
}

/// One of `server_names`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerNameMatch {
    /// Exactly this name.
    Exact(Name),
    /// `*.example.com`: every name that ends in this, which begins with a dot.
    Suffix(Name),
}

impl fmt::Display for ServerNameMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Where a connection comes from (`ConnectionSourceType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// `SAME_IP_OR_LOOPBACK`: from this host.
    Local,
    /// `EXTERNAL`: from anywhere else.
    External,
}

impl fmt::Display for SourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "SAME_IP_OR_LOOPBACK",
            Self::External => "EXTERNAL",
        })
    }
}

/// A range of addresses of one family (`CidrRange`), without bits behind its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpRange {
    first: IpAddr,
    prefix_len: u8,
}

impl IpRange {
    /// The range of all addresses that share `prefix_len` bits with this one.
    ///
    /// # Errors
    /// Where the family has fewer bits.
    pub fn new(address: IpAddr, prefix_len: u32) -> Result<Self, Invalid> {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        match u8::try_from(prefix_len) {
            Ok(prefix_len) if prefix_len <= bits => Ok(Self {
                first: masked(address, prefix_len),
                prefix_len,
            }),
            _ => Err(Invalid::new(format!(
                "{prefix_len} bits: an address such as {address} has {bits}"
            ))),
        }
    }

    /// The range of this prefix length that holds an address; `prefix_len` beyond its bits means
    /// the address alone.
    pub fn around(address: IpAddr, prefix_len: u8) -> Self {
        Self {
            first: masked(address, prefix_len),
            prefix_len,
        }
    }

    /// How many bits its addresses share.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_len)
    }
}

/// An address without the bits behind a prefix.
fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    let prefix_len = u32::from(prefix_len);
    match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(prefix_len).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & !host).into()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(prefix_len).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & !host).into()
        }
    }
}

/// What carries the connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Plaintext, or not inspected.
    RawBuffer,
    /// TLS, as `tls_inspector` sees it.
    Tls,
}

impl fmt::Display for TransportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RawBuffer => "raw_buffer",
            Self::Tls => "tls",
        })
    }
}
