//! HTTP: the connection manager, its filters, and what they pass along.

pub mod answer;
pub mod backlog;
pub mod body;
pub mod client_cert;
pub mod codec;
pub mod connection_manager;
pub mod cut;
pub mod date;
pub mod filters;
pub mod go_on;
pub mod grpc;
pub mod guard;
pub mod guarded;
pub mod headers;
pub mod normalize;
pub mod path;
pub mod replay;
pub mod resting;
pub mod source;
pub mod switch;
pub mod tunnel;
pub mod upload;

/// Most bytes of a request or response head: Envoy's `max_request_headers_kb` is 60; the codec
/// reads into a buffer of this size.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
