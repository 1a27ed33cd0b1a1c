//! The HTTP connection manager.

use super::cluster::limit;
use super::network::IDLE_TIMEOUT;
use super::reader::Reader;
use super::values::{false_unless, is, true_unless};
use crate::files::Kind;
use crate::path::Path;
use ::http::HeaderValue;
use envoy_types::pb::envoy::config::core::v3::Http1ProtocolOptions;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use pb::http_connection_manager::{
    CodecType, ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation,
};
use shunt_proxy::http::headers::is_authority;
use shunt_proxy::model::{
    ClientCertDetails, Codec, DownstreamLimits, ForwardClientCert, Http10Options,
    HttpConnectionManager, HttpFilter, Name, RouteSource, ServerHeader,
};
use std::time::Duration;

/// Envoy's default of `stream_idle_timeout`.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Envoy's default of `delayed_close_timeout`.
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Envoy's default of `max_request_headers_kb`.
const HEADERS_KB: u32 = 60;
/// Envoy's default of `max_headers_count`.
const HEADERS_COUNT: u32 = 100;
/// Envoy's default of `server_name`.
const SERVER_NAME: &str = "envoy";
/// An `upgrade_type` that is no stream of bytes.
pub(super) const UDP: &str = "connect-udp";
/// What is said to it.
pub(super) const NO_UDP: &str =
    "CONNECT-UDP is not implemented by Shunt yet; CONNECT, websocket and others are";

