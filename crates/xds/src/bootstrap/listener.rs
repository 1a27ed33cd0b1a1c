//! Listeners and their filter chains.

use super::reader::Reader;
use super::values::{false_unless, true_unless};
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection as PbDirection;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use shunt_proxy::listener::filter_chain::FilterChains;
use shunt_proxy::listener::inspect::tls::MAX_CLIENT_HELLO;
use shunt_proxy::model::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterKind, ListenerSocket,
    TrafficDirection,
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
        let at = path.field("address");
        let address = self.listener_address(listener.address, bind_to_port, &at);
        let at = path.field("additional_addresses");
        let additional = listener.additional_addresses;
        let additional = self.each(additional, &at, |reader, additional, path| {
            let at = path.field("address");
            reader.listener_address(additional.address, bind_to_port, &at)
        });
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
        let keepalive = self.tcp_keepalive(listener.tcp_keepalive, &path.field("tcp_keepalive"));
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
        let filter_chains = filter_chains?;
        let mut listener_filters = listener_filters.into_iter().collect::<Option<Vec<_>>>()?;
        if filter_chains
            .iter()
            .any(|c| c.matcher.needs_tls_inspector())
            && !listener_filters.iter().any(|f| f.kind.is_tls_inspector())
        {
            // As Envoy does: else such a chain could never be taken.
            listener_filters.push(ListenerFilter::always(ListenerFilterKind::TlsInspector {
                max_client_hello: MAX_CLIENT_HELLO,
            }));
        }
        Some(Listener {
            name: name?,
            address: address?,
            additional_addresses: additional.into_iter().collect::<Option<_>>()?,
            bind_to_port,
            use_original_dst: false_unless(listener.use_original_dst),
            listener_filters,
            listener_filters_timeout,
            continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
            filter_chains,
            default_filter_chain,
            traffic_direction,
            access_log,
            socket: ListenerSocket {
                transparent: false_unless(listener.transparent),
                freebind: false_unless(listener.freebind),
                backlog: listener.tcp_backlog_size.map(|size| size.value),
                reuse_port: true_unless(listener.enable_reuse_port),
            },
            keepalive,
            stat_prefix: (!listener.stat_prefix.is_empty()).then(|| listener.stat_prefix.into()),
        })
    }

    fn listener_address(
        &mut self,
        address: Option<envoy_types::pb::envoy::config::core::v3::Address>,
        bind_to_port: bool,
        path: &Path<'_>,
    ) -> Option<SocketAddr> {
        let address = self.address(address, path)?;
        if address.port() == 0 && !(bind_to_port && address.ip().is_loopback()) {
            self.report.invalid(
                &path.field("socket_address").field("port_value"),
                "port 0: nothing could find this listener; name its port (the kernel may choose \
                 one on loopback only)",
            );
        }
        Some(address)
    }
}
