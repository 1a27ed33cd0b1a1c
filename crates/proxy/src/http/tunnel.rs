//! After a switch of protocols or a CONNECT: bytes both ways, until both sides are done.

mod end;

pub use end::{ByteStream, End};

use crate::connection::{Kick, Tracked};
use crate::http::active::ActiveRequest;
use crate::http::in_request::InRequest;
use crate::listener::draining::ChainDrain;
use crate::observe::flags::Flags;
use crate::observe::outcome::Outcome;
use crate::upstream::switch::Switched;
use crate::worker::Worker;
use bytes::{Buf, Bytes};
use std::borrow::Cow;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::Sleep;

/// Bytes that may be on their way in one direction.
const BUFFER: usize = 16 * 1024;

/// What an upstream has granted.
#[derive(Debug)]
pub struct Granted {
    /// The upstream connection or stream.
    pub upstream: Box<Switched>,
    /// Keeps the request counted.
    pub active: ActiveRequest,
    /// When the time that it may take is over.
    pub deadline: Option<Pin<Box<Sleep>>>,
}

/// The upstream's side of what has switched, and the record of the request that asked for it.
#[derive(Debug)]
pub struct Tunnel {
    /// The upstream's side.
    pub granted: Granted,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Its timeout, and that it is served.
    pub served: InRequest,
    /// The end of the chain that serves it.
    pub chain: Arc<ChainDrain>,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides were done.
    InOrder,
    /// The downstream broke it off.
    ByDownstream,
    /// The upstream did, or its time was over.
    Otherwise,
}

/// Why a tunnel is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Kicked(Kick),
    Duration,
    Io,
}

impl Tunnel {
    /// Pass bytes both ways. `read` was read from downstream already.
    pub async fn run(self, downstream: End, read: Bytes) -> Ended {
        let Self {
            granted,
            mut outcome,
            mut served,
            chain,
        } = self;
        let Granted {
            upstream,
            active,
            mut deadline,
        } = granted;
        let Switched {
            end,
            read: early,
            place,
        } = *upstream;
        let tracked = Rc::clone(&served.tracked);
        let half_closed = Rc::new(Cell::new(false));
        let mut down = Side::new(downstream, read, &served, &half_closed);
        let mut up = Side::new(end, early, &served, &half_closed);
        let ended = {
            let mut copying = pin!(copy_bidirectional_with_sizes(
                &mut down, &mut up, BUFFER, BUFFER
            ));
            poll_fn(|cx| {
                tracked.register(cx.waker());
                // Another request would not be served; a tunnel is not cut.
                if let Some(kick) = tracked.kicked()
                    && kick != Kick::MaxDuration
                {
                    return Poll::Ready(Err(Cut::Kicked(kick)));
                }
                if let Some(deadline) = &mut deadline
                    && deadline.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Err(Cut::Duration));
                }
                let polled = copying.as_mut().poll(cx);
                if polled.is_pending() && half_closed.take() {
                    served.half_closed(&chain);
                }
                polled.map_err(|_of_a_side| Cut::Io)
            })
            .await
        };
        outcome.bytes_received = down.moved;
        outcome.bytes_sent = up.moved;
        let ended = match ended {
            Ok(_moved) => Ended::InOrder,
            Err(why) => {
                let (flag, details, ended) = match why {
                    Cut::Kicked(Kick::DrainEnd) => {
                        (Flags::empty(), "drain_time_over", Ended::Otherwise)
                    }
                    Cut::Kicked(_) => (Flags::SI, "stream_idle_timeout", Ended::Otherwise),
                    Cut::Duration => (Flags::empty(), "max_duration_timeout", Ended::Otherwise),
                    Cut::Io if up.failed => (
                        Flags::UC,
                        "upstream_reset_after_response_started{connection_termination}",
                        Ended::Otherwise,
                    ),
                    Cut::Io => (
                        Flags::DC,
                        "downstream_remote_disconnect",
                        Ended::ByDownstream,
                    ),
                };
                outcome.flags |= flag;
                outcome.details = Cow::Borrowed(details);
                // Bytes may be on their way: nobody may take this for the end of the stream.
                tracked.break_off();
                down.end.break_off();
                up.end.break_off();
                ended
            }
        };
        drop((active, place));
        ended
    }
}

/// One side: what was read of it already, then what comes; counted and watched.
struct Side {
    end: End,
    read: Bytes,
    moved: u64,
    failed: bool,
    /// Set when either side has ended.
    half_closed: Rc<Cell<bool>>,
    tracked: Rc<Tracked>,
    worker: Rc<Worker>,
}

impl Side {
    fn new(end: End, read: Bytes, served: &InRequest, half_closed: &Rc<Cell<bool>>) -> Self {
        Self {
            end,
            read,
            moved: 0,
            failed: false,
            half_closed: Rc::clone(half_closed),
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
        let (before, asked) = (buf.filled().len(), buf.remaining());
        let polled = if self.read.is_empty() {
            AsyncRead::poll_read(Pin::new(&mut self.end), cx, buf)
        } else {
            let length = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read[..length]);
            self.read.advance(length);
            Poll::Ready(Ok(()))
        };
        let moved = buf.filled().len() - before;
        self.moved += moved as u64;
        if polled.is_ready() && moved == 0 && asked > 0 {
            self.half_closed.set(true);
        }
        self.note(polled)
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = AsyncWrite::poll_write(Pin::new(&mut self.end), cx, buf);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = AsyncWrite::poll_flush(Pin::new(&mut self.end), cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = AsyncWrite::poll_shutdown(Pin::new(&mut self.end), cx);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(&self.end)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = AsyncWrite::poll_write_vectored(Pin::new(&mut self.end), cx, bufs);
        self.note(polled)
    }
}
