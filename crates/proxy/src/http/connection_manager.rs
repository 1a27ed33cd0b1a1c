//! The HTTP connection manager: one downstream connection, one request after another.

use crate::addr::Destination;
use crate::addr::Downstream;
use crate::connection::{InRequest, Tracked};
use crate::error::Failure;
use crate::http::answer::Answer;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::client_cert::ClientCert;
use crate::http::codec;
use crate::http::filters::router::Router;
use crate::http::grpc;
use crate::http::headers::{self, Peer};
use crate::http::normalize::normalize;
use crate::http::source::Source;
use crate::http::switch::Ask;
use crate::http::tunnel::{Granted, Tunnel};
use crate::http::upload::Upload;
use crate::model::{HttpFilter, ServerHeader};
use crate::observe::flags::Flags;
use crate::observe::outcome::{Begin, Outcome};
use crate::route::{Action, RequestHead};
use crate::snapshot::HttpChain;
use crate::transport::tls::TlsInfo;
use crate::worker::Worker;
use http::header::{CONNECTION, EXPECT, HOST, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Version, response};
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

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
    /// What it is to become once its codec has ended, where it switched protocols.
    pub tunnel: RefCell<Option<Box<Tunnel>>>,
}

impl HttpConnection {
    /// `:scheme` of its requests.
    pub(super) fn scheme(&self) -> &'static str {
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
    /// It is of gRPC, and is answered in its form.
    pub is_grpc: bool,
    /// What it asks for besides an answer.
    pub ask: Option<Ask>,
    /// Its id, where the answer is to tell it.
    request_id: Option<Box<HeaderValue>>,
    /// Its client wants the connection to end with the answer, by not saying otherwise.
    pub is_last: bool,
    /// Its timeout, and that it is served.
    pub served: InRequest,
}

/// Serve one request: check, edit, route, filter, answer.
pub(super) async fn handle(
    connection: Rc<HttpConnection>,
    served: InRequest,
    request: Request<Source>,
) -> Response<ResponseBody> {
    let (mut stream, mut request) = Stream::begin(connection, served, request);
    let unanswered = Unanswered(&mut stream);
    let answer = unanswered.0.serve(&mut request).await;
    drop(unanswered);
    stream.answer(answer.unwrap_or_else(Answer::Failure))
}

/// A request that is served. However that ends, its record tells how much of its body had come.
struct Unanswered<'a>(&'a mut Stream);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Stream {
            outcome, upload, ..
        } = &mut *self.0;
        if let Some(upload) = upload {
            outcome.bytes_received = upload.bytes.get();
        }
    }
}

/// What a request is routed by.
pub(super) fn request_head<'a>(
    request: &'a Request<RequestBody>,
    scheme: &'a str,
) -> RequestHead<'a> {
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    RequestHead {
        method: request.method(),
        authority: host.unwrap_or_default(),
        path: request
            .uri()
            .path_and_query()
            .map_or("", PathAndQuery::as_str),
        scheme,
        headers: request.headers(),
    }
}

/// Say who answers, as the configuration wants it.
fn name_server(chain: &HttpChain, headers: &mut HeaderMap) {
    match chain.server_header {
        ServerHeader::PassThrough => {}
        ServerHeader::AppendIfAbsent if headers.contains_key(SERVER) => {}
        ServerHeader::Overwrite | ServerHeader::AppendIfAbsent => {
            headers.insert(SERVER, chain.server_name.clone());
        }
    }
}

