//! Bytes from one socket to another, both ways, until both sides are done.
//!
//! Every byte is handed over in order or the connection is reset: an end of stream is passed on
//! only where the other side sent one. An idle connection holds no buffer; all connections of a
//! worker read into one.

use crate::connection::Tracked;
use crate::worker::Worker;
use socket2::SockRef;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

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
/// The side that failed, with what the kernel said.
pub(super) async fn relay(
    worker: &Worker,
    tracked: &Tracked,
    downstream: &mut TcpStream,
    upstream: &mut TcpStream,
    moved: &Moved,
) -> Result<(), (Side, io::Error)> {
    let (mut from_downstream, mut to_downstream) = downstream.split();
    let (mut from_upstream, mut to_upstream) = upstream.split();
    let up = Pump {
        worker,
        tracked,
        moved: &moved.from_downstream,
    };
    let down = Pump {
        worker,
        tracked,
        moved: &moved.from_upstream,
    };
    tokio::try_join!(
        async {
            up.run(&mut from_downstream, &mut to_upstream)
                .await
                .map_err(|e| e.on(Side::Downstream, Side::Upstream))
        },
        async {
            down.run(&mut from_upstream, &mut to_downstream)
                .await
                .map_err(|e| e.on(Side::Upstream, Side::Downstream))
        },
    )?;
    Ok(())
}

struct Pump<'a> {
    worker: &'a Worker,
    tracked: &'a Tracked,
    moved: &'a Cell<u64>,
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

/// What one turn did.
enum Turn {
    /// The stream ended.
    End,
    /// Everything that was read was written.
    All,
    /// This is still to be written.
    Rest(Vec<u8>),
}

impl Pump<'_> {
    async fn run(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Result<(), PumpError> {
        loop {
            match self.turn(from, to).await? {
                Turn::All => {}
                Turn::Rest(rest) => {
                    to.write_all(&rest).await.map_err(PumpError::Write)?;
                    self.tracked.touch(self.worker.clock.tick());
                }
                Turn::End => {
                    // Not connected any more: the other direction reports it.
                    let _gone = SockRef::from(to.as_ref()).shutdown(Shutdown::Write);
                    return Ok(());
                }
            }
        }
    }

    /// Read once and write what was read as far as the other side takes it at once.
    async fn turn(
        &self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Result<Turn, PumpError> {
        poll_fn(|cx| {
            let mut scratch = self.worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).map_err(PumpError::Read)?;
            self.tracked.touch(self.worker.clock.tick());
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(Turn::End));
            }
            self.moved.set(self.moved.get() + read.len() as u64);
            let written = match to.try_write(read) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Poll::Ready(Err(PumpError::Write(error))),
            };
            Poll::Ready(Ok(if written == read.len() {
                Turn::All
            } else {
                Turn::Rest(read[written..].to_vec())
            }))
        })
        .await
    }
}
