//! Filter chains and what they match.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use pb::filter_chain_match::ConnectionSourceType;
use shunt_proxy::model::{
    FilterChain, FilterChainMatch, IpRange, ServerNameMatch, SourceType, TransportProtocol,
};

impl Reader {
    /// One filter chain.
    pub(super) fn filter_chain(
        &mut self,
        chain: pb::FilterChain,
        path: &Path<'_>,
    ) -> Option<FilterChain> {
        let matcher = self.filter_chain_match(
            chain.filter_chain_match.unwrap_or_default(),
            &path.field("filter_chain_match"),
        );
        let filter = self.network_filters(chain.filters, &path.field("filters"));
        let at = path.field("transport_socket");
        let tls = self.downstream_socket(chain.transport_socket, filter.as_ref(), &at);
        let at = path.field("transport_socket_connect_timeout");
        let handshake_timeout = self
            .duration(chain.transport_socket_connect_timeout, &at)
            .filter(|timeout| !timeout.is_zero());
        Some(FilterChain {
            name: chain.name.into(),
            matcher: matcher?,
            tls: tls?,
            handshake_timeout,
            filter: filter?,
        })
    }

    fn filter_chain_match(
        &mut self,
        matcher: pb::FilterChainMatch,
        path: &Path<'_>,
    ) -> Option<FilterChainMatch> {
        let source_type = match matcher.source_type() {
            ConnectionSourceType::Any => None,
            ConnectionSourceType::SameIpOrLoopback => Some(SourceType::Local),
            ConnectionSourceType::External => Some(SourceType::External),
        };
        let at = path.field("destination_port");
        let destination_port = match matcher.destination_port {
            None => Some(None),
            Some(port) => self.port(port.value, &at).map(Some),
        };
        let at = path.field("transport_protocol");
        let transport_protocol = match matcher.transport_protocol.as_str() {
            "" => Some(None),
            "raw_buffer" => Some(Some(TransportProtocol::RawBuffer)),
            "tls" => Some(Some(TransportProtocol::Tls)),
            other => {
                // Nothing finds it: such a chain would never be taken, and its connections would
                // go to another.
                let message = format!("{other:?} is none that Shunt finds; raw_buffer and tls are");
                self.report.refused(&at, message);
                None
            }
        };
        let at = path.field("server_names");
        let server_names = self.each(matcher.server_names, &at, Self::server_name);
        let at = path.field("prefix_ranges");
        let prefix_ranges = self.each(matcher.prefix_ranges, &at, Self::ip_range);
        let at = path.field("direct_source_prefix_ranges");
        let direct = self.each(matcher.direct_source_prefix_ranges, &at, Self::ip_range);
        let at = path.field("source_prefix_ranges");
        let source = self.each(matcher.source_prefix_ranges, &at, Self::ip_range);
        let at = path.field("source_ports");
        let source_ports = self.each(matcher.source_ports, &at, Self::port);
        let protocols = matcher.application_protocols.into_iter();
        Some(FilterChainMatch {
            destination_port: destination_port?,
            prefix_ranges: prefix_ranges.into_iter().collect::<Option<_>>()?,
            server_names: server_names.into_iter().collect::<Option<_>>()?,
            transport_protocol: transport_protocol?,
            application_protocols: protocols.map(Into::into).collect(),
            direct_source_prefix_ranges: direct.into_iter().collect::<Option<_>>()?,
            source_type,
            source_prefix_ranges: source.into_iter().collect::<Option<_>>()?,
            source_ports: source_ports.into_iter().collect::<Option<_>>()?,
        })
    }

    fn port(&mut self, port: u32, path: &Path<'_>) -> Option<u16> {
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("{port} is no port; it is 1 to 65535"));
        self.report.check(path, port)
    }

    fn server_name(&mut self, name: String, path: &Path<'_>) -> Option<ServerNameMatch> {
        let name = self.name(name, path)?.to_ascii_lowercase();
        match name.strip_prefix('*') {
            None if name.contains('*') => {}
            None => return Some(ServerNameMatch::Exact(name.into())),
            Some(suffix)
                if suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*') =>
            {
                return Some(ServerNameMatch::Suffix(suffix.into()));
            }
            Some(_) => {}
        }
        let message = format!(
            "{name:?} is no server name that can be matched; write it out, or *.example.com for \
             all below a domain"
        );
        self.report.invalid(path, message);
        None
    }

    fn ip_range(&mut self, range: CidrRange, path: &Path<'_>) -> Option<IpRange> {
        let text = &range.address_prefix;
        let address = text
            .parse()
            .ok()
            .ok_or_else(|| format!("{text:?} is no IP address"));
        let address = self.report.check(&path.field("address_prefix"), address)?;
        // Envoy: without a length, the range of the whole family.
        let length = range.prefix_len.map_or(0, |length| length.value);
        let range = IpRange::new(address, length);
        self.report.check(&path.field("prefix_len"), range)
    }
}
