//! The bare forward: hyper's server connection, hyper's client connection, a pool between them.
//! What is measured here is the price of the libraries; everything else is ours.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Upstream connections of the one worker, last used first.
pub(super) struct BarePool<B> {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<B>>>,
}

/// Serves on one thread until killed.
///
/// # Errors
/// When it cannot listen.
pub(super) fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("starting the runtime")?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        let pool = BarePool::to(upstream);
        loop {
            let (stream, _) = listener.accept().await.context("accepting")?;
            stream.set_nodelay(true)?;
            let pool = Rc::clone(&pool);
            tokio::task::spawn_local(async move {
                let service = service_fn(move |request| forward(Rc::clone(&pool), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    eprintln!("downstream: {error}");
                }
            });
        }
    })
}

async fn forward(
    pool: Rc<BarePool<Incoming>>,
    request: Request<Incoming>,
) -> Result<Response<Returning<Incoming>>> {
    pool.send(request).await
}

impl<B> BarePool<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    pub(super) fn to(upstream: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            upstream,
            idle: RefCell::default(),
        })
    }

    /// Sends a request on an idle connection, or on a new one.
    pub(super) async fn send(
        self: Rc<Self>,
        request: Request<B>,
    ) -> Result<Response<Returning<B>>> {
        let mut sender = self.checkout().await?;
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| Returning {
            body,
            sender: Some(sender),
            pool: self,
        }))
    }

    async fn checkout(&self) -> Result<SendRequest<B>> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop() else {
                break;
            };
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                eprintln!("upstream: {error}");
            }
        });
        Ok(sender)
    }
}

/// A response body that gives its connection back when it has been read to its end.
pub(super) struct Returning<B> {
    body: Incoming,
    sender: Option<SendRequest<B>>,
    pool: Rc<BarePool<B>>,
}

impl<B> Body for Returning<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Returning<B> {
    fn drop(&mut self) {
        if self.body.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.pool.idle.borrow_mut().push(sender);
        }
    }
}
