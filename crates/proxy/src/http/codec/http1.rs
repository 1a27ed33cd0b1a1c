//! HTTP/1 from downstream: hyper behind the guard, one request after another.

use crate::connection::Kick;
use crate::error::{Failure, Reply};
use crate::http::MAX_HEAD_BYTES;
use crate::http::body::RequestBody;
use crate::http::connection_manager::{HttpConnection, handle};
use crate::http::date;
use crate::http::guard::{Guard, Refusal};
use crate::http::guarded::GuardedIo;
use crate::http::headers::{self, Upgrade};
use crate::http::in_request::InRequest;
use crate::http::source::Source;
use crate::http::switch::Ask;
use crate::http::tunnel::End;
use crate::model::{HeaderCase, Http10Options, ServerHeader};
use crate::observe::flags::Flags;
use crate::snapshot::HttpChain;
use crate::transport::io::Io;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version, response};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Bytes beside the headers that the codec's buffer must have room for: the first line's rest, and
/// what was read beyond the head.
const HEAD_RESERVE: usize = 4 * 1024;

/// Headers for which the codec has room without being told.
const CODEC_HEADERS: usize = 100;

/// What a connection turned out to be that began with HTTP/2's preface: its bytes in both
/// directions, and those that were read already.
pub type Preface = (Io, Bytes);

/// Serve a connection until it ends, or until it turns out to speak HTTP/2 where that is allowed.
pub async fn serve(
    io: Io,
    connection: &Rc<HttpConnection>,
    http2_is_allowed: bool,
) -> Option<Preface> {
    let worker = Rc::clone(&connection.worker);
    let tracked = Rc::clone(&connection.tracked);
    let chain = &connection.chain;
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Rc::clone(connection);
        let served = InRequest::begin(Rc::clone(&connection.tracked), &connection.worker);
        let request = request.map(Source::Http1);
        async move {
            // Boxed: an idle connection does not hold the memory of a request.
            let mut answer = Box::pin(handle(Rc::clone(&connection), served, request)).await;
            if let Some(tunnel) = answer.body_mut().take_tunnel() {
                connection.tunnel.replace(Some(tunnel));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut guard = Guard::new(chain.head_limits, http2_is_allowed);
    if chain.http10.is_some() {
        guard = guard.serving_http10();
    }
    let io = GuardedIo::new(io, guard, Rc::clone(&tracked), Rc::clone(&worker));
    // In a block of its own: an idle connection does not hold the memory of what comes after it.
    let (io, read, is_malformed) = {
        let mut served = builder(chain).serve_connection(io, service);
        let ended = poll_fn(|cx| {
            worker.clock.tick();
            tracked.register(cx.waker());
            match (tracked.kicked(), tracked.in_request()) {
                (Some(Kick::DrainEnd), true) => {
                    // The request in hand is cut: its record says so, and so does a reset.
                    tracked.break_off();
                    return Poll::Ready(Ok(()));
                }
                (Some(Kick::Idle | Kick::SlowHead | Kick::DrainEnd), false) => {
                    Pin::new(&mut served).graceful_shutdown();
                    // Pending: what is left of the last answer cannot be written.
                    return Poll::Ready(match Pin::new(&mut served).poll(cx) {
                        Poll::Ready(ended) => ended,
                        Poll::Pending => Ok(()),
                    });
                }
                // The request sees an idle timeout itself and answers it.
                (Some(Kick::Idle | Kick::SlowHead), true) | (Some(Kick::MaxDuration) | None, _) => {
                }
            }
            let polled = Pin::new(&mut served).poll(cx);
            if polled.is_pending() && tracked.kicked() == Some(Kick::Idle) && tracked.in_request() {
                // The codec asks for no more of the answer, since the client takes none of it: the
                // request has not seen the timeout, and never would.
                tracked.break_off();
                return Poll::Ready(Ok(()));
            }
            polled
        })
        .await;
        let http1::Parts { io, read_buf, .. } = served.into_parts();
        (io, read_buf, ended.is_err_and(|error| error.is_parse()))
    };
    Box::pin(after(connection, io, read, is_malformed)).await
}

/// How a connection is to be served.
fn builder(chain: &HttpChain) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES.max(chain.head_limits.bytes + HEAD_RESERVE));
    if chain.head_limits.count > CODEC_HEADERS {
        builder.max_headers(chain.head_limits.count);
    }
    match chain.heads.case {
        HeaderCase::Lower => {}
        HeaderCase::Proper => drop(builder.title_case_headers(true)),
        HeaderCase::Preserved => drop(builder.preserve_header_case(true)),
    }
    builder
}

/// After the last request: a tunnel, or the end.
async fn after(
    connection: &Rc<HttpConnection>,
    mut io: GuardedIo,
    read: Bytes,
    is_malformed: bool,
) -> Option<Preface> {
    let tracked = &connection.tracked;
    if let Some(tunnel) = connection.tunnel.take() {
        let (io, unread) = io.into_unread();
        let read = [&read[..], &unread].concat();
        let _ended = tunnel.run(End::Connection(io), read.into()).await;
        return None;
    }
    let refused = match tracked.kicked().filter(|_| tracked.in_head()) {
        Some(Kick::SlowHead) => Some(Refusal::SlowHead),
        Some(Kick::Idle) => Some(Refusal::IdleHead),
        Some(Kick::DrainEnd | Kick::MaxDuration) | None => io.refused_head(),
    };
    if refused == Some(Refusal::Http2) {
        return Some(io.into_unread());
    }
    if let Some(refusal) = refused.filter(|_| !tracked.is_broken()) {
        let answer = refuse(connection, refusal);
        let _gone = io.write_all(&answer).await;
        tracked.leave_unread();
    } else if is_malformed {
        // The guard is stricter than the codec, so this is for what neither foresaw.
        refuse(connection, Refusal::Malformed);
    }
    let linger = connection.chain.delayed_close_timeout;
    io.finish(linger.filter(|_| tracked.is_unread())).await;
    None
}

