//! The HTTP connection manager: one downstream connection, one request after another.

use crate::addr::Downstream;
use crate::connection::{Kick, Tracked};
use crate::error::Failure;
use crate::http::body::ResponseBody;
use crate::http::filters::router;
use crate::http::headers::{self, Upgrade};
use crate::http::{MAX_HEAD_BYTES, local_reply};
use crate::listener::accept::Destination;
use crate::model::{HttpFilter, ServerHeader};
use crate::observe::flags::Flags;
use crate::observe::outcome::{Begin, Outcome};
use crate::route::{Action, RequestHead};
use crate::snapshot::HttpChain;
use crate::transport::io::Io;
use crate::worker::Worker;
use http::header::{CONNECTION, HOST, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
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
}

/// One request in hand: its connection and its record.
#[derive(Debug)]
pub struct Stream {
    /// The downstream connection.
    pub connection: Rc<HttpConnection>,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// Serve a connection until it ends.
pub async fn serve(io: Io, connection: Rc<HttpConnection>) {
    let worker = Rc::clone(&connection.worker);
    let tracked = Rc::clone(&connection.tracked);
    let series = connection.chain.series;
    worker.stats.inc(series.cx_total);
    worker.stats.gauge_add(series.cx_active, 1);
    let service = service_fn(|request| handle(Rc::clone(&connection), request));
    let mut served = pin!(
        http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(io, service)
    );
    let ended = poll_fn(|cx| {
        worker.clock.tick();
        tracked.register(cx.waker());
        match (tracked.kicked(), tracked.in_request()) {
            // The request in hand is cut: its record says so.
            (Some(Kick::DrainEnd), true) => return Poll::Ready(Ok(())),
            (Some(_), false) => served.as_mut().graceful_shutdown(),
            // The request sees an idle timeout itself and answers it.
            (Some(Kick::Idle), true) | (None, _) => {}
        }
        served.as_mut().poll(cx)
    })
    .await;
    worker.stats.gauge_add(series.cx_active, -1);
    if let Err(error) = ended
        && error.is_parse()
    {
        worker.stats.inc(series.cx_protocol_error);
        malformed(&connection);
    }
}

/// The record of bytes that were no request; the codec has answered 400 or 431 already.
fn malformed(connection: &Rc<HttpConnection>) {
    let HttpConnection {
        worker,
        chain,
        downstream,
        destination,
        ..
    } = &**connection;
    let mut outcome = worker.record(&chain.log, *downstream, *destination);
    outcome.flags |= Flags::DPE;
    outcome.status = Some(StatusCode::BAD_REQUEST);
    outcome.details = Cow::Borrowed("http1.codec_error");
}

/// Serve one request: check, edit, route, filter, answer.
async fn handle(
    connection: Rc<HttpConnection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    let stream = Stream::begin(Rc::clone(&connection), &mut head);
    Ok(match admit(&mut head) {
        Err(failure) => local_reply::failure(stream, &failure),
        Ok(()) => respond(stream, head, body).await,
    })
}

async fn respond(
    mut stream: Stream,
    mut head: request::Parts,
    body: Incoming,
) -> Response<ResponseBody> {
    let chain = Arc::clone(&stream.connection.chain);
    stream.edit_request(&mut head);

    // Route: the table of now, for the whole of this request.
    let Some(table) = stream.connection.worker.route_table(chain.routes) else {
        return local_reply::failure(stream, &Failure::RouteNotFound);
    };
    let Some(route) = table.route(&request_head(&head)) else {
        stream.connection.worker.stats.inc(chain.series.no_route);
        return local_reply::failure(stream, &Failure::RouteNotFound);
    };
    stream.outcome.route_name = Some(Arc::clone(&route.name));

    // HTTP filters, in the order of the configuration; the router is the last.
    #[expect(
        clippy::never_loop,
        reason = "the router always answers, and is the only one so far"
    )]
    for filter in &chain.filters {
        match filter {
            HttpFilter::Router {
                suppress_envoy_headers,
            } => {
                return match &route.action {
                    Action::DirectResponse(direct) => local_reply::text(
                        stream,
                        direct.status,
                        "direct_response",
                        direct.body.clone(),
                    ),
                    Action::Forward(forward) => {
                        let request = Request::from_parts(head, body);
                        let router = router::Router {
                            forward,
                            suppress_envoy_headers: *suppress_envoy_headers,
                        };
                        router.forward(stream, request).await
                    }
                };
            }
        }
    }
    local_reply::failure(stream, &Failure::RouteNotFound)
}

