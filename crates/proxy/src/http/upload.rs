//! How far the body of a request is on its way upstream.

use crate::error::Failure;
use crate::http::backlog::Backlog;
use crate::http::body::{BodyError, Polled};
use crate::http::go_on::Wanted;
use crate::http::source::Source;
use bytes::Bytes;
use http_body::{Body, SizeHint};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Most bytes that are read ahead of the upstream.
const AHEAD: usize = 64 * 1024;

/// How far a request body is; shared by the body, which the upstream connection polls, and the
/// request, which the downstream connection polls.
#[derive(Debug)]
pub struct Upload {
    /// Bytes that have come.
    pub bytes: Cell<u64>,
    /// All of it has come.
    pub received: Cell<bool>,
    /// All of it was handed to the upstream.
    pub complete: Cell<bool>,
    /// It will never be complete.
    pub failed: Cell<Option<UploadFailure>>,
    /// It is held until the upstream wants it.
    pub held: OnceCell<Arc<Wanted>>,
    reading: RefCell<Reading>,
    /// The upstream waits for more of it.
    is_awaited: Cell<bool>,
    /// When the upstream took some of it last.
    taken_at: Cell<Instant>,
}

#[derive(Debug)]
struct Reading {
    incoming: Source,
    /// What was read before the upstream took it.
    ahead: Backlog,
    /// What comes behind it, where the body broke off.
    broken: Option<BodyError>,
    has_ended: bool,
    /// What of it is left for the upstream, where it came with a length.
    left: Option<u64>,
    /// The upstream has begun to take it.
    has_begun: bool,
}

/// What is known of the part of a body that its upstream has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// The downstream has more to send.
    Coming,
    /// As much as is read ahead is there, and the upstream has taken nothing since.
    Full(Instant),
    /// All of it has come.
    Received,
}

impl Upload {
    /// Of a body of which nothing was read.
    pub fn new(incoming: Source, now: Instant) -> Self {
        Self {
            bytes: Cell::default(),
            received: Cell::default(),
            complete: Cell::default(),
            failed: Cell::default(),
            held: OnceCell::new(),
            reading: RefCell::new(Reading {
                left: incoming.size_hint().exact(),
                has_begun: false,
                incoming,
                ahead: Backlog::default(),
                broken: None,
                has_ended: false,
            }),
            is_awaited: Cell::default(),
            taken_at: Cell::new(now),
        }
    }

    /// Read what has come from downstream.
    fn read(&self, incoming: &mut Source, cx: &mut Context<'_>) -> Polled {
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let mut last = frame.is_none();
        match &frame {
            Some(Ok(frame)) => {
                last |= frame.is_trailers();
                let data = frame.data_ref().map_or(0, Bytes::len);
                self.bytes.set(self.bytes.get() + data as u64);
            }
            Some(Err(error)) => self.failed.set(Some(UploadFailure::of(error))),
            None => {}
        }
        if last || incoming.is_end_stream() {
            self.received.set(true);
        }
        Poll::Ready(frame)
    }

