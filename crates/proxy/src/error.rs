//! What can go wrong with a request or connection, and what the downstream is told.
//!
//! An error knows its side, its stage and whether the request was sent; [`Failure::reply`] is the
//! one table that makes a status, a response flag and details of it. The words are Envoy's.

use crate::http::grpc;
use crate::observe::flags::Flags;
use http::StatusCode;
use std::borrow::Cow;

/// Why a request was not answered by an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Downstream, head: not a request that we may forward.
    BadRequest {
        /// `RESPONSE_CODE_DETAILS`.
        details: &'static str,
    },
    /// Downstream, head: it does not say to whom it goes.
    MissingHost,
    /// Downstream, head: too many headers, or too many bytes of them.
    HeadTooLarge,
    /// Downstream, head: a path that has no normal form, or one that is refused.
    PathNormalization,
    /// Downstream, head: a path that does not begin with `/`.
    PathNotAbsolute,
    /// Downstream, body: it ended before it was complete.
    DownstreamEnded,
    /// Downstream, head: HTTP/1.0, which is not accepted.
    Http10,
    /// Downstream, head: an upgrade that is not configured.
    UpgradeFailed,
    /// No virtual host or no route of it matches.
    RouteNotFound,
    /// The route names a cluster that does not exist.
    ClusterNotFound {
        /// `cluster_not_found_response_code`.
        status: StatusCode,
    },
    /// The cluster has no endpoint to choose.
    NoHealthyUpstream,
    /// A circuit breaker is open.
    Overflow,
    /// Upstream, connect: refused, unreachable, or no local resource for it.
    ConnectFailure {
        /// `UPSTREAM_TRANSPORT_FAILURE_REASON`.
        reason: Cow<'static, str>,
    },
    /// Upstream, connect: `connect_timeout` is over.
    ConnectTimeout,
    /// Upstream, response head: the connection ended first. The request may have been received.
    ConnectionTermination,
    /// Upstream, response head: it reset the stream.
    UpstreamReset {
        /// Before it worked on the request, which may be sent again.
        refused: bool,
    },
    /// Upstream, response head: not HTTP.
    UpstreamProtocol,
    /// Upstream, response: the route's timeout is over.
    ResponseTimeout,
    /// Upstream, response head: the time of the attempt is over.
    PerTryTimeout,
    /// Upstream, response head: the attempt idled for too long.
    PerTryIdleTimeout,
    /// Downstream, body: `request_timeout` is over.
    RequestTimeout,
    /// Either side: the time that a stream may take is over.
    MaxDuration {
        /// Whether the whole request had arrived.
        request_complete: bool,
    },
    /// Either side: no byte moved for longer than `stream_idle_timeout`.
    StreamIdle {
        /// Whether the whole request had arrived.
        request_complete: bool,
    },
}

/// What a failure looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Status of the local reply.
    pub status: StatusCode,
    /// Response flags.
    pub flags: Flags,
    /// `RESPONSE_CODE_DETAILS`.
    pub details: &'static str,
    /// Body of the local reply, text/plain; may be empty.
    pub body: &'static str,
}