/// The record of bytes that are no request, and what they are answered with.
fn refuse(connection: &Rc<HttpConnection>, refusal: Refusal) -> Vec<u8> {
    let HttpConnection {
        worker,
        chain,
        downstream,
        destination,
        tls,
        ..
    } = &**connection;
    let Reply {
        status,
        flags,
        details,
        body,
    } = refusal.reply();
    if flags.contains(Flags::DPE) {
        worker.stats.inc(chain.series.cx_protocol_error);
    }
    let mut outcome = worker.record(&chain.log, *downstream, *destination);
    outcome.tls.clone_from(tls);
    outcome.flags |= flags;
    outcome.status = Some(status);
    outcome.details = Cow::Borrowed(details);
    outcome.bytes_sent = body.len() as u64;
    let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    if !body.is_empty() {
        answer.push_str("content-type: text/plain\r\n");
    }
    let mut answer = answer.into_bytes();
    answer.extend([b"date: ", date::now().as_bytes(), b"\r\n"].concat());
    if chain.server_header != ServerHeader::PassThrough {
        answer.extend([b"server: ", chain.server_name.as_bytes(), b"\r\n"].concat());
    }
    answer.extend([b"connection: close\r\n\r\n", body.as_bytes()].concat());
    answer
}

/// Refuse what must not be forwarded, and bring the rest into one form: HTTP/1.1, origin form,
/// exactly one `host`. Says what it asks for besides an answer.
pub(in crate::http) fn admit(
    request: &mut Request<RequestBody>,
    http10: Option<&Http10Options>,
) -> Result<Option<Ask>, Failure> {
    let is_http10 = request.version() < Version::HTTP_11;
    if is_http10 {
        let options = http10.ok_or(Failure::Http10)?;
        if let Some(host) = &options.default_host
            && !request.headers().contains_key(HOST)
        {
            request.headers_mut().insert(HOST, host.clone());
        }
        *request.version_mut() = Version::HTTP_11;
    }
    let bad_request = |details| Failure::BadRequest { details };
    if *request.method() == Method::CONNECT {
        // RFC 9112 §3.2.3: the target is host and port, and nothing else.
        let target = request.uri().authority();
        let target = target.filter(|to| to.port_u16().is_some() && !to.host().is_empty());
        let host = target.and_then(|to| HeaderValue::from_str(to.as_str()).ok());
        let host = host.filter(|to| headers::is_authority(to) && !to.as_bytes().contains(&b'@'));
        let host = host.ok_or_else(|| bad_request("http1.invalid_url"))?;
        request.headers_mut().insert(HOST, host);
        let upgrade = headers::requested_upgrade(request.headers()) == Upgrade::Other;
        let beside = request.headers().get(UPGRADE).filter(|_| upgrade).cloned();
        return Ok(Some(Ask::Tunnel { beside }));
    }
    let mut ask = None;
    // RFC 9110 §7.8: what a client of HTTP/1.0 asks for is not heard.
    if !is_http10 && headers::requested_upgrade(request.headers()) == Upgrade::Other {
        // Where a body is to come, nobody could tell it from what is sent after the switch.
        if !matches!(request.body(), RequestBody::Empty) {
            return Err(Failure::UpgradeFailed);
        }
        ask = request.headers().get(UPGRADE).cloned().map(Ask::Protocol);
    }
    headers::check_connection(request.headers())?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad_request("http1.duplicate_host"));
    }
    // RFC 9112 §3.2.2: the authority of an absolute form replaces the host.
    if let Some(authority) = request.uri().authority() {
        let authority = authority.as_str();
        let (_user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let host = HeaderValue::from_str(host);
        let host = host.map_err(|_bad| bad_request("http1.invalid_host"))?;
        let path = request.uri().path_and_query().cloned();
        let path = match path {
            Some(path) if path.as_str().starts_with('/') => path,
            // RFC 9112 §3.2.1: an empty path is `/`, also before a query.
            Some(query) => {
                let path = PathAndQuery::try_from(format!("/{}", query.as_str()));
                path.unwrap_or_else(|_bad| PathAndQuery::from_static("/"))
            }
            None => PathAndQuery::from_static("/"),
        };
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(path);
        return Ok(ask);
    }
    match host {
        None => Err(Failure::MissingHost),
        Some(host) if headers::is_authority(host) => Ok(ask),
        Some(_) => Err(bad_request("http1.invalid_host")),
    }
}

/// Bring the head of an answer into the form of the version that its client speaks. Whatever the
/// upstream spoke: in HTTP/1.0 an answer without a length ends with its connection.
pub(in crate::http) fn complete(head: &mut response::Parts, client: Version, closing: bool) {
    head.version = client;
    // The reason is the status's own; what the upstream called it is not passed on.
    head.extensions.remove::<ReasonPhrase>();
    if head.status.canonical_reason().is_none() {
        head.extensions
            .insert(ReasonPhrase::from_static(b"Unknown"));
    }
    if closing {
        let close = match head.headers.contains_key(UPGRADE) {
            true => "close, upgrade",
            false => "close",
        };
        let close = HeaderValue::from_static(close);
        head.headers.insert(CONNECTION, close);
    } else if client < Version::HTTP_11 {
        let keep = HeaderValue::from_static("keep-alive");
        head.headers.insert(CONNECTION, keep);
    }
}