impl Stream {
    /// A request begins.
    fn begin(
        connection: Rc<HttpConnection>,
        served: InRequest,
        request: Request<Source>,
    ) -> (Self, Request<RequestBody>) {
        let (mut head, incoming) = request.into_parts();
        let worker = &connection.worker;
        let chain = &connection.chain;
        worker.stats.inc(chain.series.rq_total);
        worker.stats.gauge_add(chain.series.rq_active, 1);
        let forged = chain.use_remote_address && !chain.heads.keep_request_id;
        if chain.generate_request_id && (forged || headers::lacks_request_id(&head.headers)) {
            let id = worker.with_rng(headers::new_request_id);
            head.headers.insert(headers::X_REQUEST_ID, id);
        }
        let request_id = if chain.heads.answer_request_id {
            head.headers
                .get(headers::X_REQUEST_ID)
                .cloned()
                .map(Box::new)
        } else {
            None
        };
        let mut downstream_remote = connection.downstream.0;
        // Whom an earlier proxy has seen, for the record.
        if !chain.log.is_empty()
            && let Some(client) = headers::client(
                &head.headers,
                chain.use_remote_address,
                chain.heads.trusted_hops,
            )
        {
            downstream_remote = SocketAddr::new(client, 0);
        }
        let begin = Begin {
            downstream_remote,
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
        let is_grpc = grpc::is_grpc(&head.headers);
        let is_last = head.version < Version::HTTP_11 && !headers::keeps_alive(&head.headers);
        let (body, upload) = RequestBody::of(incoming, &served);
        (
            Self {
                connection,
                outcome,
                upload,
                is_grpc,
                ask: None,
                request_id,
                is_last,
                served,
            },
            Request::from_parts(head, body),
        )
    }

    /// From a request to what is answered.
    async fn serve(&mut self, request: &mut Request<RequestBody>) -> Result<Answer, Failure> {
        self.ask = match self.version() {
            Version::HTTP_2 => codec::http2::admit(request, self.connection.chain.head_limits)?,
            _ => codec::http1::admit(request, self.connection.chain.http10.as_ref())?,
        };
        let chain = Arc::clone(&self.connection.chain);
        if chain.rewrites_heads {
            let port = self.connection.destination.address.port();
            let redirect = normalize(request, &chain.heads, port);
            self.capture_again(request);
            if let Some(path) = redirect? {
                return Ok(Answer::Redirect(path));
            }
        }
        self.edit(request.headers_mut());

        // Route: the table of now, for the whole of this request.
        let table = self.connection.worker.route_table(&chain.routes);
        let route = table
            .as_ref()
            .and_then(|table| table.route(&request_head(request, self.connection.scheme())));
        let Some(route) = route else {
            self.connection.worker.stats.inc(chain.series.no_route);
            return Err(Failure::RouteNotFound);
        };
        self.outcome.route_name = self.outcome.name(&route.name);
        if let Some(ask) = &self.ask {
            let forward = match &route.action {
                Action::Forward(forward) => Some(forward),
                Action::DirectResponse(_) => None,
            };
            // A tunnel that is granted by nobody goes nowhere.
            let leads_nowhere = match &route.action {
                Action::DirectResponse(direct) => ask.is_granted(direct.status),
                Action::Forward(_) => false,
            };
            if leads_nowhere || !ask.is_allowed(&chain.upgrades, forward) {
                return Err(Failure::UpgradeFailed);
            }
        }

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

    /// The version of HTTP that the downstream speaks.
    pub fn version(&self) -> Version {
        self.outcome.protocol.unwrap_or(Version::HTTP_11)
    }

    /// The record tells of a head as it is routed.
    fn capture_again(&mut self, request: &mut Request<RequestBody>) {
        let whole = std::mem::replace(request, Request::new(RequestBody::Empty));
        let (head, body) = whole.into_parts();
        self.outcome.captured = self.connection.chain.log.capture_request(&head);
        *request = Request::from_parts(head, body);
    }

    /// What a request tells the upstream about its way.
    fn edit(&self, map: &mut HeaderMap) {
        let chain = &self.connection.chain;
        // What `connection` names is the client's, and this id is not.
        let id = map.get(headers::X_REQUEST_ID);
        let id = id.filter(|_| chain.generate_request_id && map.contains_key(CONNECTION));
        let id = id.cloned();
        headers::strip_hop_by_hop(map);
        if let Some(id) = id {
            map.entry(headers::X_REQUEST_ID).or_insert(id);
        }
        if let Some(ask) = &self.ask {
            ask.write(map);
        }
        // Answered here: the codec says 100 when the body is first asked for.
        if !chain.heads.proxy_continue && map.get(EXPECT).is_some_and(headers::is_continue) {
            map.remove(EXPECT);
        }
        self.connection.client_cert.apply(map);
        let scheme = HeaderValue::from_static(self.connection.scheme());
        headers::forget_control(map, chain.use_remote_address);
        if chain.use_remote_address {
            let heads = &chain.heads;
            let address = self.connection.downstream.0.ip();
            let pod = self.connection.worker.process.address;
            let known_as = pod.filter(|_| address.is_loopback()).unwrap_or(address);
            let known_as = (!heads.skip_forwarded_for).then_some(known_as);
            let peer = Peer { address, known_as };
            headers::begin_the_way(map, peer, heads.trusted_hops);
            let trusts = heads.trusted_hops > 0;
            if !trusts || !map.contains_key(headers::X_FORWARDED_PROTO) {
                map.insert(headers::X_FORWARDED_PROTO, scheme);
            }
            if heads.forwarded_port && (!trusts || !map.contains_key(headers::X_FORWARDED_PORT)) {
                let port = self.connection.destination.address.port();
                map.insert(headers::X_FORWARDED_PORT, port.into());
            }
        } else {
            map.entry(headers::X_FORWARDED_PROTO).or_insert(scheme);
        }
        if let Some(via) = &chain.heads.via {
            headers::append_via(map, via);
        }
    }

    /// Give the answer that grants what was asked for: bytes go both ways once it is sent.
    fn switch(mut self, mut head: response::Parts, granted: Granted) -> Response<ResponseBody> {
        let version = self.version();
        let outcome = &mut self.outcome;
        outcome.flags.remove(Flags::DC);
        outcome.details = Cow::Borrowed("via_upstream");
        match version {
            Version::HTTP_2 => codec::http2::complete(&mut head),
            _ => codec::http1::complete(&mut head, Version::HTTP_11, false),
        }
        outcome.status = Some(head.status);
        let chain = &self.connection.chain;
        name_server(chain, &mut head.headers);
        if let Some(captured) = &mut outcome.captured {
            chain.log.capture_response(captured, &head.headers);
        }
        let tunnel = Tunnel {
            granted,
            outcome: self.outcome,
            served: self.served,
            chain: Arc::clone(&chain.drain),
        };
        Response::from_parts(head, ResponseBody::switched(Box::new(tunnel)))
    }

    /// Give the answer: its head is completed and noted, its body takes the record along.
    fn answer(mut self, answer: Answer) -> Response<ResponseBody> {
        let version = self.version();
        let answer = match answer {
            Answer::Switched(head, granted) => return self.switch(head, granted),
            other => other,
        };
        let outcome = &mut self.outcome;
        outcome.flags.remove(Flags::DC);
        let tracked = &self.served.tracked;
        let mut closing = false;
        match &self.upload {
            // What the client has yet to send will not be waited for.
            Some(upload) if !upload.received.get() => {
                closing = true;
                tracked.leave_unread();
            }
            _ => tracked.forgive_idle(),
        }
        let overloaded = matches!(answer, Answer::Failure(Failure::Overflow));
        // Who went away in the middle of a request was answered nothing.
        let unheard = matches!(answer, Answer::Failure(Failure::DownstreamEnded));
        closing |= matches!(&answer, Answer::Failure(failure) if failure.closes());
        closing |= self.is_last;
        // A client that took no for an answer would already be sending for the other end.
        closing |= self.ask.as_ref().is_some_and(Ask::is_tunnel);
        let (mut head, body) = answer.into_head_and_body(outcome, self.upload, self.is_grpc);
        let chain = &self.connection.chain;
        name_server(chain, &mut head.headers);
        if let Some(via) = &chain.heads.via {
            headers::append_via(&mut head.headers, via);
        }
        if let Some(id) = self.request_id {
            head.headers.insert(headers::X_REQUEST_ID, *id);
        }
        if overloaded && !chain.suppresses_envoy_headers() {
            let overloaded = HeaderValue::from_static("true");
            head.headers.insert(headers::X_ENVOY_OVERLOADED, overloaded);
        }
        closing |= tracked.kicked().is_some() || chain.drain.has_begun();
        let most = chain.limits.max_requests_per_connection;
        closing |= most.is_some_and(|most| tracked.served() + 1 >= u64::from(most));
        closing |= self.connection.worker.process.drain.is_draining();
        if !unheard {
            outcome.status = Some(head.status);
        }
        // In HTTP/1.0 only the end of the connection can be that of a body without a length.
        closing |= version < Version::HTTP_11 && body.size_hint().exact().is_none();
        match version {
            Version::HTTP_2 => codec::http2::complete(&mut head),
            version => codec::http1::complete(&mut head, version, closing),
        }
        if let Some(captured) = &mut outcome.captured {
            chain.log.capture_response(captured, &head.headers);
        }
        let body = ResponseBody::new(body, self.outcome, self.served);
        Response::from_parts(head, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::io::Io;

    fn output_size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    fn serve(io: Io, connection: Rc<HttpConnection>, _: ()) -> impl Future {
        codec::serve(io, connection)
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