impl Failure {
    /// Status, flags, details and body of this failure.
    pub fn reply(&self) -> Reply {
        let reply = |status, flags, details, body| Reply {
            status,
            flags,
            details,
            body,
        };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::BadRequest { details } => {
                reply(StatusCode::BAD_REQUEST, Flags::DPE, details, "Bad Request")
            }
            Self::MissingHost => reply(
                StatusCode::BAD_REQUEST,
                Flags::DPE,
                "missing_host_header",
                "",
            ),
            Self::HeadTooLarge => reply(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Flags::DPE,
                "http2.too_many_headers",
                "Request Header Fields Too Large",
            ),
            Self::PathNormalization => reply(
                StatusCode::BAD_REQUEST,
                Flags::empty(),
                "path_normalization_failed",
                "",
            ),
            Self::PathNotAbsolute => reply(
                StatusCode::NOT_FOUND,
                Flags::empty(),
                "absolute_path_rejected",
                "",
            ),
            Self::DownstreamEnded => reply(
                StatusCode::BAD_REQUEST,
                Flags::DC,
                "downstream_remote_disconnect",
                "",
            ),
            Self::Http10 => reply(
                StatusCode::UPGRADE_REQUIRED,
                Flags::empty(),
                "low_version",
                "Upgrade Required",
            ),
            Self::UpgradeFailed => {
                reply(StatusCode::FORBIDDEN, Flags::empty(), "upgrade_failed", "")
            }
            Self::RouteNotFound => reply(StatusCode::NOT_FOUND, Flags::NR, "route_not_found", ""),
            Self::ClusterNotFound { status } => reply(*status, Flags::NC, "cluster_not_found", ""),
            Self::NoHealthyUpstream => reply(
                unavailable,
                Flags::UH,
                "no_healthy_upstream",
                "no healthy upstream",
            ),
            Self::Overflow => reply(
                unavailable,
                Flags::UO,
                "upstream_reset_before_response_started{overflow}",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            ),
            Self::ConnectFailure { .. } => reply(
                unavailable,
                Flags::UF,
                "upstream_reset_before_response_started{remote_connection_failure}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 remote connection failure",
            ),
            Self::ConnectTimeout => reply(
                unavailable,
                Flags::UF,
                "upstream_reset_before_response_started{connection_timeout}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 connection timeout",
            ),
            Self::ConnectionTermination => reply(
                unavailable,
                Flags::UC,
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 connection termination",
            ),
            Self::UpstreamReset { refused: false } => reply(
                unavailable,
                Flags::UR,
                "upstream_reset_before_response_started{remote_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 remote reset",
            ),
            Self::UpstreamReset { refused: true } => reply(
                unavailable,
                Flags::UR,
                "upstream_reset_before_response_started{remote_refused_stream_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 remote refused stream reset",
            ),
            Self::UpstreamProtocol => reply(
                StatusCode::BAD_GATEWAY,
                Flags::UPE,
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 protocol error",
            ),
            Self::ResponseTimeout => reply(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UT,
                "response_timeout",
                "upstream request timeout",
            ),
            Self::PerTryTimeout => reply(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UT,
                "upstream_per_try_timeout",
                "upstream request timeout",
            ),
            Self::PerTryIdleTimeout => reply(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UT,
                "upstream_per_try_idle_timeout",
                "upstream request timeout",
            ),
            Self::RequestTimeout => reply(
                StatusCode::REQUEST_TIMEOUT,
                Flags::empty(),
                "request_overall_timeout",
                "request timeout",
            ),
            Self::MaxDuration { request_complete } => reply(
                late(*request_complete),
                Flags::empty(),
                "max_duration_timeout",
                "downstream duration timeout",
            ),
            Self::StreamIdle { request_complete } => {
                let status = late(*request_complete);
                reply(status, Flags::SI, "stream_idle_timeout", "stream timeout")
            }
        }
    }

    /// The status of gRPC of this failure.
    pub fn grpc_status(&self) -> u16 {
        match self {
            Self::MaxDuration { .. } => grpc::DEADLINE_EXCEEDED,
            other => grpc::status(other.reply().status),
        }
    }

    /// Whether the downstream connection is not to be trusted with another request.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest { .. }
                | Self::MissingHost
                | Self::PathNormalization
                | Self::Http10
                | Self::UpgradeFailed
        )
    }

    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`, empty where there is none.
    pub fn transport_failure(&self) -> Cow<'static, str> {
        match self {
            Self::ConnectFailure { reason } => reason.clone(),
            Self::ConnectTimeout => Cow::Borrowed("connect timeout"),
            _ => Cow::Borrowed(""),
        }
    }
}

/// The status of what took too long: whose fault it is depends on whether the request had come.
fn late(request_complete: bool) -> StatusCode {
    if request_complete {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::REQUEST_TIMEOUT
    }
}
