//! Answers of our own making.

use crate::error::Failure;
use crate::http::body::ResponseBody;
use crate::http::connection_manager::Stream;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use std::borrow::Cow;

/// Answer a request that failed, and put the reason into its record.
pub(super) fn failure(mut stream: Stream, failure: &Failure) -> Response<ResponseBody> {
    let reply = failure.reply();
    stream.outcome.flags |= reply.flags;
    stream.outcome.transport_failure = failure.transport_failure();
    text(
        stream,
        reply.status,
        reply.details,
        Bytes::from_static(reply.body.as_bytes()),
    )
}

/// Answer with this status and text.
pub(super) fn text(
    mut stream: Stream,
    status: StatusCode,
    details: &'static str,
    body: Bytes,
) -> Response<ResponseBody> {
    stream.outcome.details = Cow::Borrowed(details);
    let mut head = Response::new(());
    *head.status_mut() = status;
    if !body.is_empty() {
        head.headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    stream.answer(head, |outcome, connection| {
        ResponseBody::local(body, outcome, connection)
    })
}
