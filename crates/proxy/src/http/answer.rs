//! What a request is answered with, before it has a record and a connection.

use crate::error::Failure;
use crate::http::body::{Download, Kind};
use crate::http::grpc;
use crate::http::tunnel::Granted;
use crate::http::upload::Upload;
use crate::model::DirectResponse;
use crate::observe::outcome::Outcome;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode, response};
use std::borrow::Cow;
use std::rc::Rc;

/// An answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// From an upstream.
    Upstream(response::Parts, Download),
    /// From an upstream that grants what was asked for.
    Switched(response::Parts, Granted),
    /// From the route itself.
    Direct(DirectResponse),
    /// To ask for this path instead.
    Redirect(HeaderValue),
    /// Of our own making, because something went wrong.
    Failure(Failure),
}

impl Answer {
    /// Its head and body; what is to be told of it goes into the record.
    pub(super) fn into_head_and_body(
        self,
        outcome: &mut Outcome,
        upload: Option<Rc<Upload>>,
        is_grpc: bool,
    ) -> (response::Parts, Kind) {
        match self {
            Self::Upstream(head, download) => {
                outcome.details = Cow::Borrowed("via_upstream");
                (head, Kind::Upstream { download, upload })
            }
            // Given apart from the others: its record goes on.
            Self::Switched(head, ..) => (head, Kind::Local(None)),
            Self::Direct(direct) => {
                outcome.details = Cow::Borrowed("direct_response");
                if is_grpc {
                    return in_grpc(grpc::status(direct.status), &direct.body);
                }
                local(direct.status, direct.body)
            }
            Self::Redirect(path) => {
                outcome.details = Cow::Borrowed("path_normalization_failed");
                let (mut head, kind) = local(StatusCode::TEMPORARY_REDIRECT, Bytes::new());
                head.headers.insert(LOCATION, path);
                (head, kind)
            }
            Self::Failure(failure) => {
                let reply = failure.reply();
                outcome.flags |= reply.flags;
                outcome.details = Cow::Borrowed(reply.details);
                outcome.transport_failure = failure.transport_failure();
                if is_grpc {
                    return in_grpc(failure.grpc_status(), reply.body.as_bytes());
                }
                local(reply.status, Bytes::from_static(reply.body.as_bytes()))
            }
        }
    }
}

/// An answer to gRPC: nothing but trailers, which stand in the head.
fn in_grpc(status: u16, message: &[u8]) -> (response::Parts, Kind) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers.insert(CONTENT_TYPE, grpc::CONTENT);
    head.headers.insert(grpc::GRPC_STATUS, status.into());
    if let Some(message) = grpc::message(message).filter(|message| !message.is_empty()) {
        head.headers.insert(grpc::GRPC_MESSAGE, message);
    }
    (head, Kind::Local(None))
}

fn local(status: StatusCode, body: Bytes) -> (response::Parts, Kind) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    if body.is_empty() {
        return (head, Kind::Local(None));
    }
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    (head, Kind::Local(Some(body)))
}
