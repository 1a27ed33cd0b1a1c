//! What a connection manager makes of heads, and how HTTP/1 writes them.

use super::reader::Reader;
use super::values::{false_unless, is};
use crate::path::Path;
use ::http::HeaderValue;
use envoy_types::pb::envoy::config::core::v3::Http1ProtocolOptions;
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use pb::http_connection_manager::{PathWithEscapedSlashesAction, StripPortMode};
use shunt_proxy::model::{
    EscapedSlashes, HeadOptions, HeaderCase, HostOptions, PathOptions, StripPort, Underscores,
};

impl Reader {
    /// The options of the connection manager at `path`.
    pub(super) fn head_options(
        &mut self,
        manager: &pb::HttpConnectionManager,
        path: &Path<'_>,
    ) -> HeadOptions {
        let escaped_slashes = match manager.path_with_escaped_slashes_action() {
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
            PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
            PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
            PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Forward,
        };
        let any_port = matches!(
            manager.strip_port_mode,
            Some(StripPortMode::StripAnyHostPort(true))
        );
        let strip_port = match (manager.strip_matching_host_port, any_port) {
            (_, true) => StripPort::Any,
            (true, false) => StripPort::Matching,
            (false, false) => StripPort::None,
        };
        if manager.strip_matching_host_port && any_port {
            let message = "strip_matching_host_port is there too; keep one of them";
            self.report
                .invalid(&path.field("strip_any_host_port"), message);
        }
        let common = manager.common_http_protocol_options.as_ref();
        let underscores = match common.map(|c| c.headers_with_underscores_action()) {
            None | Some(HeadersWithUnderscoresAction::Allow) => Underscores::Allow,
            Some(HeadersWithUnderscoresAction::RejectRequest) => Underscores::Reject,
            Some(HeadersWithUnderscoresAction::DropHeader) => Underscores::Drop,
        };
        let via = match manager.via.as_str() {
            "" => None,
            via => {
                let via = HeaderValue::from_str(via)
                    .map_err(|_control| "a header has no control characters; take them out");
                self.report.check(&path.field("via"), via)
            }
        };
        let at = path.field("http_protocol_options");
        let http1 = manager.http_protocol_options.as_ref();
        HeadOptions {
            path: PathOptions {
                escaped_slashes,
                normalize: false_unless(manager.normalize_path),
                merge_slashes: manager.merge_slashes,
            },
            host: HostOptions {
                strip_dot: manager.strip_trailing_host_dot,
                strip_port,
            },
            underscores,
            via,
            trusted_hops: manager.xff_num_trusted_hops,
            skip_forwarded_for: manager.skip_xff_append,
            forwarded_port: manager.append_x_forwarded_port,
            keep_request_id: manager.preserve_external_request_id,
            answer_request_id: manager.always_set_request_id_in_response,
            proxy_continue: manager.proxy_100_continue,
            case: self.header_case(http1, &at),
        }
    }

    /// The `header_key_format` of the options at `path`.
    pub(super) fn header_case(
        &mut self,
        options: Option<&Http1ProtocolOptions>,
        path: &Path<'_>,
    ) -> HeaderCase {
        let Some(format) = options.and_then(|options| options.header_key_format.as_ref()) else {
            return HeaderCase::Lower;
        };
        let path = path.field("header_key_format");
        match &format.header_format {
            Some(HeaderFormat::ProperCaseWords(_)) => HeaderCase::Proper,
            Some(HeaderFormat::StatefulFormatter(formatter)) => {
                let any = formatter.typed_config.as_ref();
                let path = path.field("stateful_formatter");
                let path = path.field("typed_config");
                if !any.is_some_and(is::<PreserveCaseFormatterConfig>) {
                    self.misplaced(any, "PreserveCaseFormatterConfig", &path);
                }
                HeaderCase::Preserved
            }
            None => {
                let message = "it needs proper_case_words or stateful_formatter";
                self.report.invalid(&path, message);
                HeaderCase::Lower
            }
        }
    }
}
