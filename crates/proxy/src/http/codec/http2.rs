//! HTTP/2 from downstream: many requests at once, each on a stream and a task of its own.

use super::keepalive::Keepalive;
use super::pump::{Pumped, pump};
use super::resets::Resets;
use super::unread::Unread;
use crate::connection::{Kick, Tracked};
use crate::error::Failure;
use crate::http::body::RequestBody;
use crate::http::connection_manager::{HttpConnection, handle};
use crate::http::date;
use crate::http::guard::HeadLimits;
use crate::http::headers;
use crate::http::in_request::InRequest;
use crate::http::source::{Received, Source};
use crate::http::switch::Ask;
use crate::http::tunnel::{ByteStream, End, Ended};
use crate::transport::io::Io;
use crate::worker::TrackGuard;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, server};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    response,
};
use http_body::Body;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Serve a connection until it ends. `read` was read of it already.
pub async fn serve(io: Io, read: Bytes, connection: &Rc<HttpConnection>) {
    let worker = &connection.worker;
    let tracked = &connection.tracked;
    let chain = &connection.chain;
    let (io, left) = Unread::new(io, read);
    let mut builder = server::Builder::new();
    let list = chain.head_limits.list();
    builder
        .max_concurrent_streams(chain.http2.max_concurrent_streams)
        .initial_window_size(chain.http2.stream_window)
        .initial_connection_window_size(chain.http2.connection_window)
        .header_table_size(chain.http2.hpack_table)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX));
    if chain.http2.allow_connect {
        builder.enable_connect_protocol();
    }
    let handshake = until_kicked(tracked, builder.handshake(io)).await;
    let ended = match handshake {
        Some(Ok(codec)) => Serving::new(codec, connection).run().await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    if let Err(error) = &ended
        && !error.is_io()
    {
        worker.stats.inc(chain.series.cx_protocol_error);
    }
    // What was still being served is cut now, and each has its record before this ends.
    poll_fn(|cx| {
        tracked.register(cx.waker());
        match tracked.in_request() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    // A client that was told why may still be sending: a reset would overtake the word.
    let told = ended.is_err_and(|error| !error.is_io());
    if let (Some(io), Some(time), true) = (left.take(), chain.delayed_close_timeout, told) {
        let _late = tokio::time::timeout(time, discard(io, connection)).await;
    }
}

/// A future, unless the connection is kicked first.
async fn until_kicked<F: Future>(tracked: &Tracked, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        tracked.register(cx.waker());
        match tracked.kicked() {
            Some(_) => Poll::Ready(None),
            None => future.as_mut().poll(cx).map(Some),
        }
    })
    .await
}

