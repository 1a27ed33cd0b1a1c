//! Sending a body on a stream of HTTP/2, as fast as the peer takes it.

use crate::http::source::BodyError;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How the sending of a body ended.
#[derive(Debug)]
pub enum Pumped {
    /// All of it was sent.
    Whole,
    /// The peer reset the stream.
    Reset,
    /// The connection ended.
    Gone,
    /// The body broke off; the peer was told by a reset.
    BrokenOff,
}

impl Pumped {
    fn of(end: Result<Reason, h2::Error>) -> Self {
        end.map_or(Self::Gone, |_reason| Self::Reset)
    }
}

/// A body that may have to end while the peer has no room for more of it.
pub trait Interrupted: Body {
    /// Ready when it will be no more; its record knows why.
    fn poll_interrupt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// Send a body to its end. At most one of its frames is held: the next is asked for when the peer
/// has room for it. `broken` is what the peer is told where the body breaks off.
pub async fn pump<B>(
    mut body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
    broken: Reason,
) -> Pumped
where
    B: Interrupted<Data = Bytes, Error = BodyError>,
{
    loop {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(end) = stream.poll_reset(cx) {
                return Poll::Ready(Err(Pumped::of(end)));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        });
        let frame = match frame.await {
            Err(end) => return end,
            Ok(None) => {
                let sent = stream.send_data(Bytes::new(), true);
                return sent.map_or(Pumped::Gone, |()| Pumped::Whole);
            }
            Ok(Some(Err(_told_by_its_record))) => {
                stream.send_reset(broken);
                return Pumped::BrokenOff;
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let sent = stream.send_trailers(trailers);
                    return sent.map_or(Pumped::Gone, |()| Pumped::Whole);
                }
                Err(_of_no_known_kind) => continue,
            },
        };
        let last = body.is_end_stream();
        let sent = send(data, last, body.as_mut(), stream).await;
        if let Err(end) = sent {
            if matches!(end, Pumped::BrokenOff) {
                stream.send_reset(broken);
            }
            return end;
        }
        if last {
            return Pumped::Whole;
        }
    }
}

/// Send all of `data` as the peer has room for it.
async fn send<B: Interrupted>(
    mut data: Bytes,
    last: bool,
    mut body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
) -> Result<(), Pumped> {
    let gone = |_ended| Pumped::Gone;
    if data.is_empty() && last {
        return stream.send_data(data, true).map_err(gone);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        while room == 0 {
            let more = poll_fn(|cx| {
                if let Poll::Ready(end) = stream.poll_reset(cx) {
                    return Poll::Ready(Err(Pumped::of(end)));
                }
                if body.as_mut().poll_interrupt(cx).is_ready() {
                    return Poll::Ready(Err(Pumped::BrokenOff));
                }
                let more = stream.poll_capacity(cx);
                more.map(|more| more.and_then(Result::ok).ok_or(Pumped::Gone))
            });
            room = more.await?;
        }
        let part = data.split_to(room.min(data.len()));
        let ends = last && data.is_empty();
        stream.send_data(part, ends).map_err(gone)?;
    }
    Ok(())
}
