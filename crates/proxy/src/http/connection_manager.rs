//! The HTTP connection manager: one downstream connection, one request after another.

use crate::addr::Destination;
use crate::addr::Downstream;
use crate::connection::{Kick, Tracked};
use crate::error::{Failure, Reply};
use crate::http::MAX_HEAD_BYTES;
use crate::http::answer::Answer;
use crate::http::body::{RequestBody, ResponseBody, Upload};
use crate::http::client_cert::ClientCert;
use crate::http::filters::router::Router;
use crate::http::guard::Refusal;
use crate::http::guarded::GuardedIo;
use crate::http::headers::{self, Upgrade};
use crate::model::{HttpFilter, ServerHeader};
use crate::observe::flags::Flags;
use crate::observe::outcome::{Begin, Outcome};
use crate::route::{Action, RequestHead};
use crate::snapshot::HttpChain;
use crate::transport::io::Io;
use crate::transport::tls::TlsInfo;
use crate::worker::Worker;
use http::header::{CONNECTION, EXPECT, HOST, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// A downstream connection that speaks HTTP. Pins its listener's chain; a request pins its route
/// table, an attempt its cluster.
#[derive(Debug)]
pub struct HttpConnection {
    /// The worker that owns it.
    pub worker: Rc<Worker>,
    /// What to do with its requests.
    pub chain: Arc<HttpChain>,
    /// The peer.
    pub downstream: Downstream,
    /// Where the peer wanted to go.
    pub destination: Destination,
    /// Timeouts and the drain.
    pub tracked: Rc<Tracked>,
    /// What is known by TLS.
    pub tls: Option<Rc<TlsInfo>>,
    /// What its requests say of the client's certificate.
    pub client_cert: ClientCert,
}

impl HttpConnection {
    /// `:scheme` of its requests.
    fn scheme(&self) -> &'static str {
        match &self.tls {
            Some(tls) if tls.is_terminated() => "https",
            _ => "http",
        }
    }
}

/// One request in hand: its connection and its record.
#[derive(Debug)]
pub struct Stream {
    /// The downstream connection.
    pub connection: Rc<HttpConnection>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// How far its body is, where it has one.
    pub upload: Option<Rc<Upload>>,
}

/// Serve a connection until it ends.
pub async fn serve(io: Io, connection: Rc<HttpConnection>) {
    let worker = Rc::clone(&connection.worker);
    let tracked = Rc::clone(&connection.tracked);
    let series = connection.chain.series;
    worker.stats.inc(series.cx_total);
    worker.stats.gauge_add(series.cx_active, 1);
    let service = service_fn(|request| handle(Rc::clone(&connection), request));
    let io = GuardedIo::new(io, Rc::clone(&tracked), Rc::clone(&worker));
    let mut served = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(io, service);
    let ended = poll_fn(|cx| {
        worker.clock.tick();
        tracked.register(cx.waker());
        match (tracked.kicked(), tracked.in_request()) {
            (Some(Kick::DrainEnd), true) => {
                // The request in hand is cut: its record says so, and so does a reset.
                tracked.break_off();
                return Poll::Ready(Ok(()));
            }
            (Some(_), false) => {
                Pin::new(&mut served).graceful_shutdown();
                // Pending: what is left of the last answer cannot be written.
                return Poll::Ready(match Pin::new(&mut served).poll(cx) {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => Ok(()),
                });
            }
            // The request sees an idle timeout itself and answers it.
            (Some(Kick::Idle | Kick::SlowHead), true) | (None, _) => {}
        }
        Pin::new(&mut served).poll(cx)
    })
    .await;
    worker.stats.gauge_add(series.cx_active, -1);
    let mut io = served.into_parts().io;
    let refused = match tracked.kicked().filter(|_| tracked.in_head()) {
        Some(Kick::SlowHead) => Some(Refusal::SlowHead),
        Some(Kick::Idle) => Some(Refusal::IdleHead),
        Some(Kick::DrainEnd) | None => io.refused_head(),
    };
    if let Some(refusal) = refused.filter(|_| !tracked.is_broken()) {
        let answer = refuse(&connection, refusal);
        let _gone = io.write_all(&answer).await;
        tracked.leave_unread();
    } else if let Err(error) = ended
        && error.is_parse()
    {
        // The guard is stricter than the codec, so this is for what neither foresaw.
        refuse(&connection, Refusal::Malformed);
    }
    let linger = connection.chain.delayed_close_timeout;
    io.finish(linger.filter(|_| tracked.is_unread())).await;
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
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    answer.push_str(&format!("date: {date}\r\n"));
    let mut answer = answer.into_bytes();
    if chain.server_header != ServerHeader::PassThrough {
        answer.extend([b"server: ", chain.server_name.as_bytes(), b"\r\n"].concat());
    }
    answer.extend([b"connection: close\r\n\r\n", body.as_bytes()].concat());
    answer
}

