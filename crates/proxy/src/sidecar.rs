//! The way of a connection through the sidecar, from top to bottom.

use crate::addr::Destination;
use crate::connection::Tracked;
use crate::http::connection_manager::{self, HttpConnection};
use crate::listener::accept::Accepted;
use crate::listener::filter_chain::ConnectionFacts;
use crate::listener::inspect::http::{Inspection, MAX_INSPECT_BYTES, inspect};
use crate::model::TransportProtocol;
use crate::network::tcp_proxy::{self, TcpConnection};
use crate::observe::flags::Flags;
use crate::observe::limited;
use crate::snapshot::{Listener, NetworkFilter};
use crate::transport::io::Io;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Serve an accepted connection. A panic ends this connection alone, and is counted.
pub(crate) async fn guarded(worker: Rc<Worker>, accepted_by: Arc<Listener>, accepted: Accepted) {
    let served = AssertUnwindSafe(connection(&worker, &accepted_by, accepted));
    if served.catch_unwind().await.is_err() {
        worker.stats.inc(worker.process.series.panics);
        limited::error(
            "panic",
            &"a connection ended by a defect of the proxy; please report it",
        );
    }
}

async fn connection(worker: &Rc<Worker>, accepted_by: &Arc<Listener>, accepted: Accepted) {
    let Accepted {
        mut stream,
        downstream,
        destination,
        place: _place,
    } = accepted;

    // Listener: that of the original destination, where connections are handed over.
    let listener = hand_over(worker, accepted_by, destination);
    let _counted = Counted::begin(worker, &listener);

    // Listener filters: what the connection says of itself.
    let port = destination.address.port();
    let inspected = inspect_protocol(worker, &listener, &mut stream, port).await;
    let Some(inspected) = inspected else { return };

    // Filter chain: chosen once, by what is known now.
    let facts = ConnectionFacts {
        destination_port: port,
        transport: TransportProtocol::RawBuffer,
        application_protocols: inspected.application_protocol.as_slice(),
    };
    let Some(chain) = listener.chains.find(&facts).map(Arc::clone) else {
        worker.stats.inc(listener.series.no_filter_chain_match);
        let mut outcome = worker.record(&listener.log, downstream, destination);
        outcome.flags |= Flags::NR;
        outcome.details = Cow::Borrowed("filter_chain_not_found");
        return;
    };

    // Network filter: HTTP or TCP, over a plaintext transport, until the connection ends.
    let prefix = inspected.prefix;
    let now = worker.clock.now();
    let worker = Rc::clone(worker);
    match &chain.filter {
        NetworkFilter::Http(http) => {
            let tracked = Tracked::new(now, http.idle_timeout, http.stream_idle_timeout);
            tracked.limit_heads(http.request_headers_timeout);
            let _tracking = worker.track(&tracked);
            let chain = Arc::clone(http);
            let io = Io::downstream(stream, prefix, Rc::clone(&tracked));
            let connection = HttpConnection {
                worker,
                chain,
                downstream,
                destination,
                tracked,
            };
            connection_manager::serve(io, Rc::new(connection)).await;
        }
        NetworkFilter::Tcp(tcp) => {
            let tracked = Tracked::new(now, tcp.idle_timeout, tcp.idle_timeout);
            tracked.set_in_request(true, now);
            let _tracking = worker.track(&tracked);
            let chain = Arc::clone(tcp);
            let connection = TcpConnection {
                worker,
                chain,
                downstream,
                destination,
                tracked,
            };
            tcp_proxy::serve(stream, prefix, connection).await;
        }
    }
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

/// What listener filters found, and the bytes they read for it.
struct Inspected {
    application_protocol: Option<&'static str>,
    prefix: Bytes,
}

/// Run the listener's inspectors; `None` where the connection ends here.
async fn inspect_protocol(
    worker: &Worker,
    listener: &Listener,
    stream: &mut TcpStream,
    port: u16,
) -> Option<Inspected> {
    // A port whose chains all disregard the protocol works for a server that speaks first.
    let matters = listener.chains.may_use_application_protocol(port);
    if !listener.http_inspector || !matters {
        return Some(Inspected {
            application_protocol: None,
            prefix: Bytes::new(),
        });
    }
    let mut read = BytesMut::new();
    let sniffing = sniff_http(stream, &mut read);
    let found = match listener.inspect_timeout {
        Some(timeout) => tokio::time::timeout(timeout, sniffing).await,
        None => Ok(sniffing.await),
    };
    worker.clock.tick();
    match found {
        Ok(Some(inspection)) => Some(Inspected {
            application_protocol: inspection.application_protocol(),
            prefix: read.freeze(),
        }),
        // The peer ended before it said anything that could be served.
        Ok(None) => None,
        Err(_elapsed) => {
            worker.stats.inc(listener.series.pre_cx_timeout);
            listener.continue_on_timeout.then(|| Inspected {
                application_protocol: None,
                prefix: read.freeze(),
            })
        }
    }
}

/// Read until it is clear whether this is HTTP; `None` = ended or failed without a byte.
async fn sniff_http(stream: &mut TcpStream, read: &mut BytesMut) -> Option<Inspection> {
    loop {
        read.reserve(1024);
        match stream.read_buf(read).await {
            Ok(0) if read.is_empty() => return None,
            // What was said is passed on, and that it ended.
            Ok(0) => return Some(Inspection::NotHttp),
            Err(_reset) => return None,
            Ok(_) => {}
        }
        match inspect(read) {
            Inspection::NeedMore if read.len() < MAX_INSPECT_BYTES => {}
            found => return Some(found),
        }
    }
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
