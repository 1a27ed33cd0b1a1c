//! Listeners and their filter chains.

use super::reader::Reader;
use super::values::{false_unless, is, true_unless};
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection as PbDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use shunt_proxy::listener::filter_chain::FilterChains;
use shunt_proxy::model::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, TrafficDirection, TransportProtocol,
};
use std::net::SocketAddr;
use std::time::Duration;

/// Envoy's default of `listener_filters_timeout`.
const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);

impl Reader {
    /// One listener.
    pub(super) fn listener(&mut self, listener: pb::Listener, path: &Path<'_>) -> Option<Listener> {
        let traffic_direction = match listener.traffic_direction() {
            PbDirection::Unspecified => TrafficDirection::Unspecified,
            PbDirection::Inbound => TrafficDirection::Inbound,
            PbDirection::Outbound => TrafficDirection::Outbound,
        };
        let bind_to_port = true_unless(listener.bind_to_port);
        let name = self.name(listener.name, &path.field("name"));
        let address = self.listener_address(listener.address, bind_to_port, path);
        let listener_filters = self.each(
            listener.listener_filters,
            &path.field("listener_filters"),
            Self::listener_filter,
        );
        let listener_filters_timeout = self.timeout(
            listener.listener_filters_timeout,
            LISTENER_FILTERS_TIMEOUT,
            &path.field("listener_filters_timeout"),
        );
        let access_log = self.access_logs(listener.access_log, &path.field("access_log"));
        if listener.filter_chains.is_empty() && listener.default_filter_chain.is_none() {
            self.report.invalid(
                &path.field("filter_chains"),
                "a listener needs at least one filter chain, or default_filter_chain",
            );
        }
        let at = path.field("filter_chains");
        let filter_chains = self.each(listener.filter_chains, &at, Self::filter_chain);
        let at = path.field("default_filter_chain");
        let default = listener.default_filter_chain;
        let default_is_given = default.is_some();
        let default_filter_chain = default.and_then(|chain| self.filter_chain(chain, &at));
        if default_is_given
            && default_filter_chain
                .as_ref()
                .is_some_and(|c| c.matcher != FilterChainMatch::default())
        {
            self.report.invalid(
                &at.field("filter_chain_match"),
                "the default chain is taken where no other matches; it cannot have a match",
            );
        }
        let filter_chains: Option<Vec<FilterChain>> = filter_chains.into_iter().collect();
        if let Some(chains) = &filter_chains {
            let matchers = chains.iter().map(|c| (c.matcher.clone(), ())).collect();
            let overlap = FilterChains::compile(matchers, None);
            self.report.check(path, overlap.map(drop));
        }
        Some(Listener {
            name: name?,
            address: address?,
            bind_to_port,
            use_original_dst: false_unless(listener.use_original_dst),
            listener_filters: listener_filters.into_iter().collect::<Option<_>>()?,
            listener_filters_timeout,
            continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
            filter_chains: filter_chains?,
            default_filter_chain,
            traffic_direction,
            access_log,
            stat_prefix: (!listener.stat_prefix.is_empty()).then(|| listener.stat_prefix.into()),
        })
    }

    fn listener_address(
        &mut self,
        address: Option<envoy_types::pb::envoy::config::core::v3::Address>,
        bind_to_port: bool,
        path: &Path<'_>,
    ) -> Option<SocketAddr> {
        let path = path.field("address");
        let address = self.address(address, &path)?;
        if address.port() == 0 && !(bind_to_port && address.ip().is_loopback()) {
            self.report.invalid(
                &path.field("socket_address").field("port_value"),
                "port 0: nothing could find this listener; name its port (the kernel may choose \
                 one on loopback only)",
            );
        }
        Some(address)
    }

    fn listener_filter(
        &mut self,
        filter: pb::ListenerFilter,
        path: &Path<'_>,
    ) -> Option<ListenerFilter> {
        let any = match filter.config_type {
            Some(pb::listener_filter::ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        };
        match any {
            Some(any) if is::<OriginalDst>(&any) => Some(ListenerFilter::OriginalDst),
            Some(any) if is::<HttpInspector>(&any) => Some(ListenerFilter::HttpInspector),
            other => {
                let path = path.field("typed_config");
                self.misplaced(other.as_ref(), "OriginalDst or HttpInspector", &path);
                None
            }
        }
    }

    fn filter_chain(&mut self, chain: pb::FilterChain, path: &Path<'_>) -> Option<FilterChain> {
        let matcher = self.filter_chain_match(
            chain.filter_chain_match.unwrap_or_default(),
            &path.field("filter_chain_match"),
        );
        let at = path.field("transport_socket");
        self.transport_socket(chain.transport_socket, &at);
        let filter = self.network_filters(chain.filters, &path.field("filters"));
        Some(FilterChain {
            name: chain.name.into(),
            matcher: matcher?,
            filter: filter?,
        })
    }

    fn filter_chain_match(
        &mut self,
        matcher: pb::FilterChainMatch,
        path: &Path<'_>,
    ) -> Option<FilterChainMatch> {
        let at = path.field("destination_port");
        let destination_port = match matcher.destination_port.map(|port| port.value) {
            None => Some(None),
            Some(port) => {
                let port = u16::try_from(port)
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| format!("{port} is no port; it is 1 to 65535"));
                self.report.check(&at, port).map(Some)
            }
        };
        let transport_protocol = match matcher.transport_protocol.as_str() {
            "" => Some(None),
            "raw_buffer" => Some(Some(TransportProtocol::RawBuffer)),
            // Nothing would tell TLS from plaintext: such a chain would never be taken, and its
            // connections would go to another.
            other => {
                let message = format!(
                    "{other:?} is known to Envoy, not implemented by Shunt yet, because it needs \
                     tls_inspector; raw_buffer is"
                );
                let path = path.field("transport_protocol");
                self.report.refused(&path, message);
                None
            }
        };
        let protocols = matcher.application_protocols.into_iter();
        Some(FilterChainMatch {
            destination_port: destination_port?,
            transport_protocol: transport_protocol?,
            application_protocols: protocols.map(Into::into).collect(),
        })
    }

    /// Only plaintext is carried yet, of a listener and of a cluster.
    pub(super) fn transport_socket(&mut self, socket: Option<TransportSocket>, path: &Path<'_>) {
        let Some(socket) = socket else { return };
        let any = socket
            .config_type
            .map(|transport_socket::ConfigType::TypedConfig(any)| any);
        if !any.as_ref().is_some_and(is::<RawBuffer>) {
            self.misplaced(any.as_ref(), "RawBuffer", &path.field("typed_config"));
        }
    }
}
