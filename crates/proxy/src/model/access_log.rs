//! Access logs (`envoy.config.accesslog.v3.AccessLog`).

use std::path::PathBuf;

/// Istio's default text format (`xds-istio` contract, one line per request or connection). Used
/// where a file or stdout access log names no format of its own.
pub const DEFAULT_TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// One access log of a filter or listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub sink: AccessLogSink,
    /// Format string with Envoy's `%OPERATOR%`s, checked by
    /// `observe::access_log::Format::parse`; includes its own line end.
    pub format: String,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// Standard output (`/dev/stdout` or the stdout access logger).
    Stdout,
    /// Standard error (`/dev/stderr` or the stderr access logger).
    Stderr,
    /// A file, opened for append.
    File(PathBuf),
}
