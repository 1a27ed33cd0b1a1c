//! Serving the admin interface and the readiness probe.
//!
//! A bounded number of connections, one request on each, a bounded time for it: who connects and
//! stays silent, or asks and does not read, takes a place for some seconds and nothing else.

use super::readiness::{Readiness, State};
use super::{ConfigDump, LoopbackListener};
use crate::observe::limited;
use crate::observe::stats::Registry;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections that are served at a time; more wait in the socket.
const MAX_CONNECTIONS: usize = 64;

/// How long a peer in this pod may take for the head of its request.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a probe may take for it: anybody in the network reaches the readiness port, and may not
/// keep the kubelet, which waits a second, from its answer for long.
const PROBE_HEAD_TIME: Duration = Duration::from_millis(500);

/// How long a connection may last, answer included.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// How long to rest after an accept that failed.
const BACKOFF: Duration = Duration::from_millis(50);

const INDEX: &str = "\
/config_dump: the configuration, as JSON
/ready: 200 while the sidecar takes traffic, else 503
/stats/prometheus: statistics, in Prometheus' text format
";

/// What the admin interface shows.
#[derive(Clone)]
pub struct Admin {
    /// State of the server.
    pub readiness: Arc<Readiness>,
    /// Statistics.
    pub registry: Registry,
    /// The configuration.
    pub config_dump: Arc<dyn ConfigDump>,
}

type Answer = Response<Full<Bytes>>;

/// Serve the admin interface for ever.
pub async fn serve(listener: LoopbackListener, admin: Admin) {
    accept(listener.into_socket(), HEAD_TIME, move |request| {
        let admin = admin.clone();
        async move { admin.answer(&request).await }
    })
    .await;
}

/// Serve `/healthz/ready` (and `/ready`) for ever.
pub async fn serve_readiness(socket: TcpListener, readiness: Arc<Readiness>) {
    accept(
        socket,
        PROBE_HEAD_TIME,
        move |request: Request<Incoming>| {
            let state = readiness.state();
            let path = request.uri().path();
            let answer = match path {
                "/healthz/ready" | "/ready" => only_get(&request, || ready(state)),
                _ => text(StatusCode::NOT_FOUND, "not found; ask for /healthz/ready\n"),
            };
            async move { answer }
        },
    )
    .await;
}

impl Admin {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/" => only_get(request, || text(StatusCode::OK, INDEX)),
            "/ready" => only_get(request, || ready(self.readiness.state())),
            "/stats/prometheus" | "/config_dump" if !is_get(request) => not_allowed(),
            // Both take long with a large configuration; probes are answered meanwhile.
            "/stats/prometheus" => {
                let (registry, readiness) = (self.registry.clone(), Arc::clone(&self.readiness));
                let metrics = move || Ok((registry.render() + &readiness.metrics()).into_bytes());
                blocking("text/plain; version=0.0.4; charset=utf-8", metrics).await
            }
            "/config_dump" => {
                let config = Arc::clone(&self.config_dump);
                blocking("application/json", move || config.config_dump()).await
            }
            path => text(
                StatusCode::NOT_FOUND,
                format!("{path} is not here; there are:\n{INDEX}"),
            ),
        }
    }
}

/// An answer that is made on a thread which may block.
async fn blocking(
    kind: &'static str,
    make: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Answer {
    let failed = |why: &dyn Display| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"));
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(body)) => typed(kind, body),
        Ok(Err(why)) => failed(&why),
        Err(panic) => failed(&format_args!(
            "a defect of the sidecar, please report it: {panic}"
        )),
    }
}

fn is_get(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn only_get(request: &Request<Incoming>, answer: impl FnOnce() -> Answer) -> Answer {
    if is_get(request) {
        answer()
    } else {
        not_allowed()
    }
}

fn not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn ready(state: State) -> Answer {
    let status = match state {
        State::Live => StatusCode::OK,
        State::Initializing | State::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, format!("{}\n", state.name()))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = typed("text/plain; charset=UTF-8", body);
    *answer.status_mut() = status;
    answer
}

fn typed(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

async fn accept<F, A>(socket: TcpListener, head_time: Duration, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let registered = socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(socket));
    let socket = match registered {
        Ok(socket) => socket,
        Err(error) => return limited::error("admin interface", &error),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so there is always a place in the end.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    serve_one(stream, head_time, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                limited::warn("admin interface: accept", &error);
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

async fn serve_one<F, A>(stream: TcpStream, head_time: Duration, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer>,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // How a peer of the admin interface goes away is no news.
    let _ended = tokio::time::timeout(CONNECTION_TIME, served).await;
}

#[cfg(test)]
mod tests;