    /// The next frame, for the upstream. `touch` notes that something has come, and returns the
    /// time.
    pub(super) fn poll_taken(
        &self,
        touch: impl FnOnce() -> Instant,
        cx: &mut Context<'_>,
    ) -> Polled {
        let reading = &mut *self.reading.borrow_mut();
        let frame = match reading.ahead.pop() {
            Some(frame) => Some(Ok(frame)),
            None if reading.has_ended => reading.broken.take().map(Err),
            None => {
                let polled = self.read(&mut reading.incoming, cx);
                self.is_awaited.set(polled.is_pending());
                ready!(polled)
            }
        };
        self.taken_at.set(touch());
        reading.has_begun = true;
        if let (Some(left), Some(Ok(frame))) = (&mut reading.left, &frame) {
            let data = frame.data_ref().map_or(0, Bytes::len);
            *left = left.saturating_sub(data as u64);
        }
        let is_last = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || reading.is_end_stream(),
            // None that broke off is complete, however much of it was read ahead.
            Some(Err(_)) => false,
            None => self.failed.get().is_none(),
        };
        if is_last {
            self.complete.set(true);
        }
        Poll::Ready(frame)
    }

    /// Read ahead what the upstream does not wait for, so that the end of the request is seen: the
    /// time of its response counts from there. A body that is held is left alone.
    pub(super) fn read_ahead(&self, touch: impl Fn() -> Instant, cx: &mut Context<'_>) -> Ahead {
        let reading = &mut *self.reading.borrow_mut();
        let may_read = self.held.get().is_none() && !self.is_awaited.get();
        while may_read && !self.received.get() && !reading.has_ended {
            if reading.ahead.bytes() >= AHEAD {
                return Ahead::Full(self.taken_at.get());
            }
            let Poll::Ready(frame) = self.read(&mut reading.incoming, cx) else {
                break;
            };
            touch();
            match frame {
                Some(Ok(frame)) => reading.ahead.push(frame),
                Some(Err(error)) => {
                    reading.broken = Some(error);
                    reading.has_ended = true;
                }
                None => reading.has_ended = true,
            }
        }
        match self.received.get() {
            true => Ahead::Received,
            false => Ahead::Coming,
        }
    }

    /// Nobody takes it until another upstream does.
    pub(super) fn forget_upstream(&self) {
        self.is_awaited.set(false);
    }

    /// What was read ahead changes nothing in how a body is framed: one that came without a length
    /// goes on without one, even where its end is known.
    pub(super) fn is_end_stream(&self) -> bool {
        let reading = self.reading.borrow();
        reading.is_end_stream() && (reading.has_begun || reading.left.is_some())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.reading.borrow().left;
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Reading {
    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty()
            && self.broken.is_none()
            && (self.has_ended || self.incoming.is_end_stream())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::future::{pending, poll_fn};
    use tokio::io::AsyncWriteExt;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::mpsc;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.build_local(LocalOptions::default());
        runtime.unwrap().block_on(test)
    }

    /// The body of a request of this many bytes, from a peer that sends some of them and goes.
    async fn body(length: usize, sent: &str) -> Upload {
        let (mut client, server) = tokio::io::duplex(1024);
        let (give, mut given) = mpsc::unbounded_channel();
        let service = service_fn(move |request: http::Request<_>| {
            let _test_over = give.send(request.into_body());
            pending::<Result<http::Response<String>, Infallible>>()
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        tokio::task::spawn_local(serving);
        let request = format!("PUT / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{sent}");
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        Upload::new(Source::Http1(given.recv().await.unwrap()), Instant::now())
    }

    /// Read ahead all that comes, then take it: what there is, and how often it broke off.
    async fn taken(upload: &Upload) -> (Vec<u8>, usize) {
        poll_fn(|cx| {
            let ahead = upload.read_ahead(Instant::now, cx);
            match ahead == Ahead::Received || upload.failed.get().is_some() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        let (mut data, mut broken) = (Vec::new(), 0);
        while let Some(frame) = poll_fn(|cx| upload.poll_taken(Instant::now, cx)).await {
            match frame {
                Ok(frame) => data.extend(frame.into_data().unwrap()),
                Err(_) => broken += 1,
            }
            assert!(broken == 0 || !upload.complete.get());
        }
        (data, broken)
    }

    #[test]
    fn what_broke_off_after_it_was_read_ahead_is_never_complete() {
        block_on(async {
            let upload = body(10, "parts").await;
            assert_eq!(taken(&upload).await, (b"parts".to_vec(), 1));
            assert!(!upload.complete.get());
            assert_eq!(upload.failed.get(), Some(UploadFailure::Ended));

            let upload = body(5, "whole").await;
            assert_eq!(taken(&upload).await, (b"whole".to_vec(), 0));
            assert!(upload.complete.get() && upload.failed.get().is_none());
        });
    }
}
