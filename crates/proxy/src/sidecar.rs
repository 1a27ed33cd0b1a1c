//! The way of a connection through the sidecar, from top to bottom.

use crate::addr::{Destination, Downstream, OrigDst, canonical};
use crate::connection::Tracked;
use crate::http::client_cert::ClientCert;
use crate::http::codec;
use crate::http::connection_manager::HttpConnection;
use crate::listener::accept::Accepted;
use crate::listener::filter_chain::ConnectionFacts;
use crate::listener::inspect::{self, Inspected, Refused};
use crate::network::tcp_proxy::{self, TcpConnection};
use crate::observe::flags::Flags;
use crate::observe::limited;
use crate::snapshot::{Chain, ChainTls, Listener, NetworkFilter};
use crate::transport::io::Io;
use crate::transport::stream::{Plain, Stream};
use crate::transport::tls::server::Secured;
use crate::transport::tls::{HandshakeError, TlsInfo};
use crate::worker::Worker;
use futures_util::FutureExt;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

/// Serve an accepted connection. A panic ends this connection alone, and is counted.
pub(crate) fn guarded(
    worker: Rc<Worker>,
    accepted_by: Arc<Listener>,
    accepted: Accepted,
) -> impl Future<Output = ()> {
    // Not an async function: that would hold everything twice for as long as the connection lives.
    let served = connection(Rc::clone(&worker), accepted_by, accepted);
    AssertUnwindSafe(served).catch_unwind().map(move |ended| {
        if ended.is_err() {
            worker.stats.inc(worker.process.series.panics);
            limited::error(
                "panic",
                &"a connection ended by a defect of the proxy; please report it",
            );
        }
    })
}

async fn connection(worker: Rc<Worker>, accepted_by: Arc<Listener>, accepted: Accepted) {
    let (worker, accepted_by) = (&worker, &accepted_by);
    let Accepted {
        mut stream,
        mut downstream,
        mut destination,
        place: _place,
    } = accepted;

    // Listener: that of the original destination, where connections are handed over.
    let listener = hand_over(worker, accepted_by, destination);
    let _counted = Counted::begin(worker, &listener);

    // Listener filters: what the connection says of itself.
    let port = destination.address.port();
    let inspected = match inspect::run(worker, &listener, &mut stream, port).await {
        Ok(inspected) => inspected,
        Err(why) => return refused(worker, &listener, downstream, destination, why),
    };
    let direct_source = downstream.0.ip();
    if let Some(named) = inspected.named {
        downstream = Downstream(canonical(named.source));
        destination.address = canonical(named.destination);
        destination.original = Some(OrigDst(destination.address));
    }

    // As whom it calls upstreams.
    let (client, port) = (downstream.0.ip(), destination.address.port());
    let client = listener.client(client, port);
    destination.client = client.or_else(|| accepted_by.client(downstream.0.ip(), port));

    // Filter chain: chosen once, by what is known now.
    let chain = choose(
        &listener,
        &inspected,
        direct_source,
        downstream,
        destination,
    );
    let passed = inspected
        .hello
        .map(|hello| Rc::new(TlsInfo::passed_through(hello.server_name)));
    let Some(chain) = chain else {
        worker.stats.inc(listener.series.no_filter_chain_match);
        let mut outcome = worker.record(&listener.log, downstream, destination);
        outcome.flags |= Flags::NR;
        outcome.details = Cow::Borrowed("filter_chain_not_found");
        outcome.tls = passed;
        return;
    };

    // Transport socket: plaintext, or TLS where the chain terminates it.
    let plain = Plain::new(stream, inspected.prefix);
    let (stream, tls) = match &chain.tls {
        None => (Stream::Plain(plain), passed),
        // Boxed: connections in plaintext do not hold the memory of a handshake.
        Some(tls) => match Box::pin(terminate(worker, tls, plain)).await {
            Ok(secured) => (secured.stream, Some(Rc::new(secured.info))),
            Err(reason) => {
                let log = match &chain.filter {
                    NetworkFilter::Tcp(tcp) => &tcp.log,
                    // It has a record for each request, and there was none.
                    NetworkFilter::Http(_) => &listener.log,
                };
                let mut outcome = worker.record(log, downstream, destination);
                outcome.tls = passed;
                outcome.connection_termination.clone_from(&reason);
                outcome.downstream_transport_failure = Some(Box::new(reason));
                return;
            }
        },
    };

    // Network filter: HTTP or TCP, until the connection ends.
    let now = worker.clock.now();
    let worker = Rc::clone(worker);
    match &chain.filter {
        NetworkFilter::Http(http) => {
            let tracked = Tracked::new(now, http.idle_timeout, http.stream_idle_timeout);
            tracked.limit_heads(http.request_headers_timeout);
            let limits = &http.limits;
            let patience = (!limits.http1_ends_with_answer).then_some(limits.drain_timeout);
            tracked.limit_life(now, limits.max_connection_duration, patience);
            let _tracking = worker.track(&tracked, &http.drain);
            let chain = Arc::clone(http);
            let io = Io::downstream(stream, Rc::clone(&tracked));
            let (forward, details) = (chain.forward_client_cert, chain.client_cert_details);
            let client_cert = ClientCert::of(forward, details, tls.as_deref());
            let connection = HttpConnection {
                worker,
                chain,
                downstream,
                destination,
                tracked,
                tls,
                client_cert,
                tunnel: RefCell::default(),
            };
            codec::serve(io, Rc::new(connection)).await;
        }
        NetworkFilter::Tcp(tcp) => {
            let tracked = Tracked::new(now, tcp.idle_timeout, tcp.idle_timeout);
            tracked.begin_request(now);
            tracked.limit_life(now, tcp.max_duration, None);
            let _tracking = worker.track(&tracked, &tcp.drain);
            let chain = Arc::clone(tcp);
            let connection = TcpConnection {
                worker,
                chain,
                downstream,
                destination,
                tracked,
                tls,
            };
            // Boxed: one of HTTP does not hold the memory of it.
            Box::pin(tcp_proxy::serve(stream, connection)).await;
        }
    }
}

