//! A body as a codec reads it from the wire, whichever version of HTTP that speaks.

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Any error of a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What a body is asked for.
pub type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A body that a peer sends.
#[derive(Debug)]
pub enum Source {
    /// By HTTP/1.
    Http1(Incoming),
    /// By HTTP/2.
    Http2(Received),
    /// There is none, or it is no body.
    Empty,
}

/// A body that comes on a stream of HTTP/2.
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// What is left of `content-length`, which the codec holds the peer to.
    left: Option<u64>,
    data_is_over: bool,
}

impl Received {
    /// The body of the message with these headers.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        Self {
            stream,
            left: length.and_then(|length| length.parse().ok()),
            data_is_over: false,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if !self.data_is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It is asked for only when the other side has room: the peer may send as much
                    // again. Fails only where the stream is gone.
                    let _gone = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_is_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map)))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Http2(received) => received.poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(received) => received.stream.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(received) => received.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
