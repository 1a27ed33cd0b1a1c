//! An upstream connection, and what the requests on it may know of it.
//!
//! An upstream may close a connection that rests in a pool at any time. Whether a request can be
//! sent again on another depends on what has passed since it was given to this one.

use crate::transport::io::Io;
use socket2::SockRef;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What has passed through a connection, shared by its codec and its requests.
#[derive(Debug, Default)]
pub struct Watch {
    read: Cell<u64>,
    written: Cell<u64>,
    look: Cell<Option<Look>>,
}

/// What ends a connection that is about to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its end, or anything else that has come: a peer of HTTP/1 has nothing to say unasked.
    Anything,
    /// Its end.
    End,
}

/// What had passed at a time.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    read: u64,
    written: u64,
}

impl Watch {
    /// What has passed until now.
    pub fn mark(&self) -> Mark {
        Mark {
            read: self.read.get(),
            written: self.written.get(),
        }
    }

    /// Whether the peer has said nothing since then.
    pub fn is_silent_since(&self, mark: Mark) -> bool {
        self.read.get() == mark.read
    }

    /// Whether the peer was told nothing since then.
    pub fn is_untold_since(&self, mark: Mark) -> bool {
        self.written.get() == mark.written
    }

    /// Let the codec look at the socket itself before it goes on: the runtime learns of what has
    /// come only now and then. Codecs read before they write, so that a request is not written on
    /// what has ended.
    pub fn look_first(&self, at: Look) {
        self.look.set(Some(at));
    }
}

/// A connection to an upstream, watched.
#[derive(Debug)]
pub struct WatchedIo {
    io: Io,
    watch: Rc<Watch>,
}

impl WatchedIo {
    /// Watch a connection.
    pub fn new(io: Io) -> (Self, Rc<Watch>) {
        let watch = Rc::new(Watch::default());
        let watched = Self {
            io,
            watch: Rc::clone(&watch),
        };
        (watched, watch)
    }

    /// No request will need to know of it.
    pub fn into_inner(self) -> Io {
        self.io
    }

    fn has_ended(&self, look: Look) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(self.io.tcp()).peek(&mut byte) {
            Ok(0) => true,
            Ok(_) => look == Look::Anything,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            let before = self.watch.written.get();
            self.watch.written.set(before.wrapping_add(*bytes as u64));
        }
    }
}

impl AsyncRead for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(look) = self.watch.look.take()
            && self.has_ended(look)
        {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        self.watch
            .read
            .set(self.watch.read.get().wrapping_add(read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(&self.io)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::stream::{Plain, Stream};
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper::client::conn::http1::{self, SendRequest};
    use hyper_util::rt::TokioIo;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;
    use tokio::runtime::{Builder, LocalOptions};

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(test)
    }

    /// A watched connection, and its peer.
    fn pair() -> (WatchedIo, Rc<Watch>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let tcp = tokio::net::TcpStream::from_std(ours).unwrap();
        let plain = Plain::new(tcp, Bytes::new());
        let (io, watch) = WatchedIo::new(Io::upstream(Stream::Plain(plain)));
        (io, watch, peer)
    }

    /// Wait until something has come, without the runtime learning of it.
    fn arrived(io: &WatchedIo) {
        while !io.has_ended(Look::Anything) {
            std::thread::yield_now();
        }
    }

    fn read(io: &mut WatchedIo) -> Poll<usize> {
        let mut bytes = [0; 8];
        let mut buf = ReadBuf::new(&mut bytes);
        let polled = Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        polled.map(|read| read.map_or(0, |()| buf.filled().len()))
    }

    #[test]
    fn an_end_is_seen_before_the_runtime_learns_of_it() {
        block_on(async {
            let (mut io, watch, peer) = pair();
            // The first read learns that there is nothing.
            assert_eq!(read(&mut io), Poll::Pending);
            watch.look_first(Look::End);
            assert_eq!(read(&mut io), Poll::Pending);
            drop(peer);
            arrived(&io);
            assert_eq!(read(&mut io), Poll::Pending, "the runtime knows nothing");
            watch.look_first(Look::End);
            assert_eq!(read(&mut io), Poll::Ready(0));
        });
    }

    #[test]
    fn what_was_said_unasked_ends_a_connection_where_nothing_may_be() {
        block_on(async {
            let (mut io, watch, mut peer) = pair();
            assert_eq!(read(&mut io), Poll::Pending);
            peer.write_all(b"HTTP/1.1 408").unwrap();
            arrived(&io);
            watch.look_first(Look::End);
            assert_eq!(read(&mut io), Poll::Pending);
            watch.look_first(Look::Anything);
            assert_eq!(read(&mut io), Poll::Ready(0));
        });
    }

    #[test]
    fn what_passes_is_known() {
        block_on(async {
            let (mut io, watch, mut peer) = pair();
            let begin = watch.mark();
            assert!(watch.is_silent_since(begin) && watch.is_untold_since(begin));
            tokio::io::AsyncWriteExt::write_all(&mut io, b"abc")
                .await
                .unwrap();
            assert!(watch.is_silent_since(begin) && !watch.is_untold_since(begin));
            peer.read_exact(&mut [0; 3]).unwrap();
            peer.write_all(b"d").unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut io).await.unwrap();
            assert!(!watch.is_silent_since(begin));
            assert!(watch.is_silent_since(watch.mark()));
        });
    }

    /// A connection of HTTP/1 that has served a request, and its peer.
    async fn used(look: bool) -> Result<(), bool> {
        let (io, watch, mut peer) = pair();
        let handshake = http1::handshake::<_, Full<Bytes>>(TokioIo::new(io)).await;
        let (mut sender, connection): (SendRequest<Full<Bytes>>, _) = handshake.unwrap();
        tokio::task::spawn_local(connection);
        let serving = std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            let _request = peer.read(&mut bytes).unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            peer
        });
        let post = || Request::post("/").body(Full::default()).unwrap();
        sender.send_request(post()).await.unwrap();
        sender.ready().await.unwrap();
        let peer = serving.join().unwrap();
        // Until here the runtime has turned, and does no more before the next request is written.
        drop(peer);
        if look {
            watch.look_first(Look::Anything);
        }
        match sender.try_send_request(post()).await {
            Ok(_) => Ok(()),
            Err(mut error) => Err(error.take_message().is_some()),
        }
    }

    #[test]
    fn no_request_is_written_on_a_connection_whose_end_has_come() {
        for _ in 0..50 {
            let given_back = block_on(used(true)).unwrap_err();
            assert!(given_back, "the request was written");
        }
        // Without a look at the socket it is.
        assert!(!block_on(used(false)).unwrap_err());
    }
}
