//! A downstream connection of HTTP/1 with the guard in front of the codec, and how it ends.

use crate::connection::Tracked;
use crate::http::guard::{Guard, Refusal};
use crate::transport::io::Io;
use crate::worker::Worker;
use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Most bytes that are kept for the time after a switch of protocols that is not decided yet.
const MAX_EARLY: usize = 16 * 1024;

/// The codec reads whole heads from it, and bodies as they come.
#[derive(Debug)]
pub struct GuardedIo {
    io: Io,
    guard: Guard,
    /// Read, and not known to be in order yet.
    held: BytesMut,
    /// In order, and more than the codec had room for.
    ready: Bytes,
    refused: Option<Refusal>,
    tracked: Rc<Tracked>,
    worker: Rc<Worker>,
}

impl GuardedIo {
    /// Put a guard before a connection.
    pub fn new(io: Io, guard: Guard, tracked: Rc<Tracked>, worker: Rc<Worker>) -> Self {
        Self {
            io,
            guard,
            held: BytesMut::new(),
            ready: Bytes::new(),
            refused: None,
            tracked,
            worker,
        }
    }

    /// Why a head was refused, where one was: nobody has answered it yet.
    pub fn refused_head(&self) -> Option<Refusal> {
        self.refused.filter(|_| self.guard.expects_head())
    }

    /// The connection, and what was read of it that the codec did not get.
    pub fn into_unread(self) -> (Io, Bytes) {
        let unread = [&self.ready[..], &self.held].concat();
        (self.io, unread.into())
    }

    /// Keep what comes until a request is answered that asks to switch protocols. Ready with
    /// whether to go on with HTTP; else the client has ended.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.tracked.await_served(self.guard.heads()) {
            self.guard.go_on();
            return Poll::Ready(Ok(true));
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        while self.held.len() < MAX_EARLY {
            let mut read = ReadBuf::new(&mut scratch[..MAX_EARLY]);
            ready!(Read::poll_read(Pin::new(&mut self.io), cx, read.unfilled()))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.held.extend_from_slice(read.filled());
        }
        Poll::Pending
    }

    /// Look at what came and let the codec have what is in order.
    fn admit(&mut self, bytes: &[u8], buf: &mut ReadBufCursor<'_>) {
        if self.held.is_empty() {
            let (length, refused) = self.guard.scan(bytes);
            buf.put_slice(&bytes[..length]);
            self.held.extend_from_slice(&bytes[length..]);
            self.refused = refused;
        } else {
            self.held.extend_from_slice(bytes);
            let (length, refused) = self.guard.scan(&self.held);
            self.ready = self.held.split_to(length).freeze();
            self.refused = refused;
        }
        let refused = self.refused.is_some_and(|why| why != Refusal::Http2);
        if refused || self.held.is_empty() {
            // Or an idle connection would hold the memory of its last head.
            self.held = BytesMut::new();
        }
        let in_head = self.guard.is_in_head();
        self.tracked.set_in_head(in_head, self.worker.clock.now());
    }

    /// Note that the client takes what is written to it.
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = written {
            self.tracked.touch(self.worker.clock.now());
        }
        written
    }

    /// Write an answer that the codec knows nothing of.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                bytes = &bytes[written..];
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// End our side. Where the client may still be sending what nobody reads, let it read the
    /// answer first (RFC 9112 §9.6): closing at once would be a reset, and that may overtake it.
    pub async fn finish(mut self, linger: Option<Duration>) {
        let end = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
        let Some(time) = linger.filter(|_| end.is_ok()) else {
            return;
        };
        let drained = poll_fn(|cx| self.poll_discard(cx));
        let _late = tokio::time::timeout(time, drained).await;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = self.worker.scratch.borrow_mut();
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            let polled = ready!(Pin::new(&mut self.io).poll_read(cx, read.unfilled()));
            if polled.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl Read for GuardedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let worker = Rc::clone(&this.worker);
        let before = buf.remaining();
        loop {
            if !this.ready.is_empty() {
                let length = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready[..length]);
                this.ready.advance(length);
                return Poll::Ready(Ok(()));
            }
            if this.refused.is_some() && !this.guard.expects_head() {
                // A request is in hand, and its body will never be whole.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if this.refused.is_some() {
                // The end, once everything before it has been served.
                return if this.tracked.await_served(this.guard.heads()) {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            if this.guard.awaits_answer() {
                if !ready!(this.poll_answered(cx))? {
                    return Poll::Ready(Ok(()));
                }
                this.admit(&[], &mut buf);
                continue;
            }
            let mut scratch = worker.scratch.borrow_mut();
            let room = before.min(scratch.len());
            let mut read = ReadBuf::new(&mut scratch[..room]);
            ready!(Pin::new(&mut this.io).poll_read(cx, read.unfilled()))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.admit(read.filled(), &mut buf);
            if buf.remaining() < before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for GuardedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Left to [`GuardedIo::finish`]: there may be more to say.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(written)
    }
}
