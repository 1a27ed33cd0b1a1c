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

/// Idle upstream connections of the one worker, last used first.
type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

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
        let pool = Pool::default();
        loop {
            let (stream, _) = listener.accept().await.context("accepting")?;
            stream.set_nodelay(true)?;
            let pool = Rc::clone(&pool);
            tokio::task::spawn_local(async move {
                let service =
                    service_fn(move |request| forward(request, Rc::clone(&pool), upstream));
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
    request: Request<Incoming>,
    pool: Pool,
    upstream: SocketAddr,
) -> Result<Response<Returning>> {
    let mut sender = checkout(&pool, upstream).await?;
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Returning {
        body,
        sender: Some(sender),
        pool,
    }))
}

async fn checkout(pool: &Pool, upstream: SocketAddr) -> Result<SendRequest<Incoming>> {
    loop {
        let Some(mut idle) = pool.borrow_mut().pop() else {
            break;
        };
        if idle.ready().await.is_ok() {
            return Ok(idle);
        }
    }
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            eprintln!("upstream: {error}");
        }
    });
    Ok(sender)
}

/// A response body that gives its connection back when it has been read to its end.
struct Returning {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Body for Returning {
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

impl Drop for Returning {
    fn drop(&mut self) {
        if self.body.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.pool.borrow_mut().push(sender);
        }
    }
}
