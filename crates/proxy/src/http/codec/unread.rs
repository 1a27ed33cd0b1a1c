//! A connection that begins with what was read of it, and outlives its codec.

use crate::transport::io::Io;
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection with what was read of it already, which is kept when the codec has ended.
pub(super) struct Unread {
    io: Option<Io>,
    read: Bytes,
    left: Rc<Cell<Option<Io>>>,
}

impl Unread {
    /// A connection of which `read` was read already, and where to find it in the end.
    pub(super) fn new(io: Io, read: Bytes) -> (Self, Rc<Cell<Option<Io>>>) {
        let left = Rc::new(Cell::new(None));
        let unread = Self {
            io: Some(io),
            read,
            left: Rc::clone(&left),
        };
        (unread, left)
    }

    fn io(self: Pin<&mut Self>) -> Result<Pin<&mut Io>, io::Error> {
        let io = self.get_mut().io.as_mut();
        // It is taken only when this is dropped.
        io.map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.left.set(self.io.take());
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return AsyncRead::poll_read(self.io()?, cx, buf);
        }
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Unread {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self.io()?, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self.io()?, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self.io()?, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(self.io()?, cx, bufs)
    }
}
