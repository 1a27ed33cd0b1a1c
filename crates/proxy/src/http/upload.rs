//! How far the body of a request is on its way upstream.

use crate::error::Failure;
use crate::http::body::BodyError;
use crate::http::go_on::Wanted;
use std::cell::{Cell, OnceCell};
use std::io;
use std::sync::Arc;

/// How far a request body is; shared by the body, which the upstream connection polls, and the
/// request, which the downstream connection polls.
#[derive(Debug, Default)]
pub struct Upload {
    /// Bytes handed to the upstream.
    pub bytes: Cell<u64>,
    /// All of it was handed over.
    pub complete: Cell<bool>,
    /// It will never be complete.
    pub failed: Cell<Option<UploadFailure>>,
    /// It is held until the upstream wants it.
    pub held: OnceCell<Arc<Wanted>>,
}

/// Why a request body will never be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// Its framing is wrong.
    Malformed,
    /// The downstream ended the connection.
    Ended,
}

impl UploadFailure {
    pub(super) fn of(error: &BodyError) -> Self {
        // Of HTTP/1. What is wrong with a stream of HTTP/2 ends the stream.
        let cause = error.source().and_then(|e| e.downcast_ref::<io::Error>());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::Ended,
        }
    }

    /// What the downstream is told.
    pub fn failure(self) -> Failure {
        match self {
            Self::Malformed => Failure::BadRequest {
                details: "http1.codec_error",
            },
            Self::Ended => Failure::DownstreamEnded,
        }
    }
}
