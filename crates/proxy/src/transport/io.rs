//! A plaintext connection, with what was read of it already.

use crate::connection::Tracked;
use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection's bytes in both directions. What listener filters read ahead is replayed first.
#[derive(Debug)]
pub struct Io {
    stream: TokioIo<TcpStream>,
    prefix: Bytes,
    tracked: Option<Rc<Tracked>>,
}

impl Io {
    /// A connection to an upstream.
    pub fn upstream(stream: TcpStream) -> Self {
        Self {
            stream: TokioIo::new(stream),
            prefix: Bytes::new(),
            tracked: None,
        }
    }

    /// A connection from downstream of which `prefix` was read already. Where something was broken
    /// off on it, it ends in a reset: an end of stream would let a part pass for the whole.
    pub fn downstream(stream: TcpStream, prefix: Bytes, tracked: Rc<Tracked>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            prefix,
            tracked: Some(tracked),
        }
    }

    fn is_broken(&self) -> bool {
        self.tracked.as_ref().is_some_and(|t| t.is_broken())
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.is_broken() {
            reset_on_close(self.stream.inner());
        }
    }
}

/// Make the close of this socket a reset, so that the peer cannot take it for an end of stream.
pub fn reset_on_close(stream: &TcpStream) {
    // Fails only where the connection is gone already.
    let _gone = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            // Or an idle connection would hold the buffer that it was sniffed into.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
