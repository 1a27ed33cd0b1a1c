//! Bytes from one socket to another, both ways, until both sides are done.
//!
//! Every byte is handed over in order or the connection is reset: an end of stream is passed on
//! only where the other side sent one. An idle connection holds no buffer; all connections of a
//! worker read into one. The bulk of a stream that is plaintext on both sides is not even read: it
//! goes through a pipe ([`super::splice`]).

use crate::connection::Tracked;
use crate::network::splice::Taken;
use crate::transport::stream::Stream;
use crate::worker::Worker;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that one read may take.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

/// What a read must bring for the next bytes to be spliced, and what a splice must for it to go on:
/// below, one copy costs less than the detour.
const BULK_BYTES: usize = 16 * 1024;

/// Bytes after which a direction lets others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Which side an error came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

/// Bytes moved so far.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) from_downstream: Cell<u64>,
    pub(super) from_upstream: Cell<u64>,
}

/// Relay until both sides have ended their streams.
///
/// # Errors
/// The side that failed, with what the kernel or TLS said.
pub(super) async fn relay(
    worker: &Worker,
    tracked: &Tracked,
    downstream: &mut Stream,
    upstream: &mut Stream,
    moved: &Moved,
) -> Result<(), (Side, io::Error)> {
    let pump = |moved| Pump {
        worker,
        tracked,
        moved,
        state: State::Reading,
        bulk: false,
    };
    let mut up = pump(&moved.from_downstream);
    let mut down = pump(&moved.from_upstream);
    poll_fn(|cx| {
        let up = up
            .poll(cx, downstream, upstream)
            .map_err(|e| e.on(Side::Downstream, Side::Upstream))?;
        let down = down
            .poll(cx, upstream, downstream)
            .map_err(|e| e.on(Side::Upstream, Side::Downstream))?;
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// One direction.
struct Pump<'a> {
    worker: &'a Worker,
    tracked: &'a Tracked,
    moved: &'a Cell<u64>,
    state: State<'a>,
    /// Whether much comes at a time.
    bulk: bool,
}

/// What a direction waits for.
enum State<'a> {
    Reading,
    /// This is still to be handed over.
    Splicing(Taken<'a>),
    /// This is still to be written, from this place on.
    Writing(Vec<u8>, usize),
    /// What was written is still to be sent.
    Flushing,
    /// The stream ended, which is still to be said.
    Ending,
    Ended,
}

enum PumpError {
    Read(io::Error),
    Write(io::Error),
}

impl PumpError {
    fn on(self, read: Side, write: Side) -> (Side, io::Error) {
        match self {
            Self::Read(error) => (read, error),
            Self::Write(error) => (write, error),
        }
    }
}

impl<'a> Pump<'a> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        let turn = self.moved.get() + TURN_BYTES as u64;
        loop {
            self.state = match &mut self.state {
                State::Reading if self.moved.get() >= turn => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Reading => match self.spliced(from, to) {
                    Some((pipe, from)) => ready!(self.fill(cx, pipe, from))?,
                    None => ready!(self.read(cx, from, to))?,
                },
                State::Splicing(pipe) => {
                    let drained = pipe.poll_drain(cx, to.tcp());
                    progress(ready!(drained)).map_err(PumpError::Write)?;
                    self.tracked.touch(self.worker.clock.tick());
                    if pipe.held() > 0 {
                        continue;
                    }
                    State::Reading
                }
                State::Writing(bytes, done) => {
                    let written = Pin::new(&mut *to).poll_write(cx, &bytes[*done..]);
                    *done += progress(ready!(written)).map_err(PumpError::Write)?;
                    self.tracked.touch(self.worker.clock.tick());
                    if *done < bytes.len() {
                        continue;
                    }
                    State::Flushing
                }
                State::Flushing => {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(PumpError::Write)?;
                    State::Reading
                }
                State::Ending => {
                    // Not connected any more: the other direction reports it.
                    let _gone = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    State::Ended
                }
                State::Ended => return Poll::Ready(Ok(())),
            };
        }
    }

    /// What to splice through and from, where that is worth it.
    fn spliced<'s>(&self, from: &'s Stream, to: &Stream) -> Option<(Taken<'a>, &'s TcpStream)> {
        let from = from.bare().filter(|_| self.bulk && to.bare().is_some())?;
        Some((self.worker.pipes.take()?, from))
    }

    /// Take what has come into a pipe.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        mut pipe: Taken<'a>,
        from: &TcpStream,
    ) -> Poll<Result<State<'a>, PumpError>> {
        let filled = ready!(pipe.poll_fill(cx, from)).map_err(PumpError::Read)?;
        self.tracked.touch(self.worker.clock.tick());
        if filled == 0 {
            return Poll::Ready(Ok(State::Ending));
        }
        self.bulk = filled >= BULK_BYTES;
        self.moved.set(self.moved.get() + filled as u64);
        Poll::Ready(Ok(State::Splicing(pipe)))
    }

    /// Read once and write what was read as far as the other side takes it at once.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<State<'a>, PumpError>> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(PumpError::Read)?;
        self.tracked.touch(self.worker.clock.tick());
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(State::Ending));
        }
        self.bulk = read.len() >= BULK_BYTES;
        self.moved.set(self.moved.get() + read.len() as u64);
        let mut done = 0;
        while done < read.len() {
            match Pin::new(&mut *to).poll_write(cx, &read[done..]) {
                Poll::Ready(written) => done += progress(written).map_err(PumpError::Write)?,
                Poll::Pending => {
                    return Poll::Ready(Ok(State::Writing(read[done..].to_vec(), 0)));
                }
            }
        }
        Poll::Ready(Ok(State::Flushing))
    }
}

/// Bytes written; a writer that takes none never will.
fn progress(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}
