//! One end of a tunnel: a connection, or a stream of HTTP/2 that carries bytes.

use crate::transport::io::Io;
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one write to a stream.
const WRITE: usize = 16 * 1024;

/// One end of a tunnel.
#[derive(Debug)]
pub enum End {
    /// A connection.
    Connection(Io),
    /// A stream of HTTP/2.
    Stream(ByteStream),
}

impl End {
    /// What is on its way will not be whole: the peer must not take a part for it.
    pub fn break_off(&mut self) {
        match self {
            Self::Connection(io) => io.reset_on_close(),
            Self::Stream(stream) => stream.send.send_reset(Reason::CONNECT_ERROR),
        }
    }
}

/// A stream of HTTP/2 as bytes in both directions.
#[derive(Debug)]
pub struct ByteStream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    unread: Bytes,
}

impl ByteStream {
    /// Of the two sides of a stream.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            unread: Bytes::new(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        // The peer may send as much again. Fails only where the stream is gone.
        let _gone = self.recv.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = buf.len().min(WRITE);
        self.send.reserve_capacity(wanted);
        let mut room = self.send.capacity();
        while room == 0 && wanted > 0 {
            if let Poll::Ready(end) = self.send.poll_reset(cx) {
                return Poll::Ready(Err(match end {
                    Ok(_reason) => io::ErrorKind::ConnectionReset.into(),
                    Err(error) => io::Error::other(error),
                }));
            }
            room = match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let length = room.min(wanted);
        let data = Bytes::copy_from_slice(&buf[..length]);
        let sent = self.send.send_data(data, false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn shut_down(&mut self) -> io::Result<()> {
        let sent = self.send.send_data(Bytes::new(), true);
        sent.map_err(io::Error::other)
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(io) => AsyncRead::poll_read(Pin::new(io), cx, buf),
            Self::Stream(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection(io) => AsyncWrite::poll_write(Pin::new(io), cx, buf),
            Self::Stream(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(io) => AsyncWrite::poll_flush(Pin::new(io), cx),
            // The connection's own task sends.
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(io) => AsyncWrite::poll_shutdown(Pin::new(io), cx),
            Self::Stream(stream) => Poll::Ready(stream.shut_down()),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Connection(io) => AsyncWrite::is_write_vectored(io),
            Self::Stream(_) => false,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection(io) => AsyncWrite::poll_write_vectored(Pin::new(io), cx, bufs),
            Self::Stream(stream) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                stream.poll_write(cx, first.map_or(&[][..], |buf| buf))
            }
        }
    }
}