/// The filter chain of a connection.
fn choose(
    listener: &Listener,
    inspected: &Inspected,
    direct_source: IpAddr,
    downstream: Downstream,
    destination: Destination,
) -> Option<Arc<Chain>> {
    let hello = inspected.hello.as_deref();
    let offered = hello.map(|hello| &hello.alpn[..]).unwrap_or_default();
    let offered = offered.iter().map(|name| &**name);
    let application_protocols: SmallVec<[&str; 4]> = offered.chain(inspected.http).collect();
    let facts = ConnectionFacts {
        destination: destination.address,
        server_name: hello.map_or("", |hello| &hello.server_name),
        transport: inspected.transport,
        application_protocols: &application_protocols,
        direct_source,
        source: downstream.0,
    };
    listener.chains.find(&facts).map(Arc::clone)
}

/// Shake hands with a client and count it.
async fn terminate(
    worker: &Worker,
    tls: &ChainTls,
    plain: Plain,
) -> Result<Secured, Cow<'static, str>> {
    let series = &tls.series;
    let context = tls.server.current();
    let handshake = context.tls.accept(plain);
    let shaken = match tls.timeout {
        Some(timeout) => tokio::time::timeout(timeout, handshake).await,
        None => Ok(handshake.await),
    };
    worker.clock.tick();
    let error = match shaken {
        Ok(Ok(secured)) => {
            worker.stats.inc(series.handshake);
            if secured.resumed {
                worker.stats.inc(series.session_reused);
            }
            if secured.info.peer.is_none() {
                worker.stats.inc(series.no_certificate);
            }
            return Ok(secured);
        }
        Ok(Err(error)) => error,
        Err(_elapsed) => {
            worker.stats.inc(series.connect_timeout);
            return Err(Cow::Borrowed("transport socket timeout was reached"));
        }
    };
    match &error {
        HandshakeError::NoCertificate => worker.stats.inc(series.fail_verify_no_cert),
        HandshakeError::Untrusted(_) => worker.stats.inc(series.fail_verify_error),
        HandshakeError::WrongName(_) => worker.stats.inc(series.fail_verify_san),
        HandshakeError::Protocol(_) => worker.stats.inc(series.connection_error),
        HandshakeError::Connection(_) => {}
    }
    limited::warn("downstream TLS", &error);
    Err(error.reason())
}

/// The listener that serves a connection: with `use_original_dst` the one that stands for its
/// original destination, where there is one.
fn hand_over(
    worker: &Worker,
    accepted_by: &Arc<Listener>,
    destination: Destination,
) -> Arc<Listener> {
    let original = destination
        .original
        .filter(|_| accepted_by.use_original_dst);
    let listeners = worker.process.store.listeners();
    let chosen = original.and_then(|original| listeners.for_original_dst(original.0));
    Arc::clone(chosen.unwrap_or(accepted_by))
}

/// The record of a connection that ended before its chain was chosen.
fn refused(
    worker: &Worker,
    listener: &Listener,
    downstream: Downstream,
    destination: Destination,
    why: Refused,
) {
    let (flags, details) = match why {
        Refused::Gone => return,
        Refused::Timeout => (Flags::empty(), "listener_filters_timeout"),
        Refused::ClientHelloTooLarge => (Flags::DPE, "client_hello_too_large"),
        Refused::ProxyProtocol(why) => (Flags::DPE, why),
    };
    let mut outcome = worker.record(&listener.log, downstream, destination);
    outcome.flags |= flags;
    outcome.connection_termination = Cow::Borrowed(details);
}

/// A connection, as its listener's counters see it.
struct Counted<'a> {
    worker: &'a Worker,
    listener: &'a Listener,
}

impl<'a> Counted<'a> {
    fn begin(worker: &'a Worker, listener: &'a Listener) -> Self {
        worker.stats.inc(listener.series.cx_total);
        worker.stats.gauge_add(listener.series.cx_active, 1);
        Self { worker, listener }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.worker
            .stats
            .gauge_add(self.listener.series.cx_active, -1);
        self.worker.stats.inc(self.listener.series.cx_destroy);
    }
}
