//! After a switch of protocols: bytes both ways, until both sides are done.

use crate::connection::{InRequest, Kick, Tracked};
use crate::http::filters::router::ActiveRequest;
use crate::observe::flags::Flags;
use crate::observe::outcome::Outcome;
use crate::transport::io::Io;
use crate::upstream::pool::Switched;
use crate::worker::Worker;
use bytes::{Buf, Bytes};
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

/// Bytes that may be on their way in one direction.
const BUFFER: usize = 16 * 1024;

/// The upstream's side of a connection that has switched, and the record of the request that
/// asked for it.
#[derive(Debug)]
pub struct Tunnel {
    /// The upstream connection.
    pub upstream: Box<Switched>,
    /// Keeps the request counted.
    pub active: ActiveRequest,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Its timeout, and that it is served.
    pub served: InRequest,
}

impl Tunnel {
    /// Pass bytes both ways. `read` was read from downstream already.
    pub async fn run(self, downstream: Io, read: Bytes) {
        let Self {
            upstream,
            active,
            mut outcome,
            served,
        } = self;
        let Switched {
            io,
            read: early,
            place,
        } = *upstream;
        let tracked = Rc::clone(&served.tracked);
        let mut down = Side::new(downstream, read, &served);
        let mut up = Side::new(io, early, &served);
        let ended = {
            let mut copying = pin!(copy_bidirectional_with_sizes(
                &mut down, &mut up, BUFFER, BUFFER
            ));
            poll_fn(|cx| {
                tracked.register(cx.waker());
                match tracked.kicked() {
                    // Another request would not be served; a tunnel is not cut.
                    Some(kick) if kick != Kick::MaxDuration => Poll::Ready(Err(Some(kick))),
                    _ => copying.as_mut().poll(cx).map_err(|_error| None),
                }
            })
            .await
        };
        outcome.bytes_received = down.moved;
        outcome.bytes_sent = up.moved;
        if let Err(why) = ended {
            let (flag, details) = match why {
                Some(Kick::DrainEnd) => (Flags::empty(), "drain_time_over"),
                Some(_) => (Flags::SI, "stream_idle_timeout"),
                None if up.failed => (
                    Flags::UC,
                    "upstream_reset_after_response_started{connection_termination}",
                ),
                None => (Flags::DC, "downstream_remote_disconnect"),
            };
            outcome.flags |= flag;
            outcome.details = Cow::Borrowed(details);
            // Bytes may be on their way: nobody may take this for the end of the stream.
            tracked.break_off();
            up.io.reset_on_close();
        }
        drop((active, place));
    }
}

/// One side: what was read of it already, then what comes; counted and watched.
struct Side {
    io: Io,
    read: Bytes,
    moved: u64,
    failed: bool,
    tracked: Rc<Tracked>,
    worker: Rc<Worker>,
}

impl Side {
    fn new(io: Io, read: Bytes, served: &InRequest) -> Self {
        Self {
            io,
            read,
            moved: 0,
            failed: false,
            tracked: Rc::clone(&served.tracked),
            worker: Rc::clone(served.worker()),
        }
    }

    /// Note what came of an attempt to move bytes.
    fn note<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Ready(Ok(_)) => self.tracked.touch(self.worker.clock.tick()),
            Poll::Ready(Err(_)) => self.failed = true,
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.read.is_empty() {
            AsyncRead::poll_read(Pin::new(&mut self.io), cx, buf)
        } else {
            let length = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read[..length]);
            self.read.advance(length);
            Poll::Ready(Ok(()))
        };
        self.moved += (buf.filled().len() - before) as u64;
        self.note(polled)
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = AsyncWrite::poll_write(Pin::new(&mut self.io), cx, buf);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = AsyncWrite::poll_flush(Pin::new(&mut self.io), cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = AsyncWrite::poll_shutdown(Pin::new(&mut self.io), cx);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(&self.io)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = AsyncWrite::poll_write_vectored(Pin::new(&mut self.io), cx, bufs);
        self.note(polled)
    }
}