impl Reader {
    /// One connection manager.
    pub(super) fn http_connection_manager(
        &mut self,
        manager: pb::HttpConnectionManager,
        path: &Path<'_>,
    ) -> Option<HttpConnectionManager> {
        let server_header = match manager.server_header_transformation() {
            ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        };
        let forward_client_cert = match manager.forward_client_cert_details() {
            ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
            ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
            ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
            ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
            ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
        };
        let details = manager.set_current_client_cert_details.unwrap_or_default();
        let codec = match manager.codec_type() {
            CodecType::Auto => Codec::Auto,
            CodecType::Http1 => Codec::Http1,
            CodecType::Http2 => Codec::Http2,
            CodecType::Http3 => {
                let message = "HTTP3 is not implemented by Shunt yet; AUTO, HTTP1 and HTTP2 are";
                self.report.refused(&path.field("codec_type"), message);
                Codec::Auto
            }
        };
        let heads = self.head_options(&manager, path);
        let at = path.field("http_protocol_options");
        let http10 = manager
            .http_protocol_options
            .and_then(|options| self.http10_options(options, &at));
        let at = path.field("http2_protocol_options");
        let http2 = self.http2_options(manager.http2_protocol_options, &at);
        let at = path.field("max_request_headers_kb");
        let headers_kb = self.number(manager.max_request_headers_kb, HEADERS_KB, 1..=8192, &at);
        let stat_prefix = self.name(manager.stat_prefix, &path.field("stat_prefix"));
        let route_config = match manager.route_specifier {
            Some(RouteSpecifier::RouteConfig(config)) => self
                .route_configuration(config, true, &path.field("route_config"))
                .map(RouteSource::Inline),
            Some(RouteSpecifier::Rds(rds)) => self.rds(rds, &path.field("rds")),
            _ => {
                let message = "it is required, or rds in its place";
                self.report.invalid(&path.field("route_config"), message);
                None
            }
        };
        let http_filters = self.http_filters(manager.http_filters, &path.field("http_filters"));
        let access_log = self.access_logs(manager.access_log, &path.field("access_log"));
        let stream_idle_timeout = self.timeout(
            manager.stream_idle_timeout,
            STREAM_IDLE_TIMEOUT,
            &path.field("stream_idle_timeout"),
        );
        let request_headers_timeout = self
            .duration(
                manager.request_headers_timeout,
                &path.field("request_headers_timeout"),
            )
            .filter(|timeout| !timeout.is_zero());
        let delayed_close_timeout = self.timeout(
            manager.delayed_close_timeout,
            DELAYED_CLOSE_TIMEOUT,
            &path.field("delayed_close_timeout"),
        );
        let at = path.field("common_http_protocol_options");
        let common = manager.common_http_protocol_options.unwrap_or_default();
        let duration = |reader: &mut Self, duration, path: &Path<'_>| {
            reader
                .duration(duration, path)
                .filter(|limit| !limit.is_zero())
        };
        let at_life = at.field("max_connection_duration");
        let at_stream = at.field("max_stream_duration");
        let at_drain = path.field("drain_timeout");
        let default = DownstreamLimits::default();
        let drain_timeout = self.duration(manager.drain_timeout, &at_drain);
        let limits = DownstreamLimits {
            max_connection_duration: duration(self, common.max_connection_duration, &at_life),
            http1_ends_with_answer: manager.http1_safe_max_connection_duration,
            drain_timeout: drain_timeout.unwrap_or(default.drain_timeout),
            max_requests_per_connection: limit(common.max_requests_per_connection),
            request_timeout: duration(
                self,
                manager.request_timeout,
                &path.field("request_timeout"),
            ),
            max_stream_duration: duration(self, common.max_stream_duration, &at_stream),
        };
        let at_count = at.field("max_headers_count");
        let count = self.number(
            common.max_headers_count,
            HEADERS_COUNT,
            1..=u32::MAX,
            &at_count,
        );
        let idle_timeout =
            self.timeout(common.idle_timeout, IDLE_TIMEOUT, &at.field("idle_timeout"));
        if let Some(extension) = manager.request_id_extension {
            let path = path.field("request_id_extension");
            let path = path.field("typed_config");
            let any = extension.typed_config;
            if !any.as_ref().is_some_and(is::<UuidRequestIdConfig>) {
                self.misplaced(any.as_ref(), "UuidRequestIdConfig", &path);
            }
        }
        let at = path.field("upgrade_configs");
        let upgrades = self.upgrades(manager.upgrade_configs, &at);
        let server_name = match manager.server_name.as_str() {
            "" => SERVER_NAME.into(),
            name => name.into(),
        };
        Some(HttpConnectionManager {
            stat_prefix: stat_prefix?,
            route_config: route_config?,
            http_filters: http_filters?,
            access_log,
            codec,
            http10,
            http2,
            max_request_headers: headers_kb as usize * 1024,
            max_headers_count: count as usize,
            idle_timeout,
            stream_idle_timeout,
            limits,
            heads,
            request_headers_timeout,
            delayed_close_timeout,
            upgrades,
            server_name,
            server_header,
            generate_request_id: true_unless(manager.generate_request_id),
            use_remote_address: false_unless(manager.use_remote_address),
            forward_client_cert,
            client_cert_details: ClientCertDetails {
                subject: false_unless(details.subject),
                uri: details.uri,
                dns: details.dns,
                cert: details.cert,
                chain: details.chain,
            },
        })
    }

    /// How HTTP/1.0 is served, where it is.
    fn http10_options(
        &mut self,
        options: Http1ProtocolOptions,
        path: &Path<'_>,
    ) -> Option<Http10Options> {
        let host = Some(options.default_host_for_http_10).filter(|host| !host.is_empty());
        let at = path.field("default_host_for_http_10");
        let default_host = host.and_then(|host| {
            let value = HeaderValue::from_str(&host);
            let value = value.ok().filter(is_authority);
            let value = value.ok_or_else(|| format!("{host:?} is no host, or host and port"));
            self.report.check(&at, value)
        });
        options
            .accept_http_10
            .then_some(Http10Options { default_host })
    }

    /// Routes that are in a file.
    fn rds(&mut self, rds: pb::Rds, path: &Path<'_>) -> Option<RouteSource> {
        let name = self.name(rds.route_config_name, &path.field("route_config_name"));
        let at = path.field("config_source");
        let Some(source) = rds.config_source else {
            self.report.invalid(&at, "it is required");
            return None;
        };
        let source = self.required_file_source(source, &at)?;
        let name = name?;
        self.want(Kind::Routes, &name, source);
        Some(RouteSource::Named(name))
    }

    /// Protocols that a connection may switch to.
    fn upgrades(
        &mut self,
        configs: Vec<pb::http_connection_manager::UpgradeConfig>,
        path: &Path<'_>,
    ) -> Vec<Name> {
        let mut upgrades: Vec<Name> = Vec::with_capacity(configs.len());
        for (i, config) in configs.into_iter().enumerate() {
            let at = path.index(i);
            let at = at.field("upgrade_type");
            let name: Name = config.upgrade_type.to_ascii_lowercase().into();
            if name.is_empty() {
                self.report
                    .invalid(&at, "it is required and must not be empty");
            } else if &*name == UDP {
                self.report.refused(&at, NO_UDP);
            } else if upgrades.contains(&name) {
                self.report
                    .invalid(&at, "it is there already; keep one of them");
            } else if true_unless(config.enabled) {
                upgrades.push(name);
            }
        }
        upgrades
    }

    /// The filters of a manager: those before the router are yet to come.
    fn http_filters(
        &mut self,
        filters: Vec<pb::HttpFilter>,
        path: &Path<'_>,
    ) -> Option<Vec<HttpFilter>> {
        if filters.is_empty() {
            let message = "the last filter must be the router (envoy.filters.http.router)";
            self.report.invalid(path, message);
            return None;
        }
        let last = filters.len() - 1;
        let filters = self.each(filters, path, Self::http_filter);
        for (i, filter) in filters.iter().enumerate() {
            if i != last && matches!(filter, Some(HttpFilter::Router { .. })) {
                let message = "the router must be the last filter, and the only one of its kind";
                self.report.invalid(&path.index(i), message);
            }
        }
        filters.into_iter().collect()
    }

    fn http_filter(&mut self, filter: pb::HttpFilter, path: &Path<'_>) -> Option<HttpFilter> {
        let path = path.field("typed_config");
        let any = match filter.config_type {
            Some(pb::http_filter::ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        };
        match any {
            Some(any) if is::<Router>(&any) => {
                let router: Router = self.extension(&any, &path)?;
                Some(HttpFilter::Router {
                    suppress_envoy_headers: router.suppress_envoy_headers,
                })
            }
            other => {
                self.misplaced(other.as_ref(), "Router", &path);
                None
            }
        }
    }
}