/// Refuse what must not be forwarded, and bring the rest into one form: HTTP/1.1, origin form,
/// exactly one `host`.
fn admit(head: &mut request::Parts) -> Result<(), Failure> {
    if head.version < Version::HTTP_11 {
        return Err(Failure::Http10);
    }
    if head.method == Method::CONNECT || headers::requested_upgrade(&head.headers) == Upgrade::Other
    {
        return Err(Failure::UpgradeFailed);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok() => {}
        (Some(_), None) => {
            return Err(Failure::BadRequest {
                details: "http1.invalid_host",
            });
        }
        (Some(_), Some(_)) => {
            return Err(Failure::BadRequest {
                details: "http1.duplicate_host",
            });
        }
        (None, _) => {
            return Err(Failure::BadRequest {
                details: "missing_host_header",
            });
        }
    }
    // RFC 9112 §3.2.2: the authority of an absolute form replaces the host.
    if let Some(authority) = head.uri.authority() {
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_bad| Failure::BadRequest {
                details: "http1.invalid_host",
            })?;
        let path = head.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.headers.insert(HOST, host);
        head.uri = Uri::from(path);
    }
    Ok(())
}

fn request_head(head: &request::Parts) -> RequestHead<'_> {
    let host = head.headers.get(HOST).and_then(|h| h.to_str().ok());
    RequestHead {
        method: &head.method,
        authority: host.unwrap_or_default(),
        path: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        scheme: "http",
        headers: &head.headers,
    }
}

impl Stream {
    /// A request begins.
    fn begin(connection: Rc<HttpConnection>, head: &mut request::Parts) -> Self {
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
            captured: chain.log.capture_request(head),
            http: Some(chain.series),
        };
        let mut outcome = Outcome::begin(&worker.recorder, begin);
        outcome.protocol = Some(head.version);
        // What is true unless an answer is given: the downstream went away.
        outcome.flags = Flags::DC;
        outcome.details = Cow::Borrowed("downstream_remote_disconnect");
        Self {
            connection,
            outcome,
        }
    }

    /// What a request tells the upstream about its way.
    fn edit_request(&self, head: &mut request::Parts) {
        let map = &mut head.headers;
        headers::strip_hop_by_hop(map);
        if self.connection.chain.use_remote_address {
            headers::append_forwarded_for(map, self.connection.downstream.0.ip());
        }
        if !map.contains_key(headers::X_FORWARDED_PROTO) {
            map.insert(headers::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
    }

    /// Give the answer: its head is completed and noted, its body made of what is left.
    pub(super) fn answer(
        mut self,
        response: Response<()>,
        body: impl FnOnce(Outcome, &HttpConnection) -> ResponseBody,
    ) -> Response<ResponseBody> {
        let (mut head, ()) = response.into_parts();
        let chain = &self.connection.chain;
        match chain.server_header {
            ServerHeader::PassThrough => {}
            ServerHeader::AppendIfAbsent if head.headers.contains_key(SERVER) => {}
            ServerHeader::Overwrite | ServerHeader::AppendIfAbsent => {
                head.headers.insert(SERVER, chain.server_name.clone());
            }
        }
        let closing = self.connection.tracked.kicked().is_some();
        if closing || self.connection.worker.process.drain.is_draining() {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let outcome = &mut self.outcome;
        outcome.flags.remove(Flags::DC);
        outcome.status = Some(head.status);
        if let Some(captured) = &mut outcome.captured {
            chain.log.capture_response(captured, &head.headers);
        }
        let body = body(self.outcome, &self.connection);
        Response::from_parts(head, body)
    }
}
