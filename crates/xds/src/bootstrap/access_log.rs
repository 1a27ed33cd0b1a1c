//! Access logs.

use super::reader::Reader;
use super::values::is;
use crate::path::Path;
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source, substitution_format_string,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream;
use shunt_proxy::model::{AccessLog, AccessLogSink, DEFAULT_TEXT_FORMAT};
use shunt_proxy::observe::access_log::Format;

impl Reader {
    /// All access logs of a listener or filter.
    pub(super) fn access_logs(
        &mut self,
        logs: Vec<pb::AccessLog>,
        path: &Path<'_>,
    ) -> Vec<AccessLog> {
        let logs = self.each(logs, path, Self::access_log);
        logs.into_iter().flatten().collect()
    }

    fn access_log(&mut self, log: pb::AccessLog, path: &Path<'_>) -> Option<AccessLog> {
        let at = path.field("typed_config");
        let any = log
            .config_type
            .map(|pb::access_log::ConfigType::TypedConfig(any)| any);
        match any {
            Some(any) if is::<file::FileAccessLog>(&any) => {
                let log = self.extension(&any, &at)?;
                self.file_access_log(log, &at)
            }
            Some(any) if is::<stream::StdoutAccessLog>(&any) => {
                use stream::stdout_access_log::AccessLogFormat::LogFormat;
                let log: stream::StdoutAccessLog = self.extension(&any, &at)?;
                let format = log.access_log_format.map(|LogFormat(format)| format);
                Some(AccessLog {
                    sink: AccessLogSink::Stdout,
                    format: self.log_format(format, &at)?,
                })
            }
            Some(any) if is::<stream::StderrAccessLog>(&any) => {
                use stream::stderr_access_log::AccessLogFormat::LogFormat;
                let log: stream::StderrAccessLog = self.extension(&any, &at)?;
                let format = log.access_log_format.map(|LogFormat(format)| format);
                Some(AccessLog {
                    sink: AccessLogSink::Stderr,
                    format: self.log_format(format, &at)?,
                })
            }
            other => {
                let expected = "FileAccessLog, StdoutAccessLog or StderrAccessLog";
                self.misplaced(other.as_ref(), expected, &at);
                None
            }
        }
    }

    fn file_access_log(&mut self, log: file::FileAccessLog, path: &Path<'_>) -> Option<AccessLog> {
        use file::file_access_log::AccessLogFormat;
        let sink = match self.name(log.path, &path.field("path")).as_deref() {
            Some("/dev/stdout") => Some(AccessLogSink::Stdout),
            Some("/dev/stderr") => Some(AccessLogSink::Stderr),
            Some(path) => Some(AccessLogSink::File(path.into())),
            None => None,
        };
        let format = match log.access_log_format {
            #[expect(deprecated, reason = "bootstraps in use still have it")]
            Some(AccessLogFormat::Format(format)) => self.text(format, &path.field("format")),
            Some(AccessLogFormat::LogFormat(format)) => self.log_format(Some(format), path),
            _ => self.log_format(None, path),
        };
        Some(AccessLog {
            sink: sink?,
            format: format?,
        })
    }

    /// The `log_format` of the message at `path`.
    fn log_format(
        &mut self,
        format: Option<SubstitutionFormatString>,
        path: &Path<'_>,
    ) -> Option<String> {
        use substitution_format_string::Format as PbFormat;
        let Some(format) = format else {
            return Some(DEFAULT_TEXT_FORMAT.to_owned());
        };
        let path = path.field("log_format");
        match format.format {
            #[expect(deprecated, reason = "bootstraps in use still have it")]
            Some(PbFormat::TextFormat(text)) => self.text(text, &path.field("text_format")),
            Some(PbFormat::TextFormatSource(source)) => {
                let path = path.field("text_format_source");
                let bytes = self.data_source(Some(source), &path)?;
                let text = String::from_utf8(bytes);
                let text = self.report.check(&path, text)?;
                self.text(text, &path)
            }
            _ => {
                self.report
                    .invalid(&path, "it is required to hold text_format_source");
                None
            }
        }
    }

    /// A format string whose operators the proxy knows.
    fn text(&mut self, format: String, path: &Path<'_>) -> Option<String> {
        if format.is_empty() {
            return Some(DEFAULT_TEXT_FORMAT.to_owned());
        }
        self.report.check(path, Format::parse(&format))?;
        Some(format)
    }

    /// Bytes that stand in the configuration itself.
    pub(super) fn data_source(
        &mut self,
        source: Option<DataSource>,
        path: &Path<'_>,
    ) -> Option<Vec<u8>> {
        use data_source::Specifier;
        match source.and_then(|s| s.specifier) {
            Some(Specifier::InlineString(text)) => Some(text.into_bytes()),
            Some(Specifier::InlineBytes(bytes)) => Some(bytes),
            Some(Specifier::Filename(_)) => {
                let message = "known to Envoy, not implemented by Shunt yet but for certificates";
                self.report.refused(&path.field("filename"), message);
                None
            }
            _ => {
                self.report
                    .invalid(path, "it is required to hold inline_string or inline_bytes");
                None
            }
        }
    }
}
