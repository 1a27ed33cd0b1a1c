//! What a connection manager makes of the heads of requests and responses.

use http::HeaderValue;

/// Options of a connection manager that are about heads. The default is Envoy's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadOptions {
    /// What becomes of a path before a route is looked for.
    pub path: PathOptions,
    /// What becomes of the host before a route is looked for.
    pub host: HostOptions,
    /// `common_http_protocol_options.headers_with_underscores_action`.
    pub underscores: Underscores,
    /// `via`: appended to that header of requests and responses.
    pub via: Option<HeaderValue>,
    /// `xff_num_trusted_hops`: so many proxies before this one are believed.
    pub trusted_hops: u32,
    /// `skip_xff_append`: the peer is not appended to `x-forwarded-for`.
    pub skip_forwarded_for: bool,
    /// `append_x_forwarded_port`: tell the port by `x-forwarded-port`.
    pub forwarded_port: bool,
    /// `preserve_external_request_id`: a client's `x-request-id` stays at the edge.
    pub keep_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub answer_request_id: bool,
    /// `proxy_100_continue`: the upstream decides whether the client is to go on.
    pub proxy_continue: bool,
    /// `http_protocol_options.header_key_format`: how names of headers of HTTP/1 are written.
    pub case: HeaderCase,
}

impl HeadOptions {
    /// Whether a head may have to be brought into another form before a route is looked for.
    pub fn rewrites(&self) -> bool {
        self.path != PathOptions::default()
            || self.host != HostOptions::default()
            || self.underscores != Underscores::Allow
    }
}

/// What becomes of a path, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// `normalize_path`: dots are resolved and needless escapes undone (RFC 3986 section 6).
    pub normalize: bool,
    /// `merge_slashes`: several in a row become one.
    pub merge_slashes: bool,
}

/// `PathWithEscapedSlashesAction`: what `%2F` and `%5C` in a path lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`.
    #[default]
    Keep,
    /// `REJECT_REQUEST`: 400.
    Reject,
    /// `UNESCAPE_AND_REDIRECT`: 307 to the path without them.
    Redirect,
    /// `UNESCAPE_AND_FORWARD`.
    Forward,
}

/// What becomes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostOptions {
    /// `strip_trailing_host_dot`.
    pub strip_dot: bool,
    /// `strip_matching_host_port`, `strip_any_host_port`.
    pub strip_port: StripPort,
}

/// Which port is taken off the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StripPort {
    /// None.
    #[default]
    None,
    /// The one that the connection was made to.
    Matching,
    /// Any.
    Any,
}

/// `HeadersWithUnderscoresAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// `ALLOW`.
    #[default]
    Allow,
    /// `REJECT_REQUEST`: 400.
    Reject,
    /// `DROP_HEADER`.
    Drop,
}

/// How names of headers are written in HTTP/1 (`Http1ProtocolOptions.HeaderKeyFormat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderCase {
    /// In lower case.
    #[default]
    Lower,
    /// `proper_case_words`.
    Proper,
    /// `envoy.http.stateful_header_formatters.preserve_case`: as they were received; those of our
    /// making in lower case.
    Preserved,
}