/// Serve one request: check, edit, route, filter, answer.
async fn handle(
    connection: Rc<HttpConnection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut stream, mut request) = Stream::begin(connection, request);
    let answer = stream.serve(&mut request).await;
    Ok(stream.answer(answer.unwrap_or_else(Answer::Failure)))
}

/// Refuse what must not be forwarded, and bring the rest into one form: HTTP/1.1, origin form,
/// exactly one `host`.
fn admit(request: &mut Request<RequestBody>) -> Result<(), Failure> {
    if request.version() < Version::HTTP_11 {
        return Err(Failure::Http10);
    }
    if *request.method() == Method::CONNECT {
        return Err(Failure::ConnectRefused);
    }
    if headers::requested_upgrade(request.headers()) == Upgrade::Other {
        return Err(Failure::UpgradeFailed);
    }
    headers::check_connection(request.headers())?;
    let bad_request = |details| Failure::BadRequest { details };
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
        return Ok(());
    }
    match host {
        None => Err(Failure::MissingHost),
        Some(host) if headers::is_authority(host) => Ok(()),
        Some(_) => Err(bad_request("http1.invalid_host")),
    }
}

fn request_head<'a>(request: &'a Request<RequestBody>, scheme: &'a str) -> RequestHead<'a> {
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    RequestHead {
        method: request.method(),
        authority: host.unwrap_or_default(),
        path: request
            .uri()
            .path_and_query()
            .map_or("/", PathAndQuery::as_str),
        scheme,
        headers: request.headers(),
    }
}

impl Stream {
    /// A request begins.
    fn begin(
        connection: Rc<HttpConnection>,
        request: Request<Incoming>,
    ) -> (Self, Request<RequestBody>) {
        let (mut head, incoming) = request.into_parts();
        let worker = &connection.worker;
        let chain = &connection.chain;
        connection.tracked.set_in_request(true, worker.clock.now());
        worker.stats.inc(chain.series.rq_total);
        worker.stats.gauge_add(chain.series.rq_active, 1);
        if chain.generate_request_id && !head.headers.contains_key(headers::X_REQUEST_ID) {
            let id = worker.with_rng(headers::new_request_id);
            head.headers.insert(headers::X_REQUEST_ID, id);
        }
        let begin = Begin {
            downstream_remote: connection.downstream.0,
            downstream_local: connection.destination.address,
            logs: &chain.log,
            captured: chain.log.capture_request(&head),
            http: Some(chain.series),
        };
        let mut outcome = Outcome::begin(&worker.recorder, begin);
        outcome.protocol = Some(head.version);
        outcome.tls.clone_from(&connection.tls);
        // What is true unless an answer is given: the downstream went away.
        outcome.flags = Flags::DC;
        outcome.details = Cow::Borrowed("downstream_remote_disconnect");
        let (body, upload) = RequestBody::of(incoming, &connection);
        (
            Self {
                connection,
                outcome,
                upload,
            },
            Request::from_parts(head, body),
        )
    }

