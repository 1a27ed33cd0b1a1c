//! Clusters.

use super::address;
use super::network::IDLE_TIMEOUT;
use super::reader::Reader;
use super::transports::Transports;
use super::values::is;
use crate::files::Kind;
use crate::path::Path;
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::{
    BindConfig as PbBindConfig, HttpProtocolOptions as CommonOptions, RoutingPriority,
    SocketAddress,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use pb::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig};
use shunt_proxy::model::{
    BindConfig, CircuitBreakers, Cluster, ClusterKind, HeaderCase, Http2Options, LbPolicy,
    UpstreamProtocol,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Envoy's default of `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The key and type of a cluster's HTTP options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// The source by which the redirect rules know an inbound sidecar's connections, by family. Istio
/// names only the first where it does not know of IPv6.
const INBOUND_SOURCE: (Ipv4Addr, Ipv6Addr) = (
    shunt_abi::addr::INBOUND_SOURCE_V4,
    shunt_abi::addr::INBOUND_SOURCE_V6,
);

/// What the HTTP options of a cluster say.
struct HttpOptions {
    protocol: UpstreamProtocol,
    header_case: HeaderCase,
    http2: Http2Options,
    idle_timeout: Option<Duration>,
    max_requests_per_connection: Option<u32>,
    max_connection_duration: Option<Duration>,
    max_headers_count: Option<u32>,
}

impl Reader {
    /// One cluster, and how its endpoints are reached.
    pub(super) fn cluster(
        &mut self,
        mut cluster: pb::Cluster,
        path: &Path<'_>,
    ) -> Option<(Cluster, Transports)> {
        let name = self.name(std::mem::take(&mut cluster.name), &path.field("name"));
        let at = path.field("connect_timeout");
        let connect_timeout = match cluster.connect_timeout {
            None => CONNECT_TIMEOUT,
            given => self.duration(given, &at).unwrap_or(CONNECT_TIMEOUT),
        };
        if connect_timeout.is_zero() {
            self.report.invalid(&at, "it must be more than 0");
        }
        let transports = self.transports(&mut cluster, path);
        let at = path.field("upstream_bind_config");
        let bind = self.bind_config(cluster.upstream_bind_config.take(), &at);
        let at = path.field("circuit_breakers");
        let circuit_breakers = self.circuit_breakers(cluster.circuit_breakers.take(), &at);
        let http = self.http_options(&mut cluster, path);
        let at = path.field("upstream_connection_options");
        let options = cluster.upstream_connection_options.take();
        let keepalive = options.and_then(|options| options.tcp_keepalive);
        let keepalive = self.tcp_keepalive(keepalive, &at.field("tcp_keepalive"));
        let transports = transports?;
        if http.protocol == UpstreamProtocol::Negotiated && transports.of(None).is_none() {
            let at = path.field("transport_socket");
            let message = "auto_config asks the upstream by ALPN, which needs TLS; give it a \
                           transport_socket of TLS, or an explicit_http_config";
            self.report.invalid(&at, message);
        }
        let name = name?;
        let (kind, lb_policy) = self.kind(cluster, &name, &transports, path)?;
        let cluster = Cluster {
            name,
            kind,
            lb_policy,
            connect_timeout,
            bind: bind?,
            circuit_breakers,
            protocol: http.protocol,
            http2: http.http2,
            idle_timeout: http.idle_timeout,
            max_requests_per_connection: http.max_requests_per_connection,
            header_case: http.header_case,
            max_connection_duration: http.max_connection_duration,
            max_headers_count: http.max_headers_count,
            keepalive,
            tls: transports.of(None),
        };
        Some((cluster, transports))
    }

    fn kind(
        &mut self,
        mut cluster: pb::Cluster,
        name: &str,
        transports: &Transports,
        path: &Path<'_>,
    ) -> Option<(ClusterKind, LbPolicy)> {
        let eds = cluster.eds_cluster_config.take();
        let discovery = match cluster.cluster_discovery_type {
            None => DiscoveryType::Static as i32,
            Some(ClusterDiscoveryType::Type(discovery)) => discovery,
            Some(ClusterDiscoveryType::ClusterType(_)) => return None,
        };
        let original_dst = discovery == DiscoveryType::OriginalDst as i32;
        let policy = self.lb_policy(&mut cluster, original_dst, path);
        let kind = match DiscoveryType::try_from(discovery) {
            Ok(DiscoveryType::Static) => {
                let at = path.field("load_assignment");
                let endpoints = self.load_assignment(cluster.load_assignment, transports, &at);
                self.no_original_dst(cluster.lb_config.as_ref(), path);
                endpoints.map(ClusterKind::Static)
            }
            Ok(DiscoveryType::Eds) => {
                if cluster.load_assignment.is_some() {
                    let at = path.field("load_assignment");
                    let message = "a cluster of type EDS takes its endpoints from eds_config; \
                                   leave it out";
                    self.report.invalid(&at, message);
                }
                self.no_original_dst(cluster.lb_config.as_ref(), path);
                self.eds(eds, name, &path.field("eds_cluster_config"));
                return Some((ClusterKind::Static(Vec::new()), policy?));
            }
            Ok(DiscoveryType::OriginalDst) => {
                if cluster.load_assignment.is_some() {
                    let at = path.field("load_assignment");
                    let message = "a cluster of type ORIGINAL_DST takes its endpoint from the \
                                   connection; leave it out";
                    self.report.invalid(&at, message);
                }
                let port_override = self.port_override(cluster.lb_config, path);
                port_override.map(|port_override| ClusterKind::OriginalDst { port_override })
            }
            Ok(other) => {
                let message = format!(
                    "{} is known to Envoy, not implemented by Shunt yet; STATIC, EDS and ORIGINAL_DST are",
                    other.as_str_name()
                );
                self.report.refused(&path.field("type"), message);
                return None;
            }
            Err(_) => {
                self.report
                    .unknown(&path.field("type"), "there is no such type");
                return None;
            }
        };
        if eds.is_some() {
            let at = path.field("eds_cluster_config");
            self.report
                .invalid(&at, "only a cluster of type EDS has it");
        }
        Some((kind?, policy?))
    }

    /// Where the endpoints of an EDS cluster are.
    fn eds(
        &mut self,
        config: Option<pb::cluster::EdsClusterConfig>,
        cluster: &str,
        path: &Path<'_>,
    ) {
        let config = config.unwrap_or_default();
        let at = path.field("eds_config");
        let Some(source) = config.eds_config else {
            let message = "it is required: a cluster of type EDS has its endpoints there";
            return self.report.invalid(&at, message);
        };
        if let Some(source) = self.required_file_source(source, &at) {
            let name = match config.service_name.as_str() {
                "" => cluster,
                name => name,
            };
            self.want(Kind::Endpoints, name, source);
        }
    }

    fn no_original_dst(&mut self, config: Option<&LbConfig>, path: &Path<'_>) {
        if matches!(config, Some(LbConfig::OriginalDstLbConfig(_))) {
            let at = path.field("original_dst_lb_config");
            let message = "only a cluster of type ORIGINAL_DST has it";
            self.report.invalid(&at, message);
        }
    }

    fn port_override(&mut self, config: Option<LbConfig>, path: &Path<'_>) -> Option<Option<u16>> {
        let Some(LbConfig::OriginalDstLbConfig(config)) = config else {
            return Some(None);
        };
        let Some(port) = config.upstream_port_override else {
            return Some(None);
        };
        let port = u16::try_from(port.value)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("{} is no port; it is 1 to 65535", port.value));
        let path = path.field("original_dst_lb_config");
        self.report
            .check(&path.field("upstream_port_override"), port)
            .map(Some)
    }

    /// The HTTP options of a cluster, from where Envoy takes them: the typed ones, and where there
    /// are none the deprecated fields of the cluster itself.
    #[expect(deprecated, reason = "bootstraps in use still have them")]
    fn http_options(&mut self, cluster: &mut pb::Cluster, path: &Path<'_>) -> HttpOptions {
        let at = path.field("typed_extension_protocol_options");
        let mut typed = std::mem::take(&mut cluster.typed_extension_protocol_options);
        let http = typed.remove(HTTP_OPTIONS);
        for key in typed.keys() {
            let message = format!("it is not implemented by Shunt yet; {HTTP_OPTIONS} is");
            self.report.refused(&at.key(key), message);
        }
        let Some(any) = http else {
            let common = cluster.common_http_protocol_options.take();
            let mut options = self.common_options(common, path);
            if let Some(http2) = cluster.http2_protocol_options.take() {
                let at = path.field("http2_protocol_options");
                options.http2 = self.http2_options(Some(http2), &at);
                options.protocol = UpstreamProtocol::Http2;
            }
            let at = path.field("http_protocol_options");
            options.header_case = self.header_case(cluster.http_protocol_options.as_ref(), &at);
            let own = limit(cluster.max_requests_per_connection);
            options.max_requests_per_connection = options.max_requests_per_connection.or(own);
            return options;
        };
        let at = at.key(HTTP_OPTIONS);
        if !is::<HttpProtocolOptions>(&any) {
            self.misplaced(Some(&any), HTTP_OPTIONS, &at);
        }
        let options: HttpProtocolOptions = self.extension(&any, &at).unwrap_or_default();
        let mut read = self.common_options(options.common_http_protocol_options, &at);
        let http2 = match options.upstream_protocol_options {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => {
                match config.protocol_config {
                    Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                        read.protocol = UpstreamProtocol::Http2;
                        Some(("explicit_http_config", http2))
                    }
                    Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                        let at = at.field("explicit_http_config");
                        let at = at.field("http_protocol_options");
                        read.header_case = self.header_case(Some(&http1), &at);
                        None
                    }
                    _ => None,
                }
            }
            Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
                read.protocol = UpstreamProtocol::Downstream;
                let at = at.field("use_downstream_protocol_config");
                let at = at.field("http_protocol_options");
                read.header_case = self.header_case(config.http_protocol_options.as_ref(), &at);
                let http2 = config.http2_protocol_options;
                http2.map(|http2| ("use_downstream_protocol_config", http2))
            }
            Some(UpstreamProtocolOptions::AutoConfig(config)) => {
                read.protocol = UpstreamProtocol::Negotiated;
                let http2 = config.http2_protocol_options;
                http2.map(|http2| ("auto_config", http2))
            }
            None => {
                let message = "it needs explicit_http_config, use_downstream_protocol_config or \
                               auto_config";
                self.report.invalid(&at, message);
                None
            }
        };
        if let Some((config, http2)) = http2 {
            let at = at.field(config);
            let at = at.field("http2_protocol_options");
            read.http2 = self.http2_options(Some(http2), &at);
        }
        read
    }

    /// The `common_http_protocol_options` of the message at `path`.
    fn common_options(&mut self, common: Option<CommonOptions>, path: &Path<'_>) -> HttpOptions {
        let path = path.field("common_http_protocol_options");
        let common = common.unwrap_or_default();
        let at = path.field("max_headers_count");
        let max_headers_count = common
            .max_headers_count
            .map(|most| self.number(Some(most), 0, 1..=u32::MAX, &at));
        if common.max_stream_duration.is_some() {
            let message = "known to Envoy, not implemented by Shunt for clusters yet; a route or a \
                           connection manager has it";
            self.report
                .refused(&path.field("max_stream_duration"), message);
        }
        let at = path.field("max_connection_duration");
        let max_connection_duration = self.duration(common.max_connection_duration, &at);
        HttpOptions {
            protocol: UpstreamProtocol::Http1,
            header_case: HeaderCase::Lower,
            http2: Http2Options::default(),
            idle_timeout: self.timeout(
                common.idle_timeout,
                IDLE_TIMEOUT,
                &path.field("idle_timeout"),
            ),
            max_requests_per_connection: limit(common.max_requests_per_connection),
            max_connection_duration: max_connection_duration.filter(|limit| !limit.is_zero()),
            max_headers_count,
        }
    }

    fn bind_config(&mut self, config: Option<PbBindConfig>, path: &Path<'_>) -> Option<BindConfig> {
        let Some(config) = config else {
            return Some(BindConfig::default());
        };
        let mut bind = BindConfig::default();
        let at = path.field("source_address");
        let first = config.source_address.map(|a| self.source(a, &at));
        let mut sources: Vec<Option<IpAddr>> = first.into_iter().collect();
        let extra = path.field("extra_source_addresses");
        for (i, source) in config.extra_source_addresses.into_iter().enumerate() {
            let at = extra.index(i);
            let address = source.address.unwrap_or_default();
            sources.push(self.source(address, &at.field("address")));
        }
        if sources.len() > 2 {
            let message = "at most one extra source, of the other address family, is possible";
            self.report.invalid(&extra, message);
        }
        for source in sources {
            let taken = match source? {
                IpAddr::V4(v4) => bind.v4.replace(v4).is_some(),
                IpAddr::V6(v6) => bind.v6.replace(v6).is_some(),
            };
            if taken {
                let message = "two sources of one address family; give one for each";
                self.report.invalid(&extra, message);
            }
        }
        if bind.v4 == Some(INBOUND_SOURCE.0) && bind.v6.is_none() {
            bind.v6 = Some(INBOUND_SOURCE.1);
        }
        // The unspecified address leaves the choice to the kernel, as no address does.
        bind.v4 = bind.v4.filter(|ip| !ip.is_unspecified());
        bind.v6 = bind.v6.filter(|ip| !ip.is_unspecified());
        Some(bind)
    }

    fn source(&mut self, address: SocketAddress, path: &Path<'_>) -> Option<IpAddr> {
        let address = SocketAddress {
            // Envoy's own examples leave it out here.
            port_specifier: address.port_specifier.or(Some(
                envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier::PortValue(
                    0,
                ),
            )),
            ..address
        };
        let source = address::socket_address(address, path, &mut self.report)?;
        if source.port() != 0 {
            let message = "one source port allows one connection per upstream; write 0";
            self.report.refused(&path.field("port_value"), message);
        }
        Some(source.ip())
    }

    fn circuit_breakers(
        &mut self,
        breakers: Option<pb::CircuitBreakers>,
        path: &Path<'_>,
    ) -> CircuitBreakers {
        let mut result = CircuitBreakers::default();
        let mut seen = false;
        let path = path.field("thresholds");
        let thresholds = breakers.unwrap_or_default().thresholds;
        for (i, threshold) in thresholds.into_iter().enumerate() {
            if threshold.priority() != RoutingPriority::Default {
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                let message = "the default priority has thresholds already; keep one of them";
                self.report.invalid(&path.index(i), message);
            }
            let value =
                |given: Option<UInt32Value>, default: u32| given.map_or(default, |v| v.value);
            result = CircuitBreakers {
                max_connections: value(threshold.max_connections, result.max_connections),
                max_pending_requests: value(
                    threshold.max_pending_requests,
                    result.max_pending_requests,
                ),
                max_requests: value(threshold.max_requests, result.max_requests),
            };
        }
        result
    }
}

/// A limit where 0 means none.
pub(super) fn limit(limit: Option<UInt32Value>) -> Option<u32> {
    limit.map(|limit| limit.value).filter(|limit| *limit != 0)
}
