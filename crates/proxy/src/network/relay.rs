//! Bytes from one socket to another, both ways, until both sides are done.
//!
//! Every byte is handed over in order or the connection is reset: an end of stream is passed on
//! only where the other side sent one. An idle connection holds no buffer; all connections of a
//! worker read into one.

use crate::connection::Tracked;
use crate::transport::stream::Stream;
use crate::worker::Worker;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one read may take.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

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
    state: State,
}

/// What a direction waits for.
enum State {
    Reading,
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

impl Pump<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            self.state = match &mut self.state {
                State::Reading => ready!(self.read(cx, from, to))?,
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

    /// Read once and write what was read as far as the other side takes it at once.
    fn read(
        &self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<State, PumpError>> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(PumpError::Read)?;
        self.tracked.touch(self.worker.clock.tick());
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(State::Ending));
        }
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