    /// From a request to what is answered.
    async fn serve(&mut self, request: &mut Request<RequestBody>) -> Result<Answer, Failure> {
        admit(request)?;
        self.edit(request.headers_mut());
        if matches!(request.body(), RequestBody::Empty) {
            headers::announce_no_body(request);
        }

        // Route: the table of now, for the whole of this request.
        let chain = Arc::clone(&self.connection.chain);
        let table = self.connection.worker.route_table(&chain.routes);
        let route = table
            .as_ref()
            .and_then(|table| table.route(&request_head(request, self.connection.scheme())));
        let Some(route) = route else {
            self.connection.worker.stats.inc(chain.series.no_route);
            return Err(Failure::RouteNotFound);
        };
        self.outcome.route_name = self.outcome.name(&route.name);

        // HTTP filters, in the order of the configuration; the router is the last.
        #[expect(
            clippy::never_loop,
            reason = "the router answers, and is the only one so far"
        )]
        for filter in &chain.filters {
            match filter {
                HttpFilter::Router {
                    suppress_envoy_headers,
                } => {
                    return match &route.action {
                        Action::DirectResponse(direct) => Ok(Answer::Direct(direct.clone())),
                        Action::Forward(forward) => {
                            let suppress_envoy_headers = *suppress_envoy_headers;
                            let router = Router {
                                forward,
                                suppress_envoy_headers,
                            };
                            router.forward(self, request).await
                        }
                    };
                }
            }
        }
        Err(Failure::RouteNotFound)
    }

    /// What a request tells the upstream about its way.
    fn edit(&self, map: &mut HeaderMap) {
        headers::strip_hop_by_hop(map);
        // Answered here: the codec says 100 when the body is first asked for.
        if map.get(EXPECT).is_some_and(|expect| {
            let expect = expect.as_bytes();
            expect.eq_ignore_ascii_case(b"100-continue")
        }) {
            map.remove(EXPECT);
        }
        self.connection.client_cert.apply(map);
        let scheme = HeaderValue::from_static(self.connection.scheme());
        if self.connection.chain.use_remote_address {
            headers::begin_the_way(map, self.connection.downstream.0.ip());
            map.insert(headers::X_FORWARDED_PROTO, scheme);
        } else {
            map.remove(headers::X_ENVOY_INTERNAL);
            map.entry(headers::X_FORWARDED_PROTO).or_insert(scheme);
        }
    }

    /// Give the answer: its head is completed and noted, its body takes the record along.
    fn answer(mut self, answer: Answer) -> Response<ResponseBody> {
        let outcome = &mut self.outcome;
        outcome.flags.remove(Flags::DC);
        let tracked = &self.connection.tracked;
        let mut closing = false;
        match &self.upload {
            // What the client has yet to send will not be waited for.
            Some(upload) if !upload.complete.get() => {
                closing = true;
                tracked.leave_unread();
            }
            _ => tracked.forgive_idle(),
        }
        if let Some(upload) = &self.upload {
            outcome.bytes_received = upload.bytes.get();
        }
        let overloaded = matches!(answer, Answer::Failure(Failure::Overflow));
        closing |= matches!(&answer, Answer::Failure(failure) if failure.closes());
        let (mut head, body) = answer.into_head_and_body(outcome, self.upload);
        // Whatever the upstream spoke: in HTTP/1.0 an answer without a length could only end with
        // the connection, as one that broke off does.
        head.version = Version::HTTP_11;
        let chain = &self.connection.chain;
        match chain.server_header {
            ServerHeader::PassThrough => {}
            ServerHeader::AppendIfAbsent if head.headers.contains_key(SERVER) => {}
            ServerHeader::Overwrite | ServerHeader::AppendIfAbsent => {
                head.headers.insert(SERVER, chain.server_name.clone());
            }
        }
        if overloaded && !chain.suppresses_envoy_headers() {
            let overloaded = HeaderValue::from_static("true");
            head.headers.insert(headers::X_ENVOY_OVERLOADED, overloaded);
        }
        // The reason is the status's own; what the upstream called it is not passed on.
        head.extensions.remove::<ReasonPhrase>();
        if head.status.canonical_reason().is_none() {
            head.extensions
                .insert(ReasonPhrase::from_static(b"Unknown"));
        }
        closing |= self.connection.tracked.kicked().is_some() || chain.drain.has_begun();
        if closing || self.connection.worker.process.drain.is_draining() {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        outcome.status = Some(head.status);
        if let Some(captured) = &mut outcome.captured {
            chain.log.capture_response(captured, &head.headers);
        }
        let body = ResponseBody::new(body, self.outcome, &self.connection);
        Response::from_parts(head, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each open connection holds one of the first, each request in flight one of the second.
    #[test]
    fn the_futures_of_a_connection_and_of_a_request_are_at_most_4_kib() {
        let connection = output_size(serve);
        let request = output_size(handle);
        assert!(
            connection <= 4096 && request <= 4096,
            "{connection} and {request} bytes"
        );
    }
}
