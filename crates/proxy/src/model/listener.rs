//! Listeners and filter chains (`envoy.config.listener.v3`).

use super::{AccessLog, Name, NetworkFilter};
use std::net::SocketAddr;
use std::time::Duration;

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `name`, not empty, unique.
    pub name: Name,
    /// `address`. The port is 0 only where the kernel shall choose it (tests).
    pub address: SocketAddr,
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
}

/// A filter that runs on an accepted connection before its chain is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerFilter {
    /// `envoy.filters.listener.original_dst`: restore the original destination.
    OriginalDst,
    /// `envoy.filters.listener.http_inspector`: sniff the HTTP version.
    HttpInspector,
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
#[derive(Debug, Clone)]
pub struct FilterChain {
    /// `name`; may be empty.
    pub name: Name,
    /// `filter_chain_match`.
    pub matcher: FilterChainMatch,
    /// The terminal network filter.
    pub filter: NetworkFilter,
}

/// What a chain matches (`FilterChainMatch`); an empty matcher matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterChainMatch {
    /// `destination_port`, of the original destination.
    pub destination_port: Option<u16>,
    /// `transport_protocol`.
    pub transport_protocol: Option<TransportProtocol>,
    /// `application_protocols`: any of these (`http/1.0`, `http/1.1`, `h2c` from the inspector).
    pub application_protocols: Vec<Name>,
}

/// What carries the connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Plaintext, or not inspected.
    RawBuffer,
    /// TLS, as `tls_inspector` sees it.
    Tls,
}
