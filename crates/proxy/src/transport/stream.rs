//! A connection's bytes in both directions, in plaintext or by TLS.

use bytes::{Buf, Bytes};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection. What TLS needs is in a box, so that one in plaintext does not pay for it.
#[derive(Debug)]
pub enum Stream {
    /// In plaintext.
    Plain(Plain),
    /// By TLS.
    Tls(Box<TlsStream>),
}

/// A socket, with what listener filters read of it already: that is read again first.
#[derive(Debug)]
pub struct Plain {
    tcp: TcpStream,
    prefix: Bytes,
}

/// A connection by TLS.
#[derive(Debug)]
pub enum TlsStream {
    /// We are the server.
    Server(tokio_rustls::server::TlsStream<Plain>),
    /// We are the client.
    Client(tokio_rustls::client::TlsStream<Plain>),
}

impl Plain {
    /// A socket of which `prefix` was read already.
    pub fn new(tcp: TcpStream, prefix: Bytes) -> Self {
        Self { tcp, prefix }
    }
}

impl From<TcpStream> for Plain {
    fn from(tcp: TcpStream) -> Self {
        Self::new(tcp, Bytes::new())
    }
}

impl Stream {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(plain) => &plain.tcp,
            Self::Tls(tls) => match &**tls {
                TlsStream::Server(server) => &server.get_ref().0.tcp,
                TlsStream::Client(client) => &client.get_ref().0.tcp,
            },
        }
    }

    /// Whether it was agreed by ALPN that HTTP/2 is spoken.
    pub fn agreed_on_http2(&self) -> bool {
        let Self::Tls(tls) = self else {
            return false;
        };
        let agreed = match &**tls {
            TlsStream::Server(server) => server.get_ref().1.alpn_protocol(),
            TlsStream::Client(client) => client.get_ref().1.alpn_protocol(),
        };
        agreed == Some(b"h2")
    }

    /// The socket, if every byte to come is read from it as it is.
    pub fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(plain) if plain.prefix.is_empty() => Some(&plain.tcp),
            _ => None,
        }
    }

    /// Make the end of this connection a reset, so that the peer cannot take it for an end of
    /// stream.
    pub fn reset_on_close(&self) {
        reset_on_close(self.tcp());
    }
}

/// Make the close of this socket a reset, so that the peer cannot take it for an end of stream.
pub fn reset_on_close(tcp: &TcpStream) {
    // Fails only where the connection is gone already.
    let _gone = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
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

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }
}

/// The same of whichever it is.
macro_rules! forward {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match $stream {
            Stream::Plain(plain) => Pin::new(plain).$method($($argument),*),
            Stream::Tls(tls) => match &mut **tls {
                TlsStream::Server(server) => Pin::new(server).$method($($argument),*),
                TlsStream::Client(client) => Pin::new(client).$method($($argument),*),
            },
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self.get_mut(), poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_shutdown, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self.get_mut(), poll_write_vectored, cx, bufs)
    }
}