async fn discard(mut io: Io, connection: &HttpConnection) {
    poll_fn(|cx| {
        let mut scratch = connection.worker.scratch.borrow_mut();
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            let polled = std::task::ready!(AsyncRead::poll_read(Pin::new(&mut io), cx, &mut read));
            if polled.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// A connection whose streams are accepted.
struct Serving<'a> {
    codec: Connection<Unread, Bytes>,
    connection: &'a Rc<HttpConnection>,
    keepalive: Option<Keepalive>,
    resets: Rc<Resets>,
    /// Set once the client was told that no further stream is served: when the patience with its
    /// silence ends.
    farewell: Option<Pin<Box<Sleep>>>,
    sent_away: bool,
    accepted: u32,
}

impl<'a> Serving<'a> {
    fn new(mut codec: Connection<Unread, Bytes>, connection: &'a Rc<HttpConnection>) -> Self {
        let options = &connection.chain.http2;
        let settings = options.keepalive.zip(codec.ping_pong());
        let now = connection.worker.clock.now();
        let (burst, rate) = (options.reset_burst, options.reset_rate);
        Self {
            codec,
            connection,
            keepalive: settings.map(|(settings, pings)| Keepalive::new(settings, pings)),
            resets: Rc::new(Resets::new(burst, rate, now)),
            farewell: None,
            sent_away: false,
            accepted: 0,
        }
    }

    async fn run(mut self) -> Result<(), h2::Error> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let worker = &self.connection.worker;
        let tracked = &self.connection.tracked;
        worker.clock.tick();
        tracked.register(cx.waker());
        let kicked = tracked.kicked();
        if kicked == Some(Kick::DrainEnd) {
            // What is in hand is cut: its record says so, and so does a reset.
            if tracked.in_request() {
                tracked.break_off();
            }
            return Poll::Ready(Ok(()));
        }
        if self.resets.is_exhausted() && !std::mem::replace(&mut self.sent_away, true) {
            self.codec.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        if let Some(keepalive) = &mut self.keepalive
            && keepalive.poll_lost(cx).is_ready()
        {
            // Nobody is there to be told anything.
            tracked.break_off();
            return Poll::Ready(Ok(()));
        }
        let chain = &self.connection.chain.drain;
        let draining = worker.process.drain.is_draining() || chain.has_begun();
        if self.farewell.is_none() && (draining || kicked.is_some()) {
            self.say_farewell();
        }
        if let Some(farewell) = &mut self.farewell
            && !tracked.in_request()
            && farewell.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        loop {
            match std::task::ready!(self.codec.poll_accept(cx)) {
                Some(Ok((request, respond))) => {
                    self.accept(request, respond);
                    self.accepted += 1;
                    let most = self.connection.chain.limits.max_requests_per_connection;
                    if self.farewell.is_none() && most.is_some_and(|most| self.accepted >= most) {
                        self.say_farewell();
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Tell the client that the connection serves what it has begun, and no more.
    fn say_farewell(&mut self) {
        self.codec.graceful_shutdown();
        let patience = self.connection.chain.limits.drain_timeout;
        self.farewell = Some(Box::pin(sleep(patience)));
    }

    fn accept(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let connection = Rc::clone(self.connection);
        let worker = &connection.worker;
        let tracked = Tracked::stream(&connection.tracked, worker.clock.now());
        let idles = connection.chain.stream_idle_timeout.is_some();
        let tracking = idles.then(|| worker.track(&tracked, &connection.chain.drain));
        let served = InRequest::begin(tracked, worker);
        let stream = AcceptedStream {
            served,
            respond,
            resets: Rc::clone(&self.resets),
            _tracking: tracking,
            connection,
        };
        tokio::task::spawn_local(stream.serve(request));
    }
}

/// One request and the way to answer it.
struct AcceptedStream {
    served: InRequest,
    respond: SendResponse<Bytes>,
    resets: Rc<Resets>,
    _tracking: Option<TrackGuard>,
    connection: Rc<HttpConnection>,
}

impl AcceptedStream {
    async fn serve(self, request: Request<RecvStream>) {
        let Self {
            served,
            mut respond,
            resets,
            _tracking,
            connection,
        } = self;
        let worker = Rc::clone(&connection.worker);
        let tracked = Rc::clone(&served.tracked);
        let is_head = *request.method() == Method::HEAD;
        let (head, stream) = request.into_parts();
        let is_connect = head.method == Method::CONNECT;
        let expects = head.headers.get(EXPECT).is_some_and(headers::is_continue);
        let answered = !connection.chain.heads.proxy_continue;
        if answered && expects && !is_connect && !stream.is_end_stream() {
            go_on(&mut respond);
        }
        // What a CONNECT sends is no body, but what goes through the tunnel.
        let (source, sent) = if is_connect {
            (Source::Empty, Some(stream))
        } else {
            let received = Received::new(stream, &head.headers);
            (Source::Http2(received), None)
        };
        let request = Request::from_parts(head, source);
        let was_reset = || {
            // The bucket is looked at by the connection's task.
            if resets.take(worker.clock.now()) {
                connection.tracked.wake();
            }
            worker.stats.inc(connection.chain.http2_series.rq_rx_reset);
        };

        let mut handled = pin!(handle(Rc::clone(&connection), served, request));
        let answer = poll_fn(|cx| {
            worker.clock.tick();
            tracked.register(cx.waker());
            if let Poll::Ready(answer) = handled.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            if tracked.take_wanted() {
                go_on(&mut respond);
            }
            respond.poll_reset(cx).map(Err)
        });
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(reset) => {
                if reset.is_ok() {
                    was_reset();
                }
                return;
            }
        };
        let (head, mut body) = answer.into_parts();
        if let (Some(tunnel), Some(sent)) = (body.take_tunnel(), sent) {
            let granted = respond.send_response(Response::from_parts(head, ()), false);
            if let Ok(stream) = granted {
                let stream = End::Stream(ByteStream::new(stream, sent));
                if Box::pin(tunnel.run(stream, Bytes::new())).await == Ended::ByDownstream {
                    was_reset();
                }
            }
            return;
        }
        let mut body = pin!(body);
        let ends = is_head || body.is_end_stream();
        let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), ends) else {
            return;
        };
        if ends {
            return;
        }
        if let Pumped::Reset = pump(body.as_mut(), &mut stream, Reason::INTERNAL_ERROR).await {
            was_reset();
        }
    }
}

/// Let the client send the body that it holds back.
fn go_on(respond: &mut SendResponse<Bytes>) {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::CONTINUE;
    // Fails only where the stream is gone.
    let _gone = respond.send_informational(head);
}

/// Refuse what must not be forwarded, and bring the rest into one form: origin form, exactly one
/// `host`, one `cookie`, as HTTP/1.1 would have it. Says what it asks for besides an answer.
pub(in crate::http) fn admit(
    request: &mut Request<RequestBody>,
    limits: HeadLimits,
) -> Result<Option<Ask>, Failure> {
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let headers = request.headers();
    if headers.len() > limits.count || headers.iter().map(size).sum::<usize>() > limits.bytes {
        return Err(Failure::HeadTooLarge);
    }
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    // RFC 9113 §8.3.1: `:authority` stands for the host, and knows no user.
    let host = authority.map(HeaderValue::from_str);
    let headers = request.headers_mut();
    match host {
        Some(Ok(authority)) => {
            headers.insert(HOST, authority);
        }
        Some(Err(_bad)) => return Err(INVALID_AUTHORITY),
        None if headers.get_all(HOST).iter().nth(1).is_some() => return Err(INVALID_AUTHORITY),
        None => {}
    }
    match headers.get(HOST) {
        None => return Err(Failure::MissingHost),
        Some(host) if host.as_bytes().contains(&b'@') || !headers::is_authority(host) => {
            return Err(INVALID_AUTHORITY);
        }
        Some(_) => {}
    }
    if !headers::has_one_length_at_most(headers) {
        return Err(Failure::BadRequest {
            details: "http2.invalid_content_length",
        });
    }
    join_cookies(headers);
    *request.version_mut() = Version::HTTP_11;
    let mut ask = None;
    if *request.method() == Method::CONNECT {
        if request.headers().contains_key(CONTENT_LENGTH) {
            // RFC 9110 §9.3.6: it has no content. The codec would end the tunnel at that length.
            return Err(Failure::BadRequest {
                details: "http2.connect_with_content_length",
            });
        }
        let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
            return Ok(Some(Ask::Tunnel { beside: None }));
        };
        // RFC 8441 §5: the same as an upgrade of HTTP/1.1.
        let protocol = HeaderValue::from_str(protocol.as_str());
        ask = Some(Ask::Protocol(
            protocol.map_err(|_bad| Failure::UpgradeFailed)?,
        ));
        *request.method_mut() = Method::GET;
    }
    let path = request.uri().path_and_query();
    let path = path.cloned().unwrap_or(PathAndQuery::from_static("/"));
    let asterisk = path == "*" && *request.method() == Method::OPTIONS;
    if !path.as_str().starts_with('/') && !asterisk {
        return Err(Failure::PathNotAbsolute);
    }
    *request.uri_mut() = Uri::from(path);
    Ok(ask)
}

const INVALID_AUTHORITY: Failure = Failure::BadRequest {
    details: "http2.invalid_authority",
};

/// A client may send its cookies one by one (RFC 9113 §8.2.3); HTTP/1 knows one line of them.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(_), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let joined = crumbs.collect::<Vec<_>>().join(&b"; "[..]);
    // Values that are joined by what may stand in a value are a value.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Bring the head of an answer into the form of this version.
pub(in crate::http) fn complete(head: &mut response::Parts) {
    head.version = Version::HTTP_2;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 8441 §5: what a CONNECT is granted by.
        head.status = StatusCode::OK;
        head.headers.remove(UPGRADE);
        head.headers.remove(CONNECTION);
    }
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, date::now());
    }
}
