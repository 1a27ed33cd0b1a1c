//! The rows between the bare forward and the sidecar, made of the proxy library's own pieces.
//!
//! Each layer does for a request what the data path does at that place; what is left out is what
//! the next rows add. The last step, to the sidecar itself, adds the timeouts, the drain and the
//! record of each request.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http::header::{HOST, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use shunt_proxy::addr::Destination;
use shunt_proxy::cluster::breaker::{Permit, Resource};
use shunt_proxy::cluster::manager::WorkerCluster;
use shunt_proxy::connection::Tracked;
use shunt_proxy::http::body::{Lease, RequestBody};
use shunt_proxy::http::headers;
use shunt_proxy::listener::filter_chain::ConnectionFacts;
use shunt_proxy::listener::inspect::http::{Inspection, inspect};
use shunt_proxy::model::TransportProtocol;
use shunt_proxy::route::{Action, RequestHead, Target};
use shunt_proxy::server::{Bound, Config};
use shunt_proxy::snapshot::{HttpChain, Listener, NetworkFilter};
use shunt_proxy::transport::io::Io;
use shunt_proxy::transport::stream::{Plain, Stream};
use shunt_proxy::upstream::pooled::Want;
use shunt_proxy::worker::Worker;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::configuration;
use super::hyper_forward::{BarePool, Returning};

/// How much of the data path a row has; each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// Inspector, filter chain, the replaying socket.
    Chain,
    /// Head edited, route table.
    Route,
    /// Weighted cluster, breaker, endpoint, the library's pool.
    Balance,
    /// Counters and histograms of the connection manager and the cluster.
    Statistics,
}

/// What every connection of the row has.
struct Shared {
    layer: Layer,
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    /// Until the library's pool takes over.
    bare: Rc<BarePool<RequestBody>>,
}

/// A connection, its chain chosen.
struct Connection {
    shared: Rc<Shared>,
    chain: Arc<HttpChain>,
    destination: Destination,
}

/// Serves on one thread until killed.
///
/// # Errors
/// When it cannot listen.
pub(super) fn run(layer: Layer, listen: SocketAddr, upstreams: &[SocketAddr]) -> Result<()> {
    let mut resources = configuration::resources(listen, upstreams)?;
    // This row accepts by itself.
    resources
        .listeners
        .iter_mut()
        .for_each(|listener| Arc::make_mut(listener).bind_to_port = false);
    let bound = Bound::bind(&Config {
        resources,
        workers: 1,
        drain_time: Duration::ZERO,
    })?;
    let process = Arc::clone(bound.process());
    let listeners = process.store.listeners();
    let shared = Rc::new(Shared {
        layer,
        listener: Arc::clone(listeners.all.first().context("no listener was compiled")?),
        bare: BarePool::to(*upstreams.first().context("no upstream given")?),
        worker: Worker::new(process, 0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("starting the runtime")?;
    runtime.block_on(async move {
        let socket = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        loop {
            let (stream, _) = socket.accept().await.context("accepting")?;
            stream.set_nodelay(true)?;
            let shared = Rc::clone(&shared);
            tokio::task::spawn_local(async move {
                if let Err(error) = connection(shared, stream).await {
                    eprintln!("downstream: {error:#}");
                }
            });
        }
    })
}

/// The listener's part: inspect, choose the chain, serve it.
async fn connection(shared: Rc<Shared>, mut stream: TcpStream) -> Result<()> {
    let (arrived_at, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let mut prefix = BytesMut::with_capacity(1024);
    let found = loop {
        if stream.read_buf(&mut prefix).await? == 0 {
            return Ok(());
        }
        match inspect(&prefix) {
            Inspection::NeedMore => {}
            found => break found,
        }
    };
    let protocol = found.application_protocol();
    let facts = ConnectionFacts {
        destination: arrived_at,
        server_name: "",
        transport: TransportProtocol::RawBuffer,
        application_protocols: protocol.as_slice(),
        direct_source: peer.ip(),
        source: peer,
    };
    let chain = shared
        .listener
        .chains
        .find(&facts)
        .context("no filter chain matches")?;
    let NetworkFilter::Http(chain) = &chain.filter else {
        bail!("not HTTP");
    };
    let connection = Rc::new(Connection {
        chain: Arc::clone(chain),
        destination: Destination {
            address: arrived_at,
            arrived_at,
            original: None,
            client: None,
        },
        shared,
    });
    let service = service_fn(move |request| serve(Rc::clone(&connection), request));
    let tracked = Tracked::new(Instant::now(), None, None);
    let stream = Stream::Plain(Plain::new(stream, prefix.freeze()));
    let io = Io::downstream(stream, tracked);
    hyper::server::conn::http1::Builder::new()
        .serve_connection(io, service)
        .await
        .context("serving")
}

/// One request, as far as the row goes.
async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Passing>> {
    let (mut head, body) = request.into_parts();
    if !body.is_end_stream() {
        bail!("the bench sends no bodies");
    }
    let Shared {
        layer,
        worker,
        bare,
        ..
    } = &*connection.shared;
    let begun = (*layer >= Layer::Statistics).then(|| Begun::request(&connection));
    if *layer < Layer::Route {
        let request = Request::from_parts(head, RequestBody::Empty);
        return Ok(Rc::clone(bare).send(request).await?.map(Passing::Bare));
    }
    let started = worker.clock.tick();
    edit(&mut head, worker);
    let table = worker
        .route_table(&connection.chain.routes)
        .context("no route table")?;
    let route = table
        .route(&request_head(&head))
        .context("no route matches")?;
    let Action::Forward(forward) = &route.action else {
        bail!("a route that does not forward");
    };
    let request = Request::from_parts(head, RequestBody::Empty);
    let mut response = if *layer < Layer::Balance {
        Rc::clone(bare).send(request).await?.map(Passing::Bare)
    } else {
        balanced(&connection, &forward.target, request, begun, started).await?
    };
    let elapsed = worker.clock.tick().saturating_duration_since(started);
    let map = response.headers_mut();
    headers::strip_hop_by_hop(map);
    map.insert(
        headers::X_ENVOY_UPSTREAM_SERVICE_TIME,
        headers::millis(elapsed).into(),
    );
    map.insert(SERVER, connection.chain.server_name.clone());
    Ok(response)
}

fn edit(head: &mut request::Parts, worker: &Worker) {
    let map = &mut head.headers;
    map.insert(
        headers::X_REQUEST_ID,
        worker.with_rng(headers::new_request_id),
    );
    headers::strip_hop_by_hop(map);
    map.insert(headers::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
}

fn request_head(head: &request::Parts) -> RequestHead<'_> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    RequestHead {
        method: &head.method,
        authority: host.unwrap_or_default(),
        path: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        scheme: "http",
        headers: &head.headers,
    }
}

/// Cluster, breaker, endpoint, connection, exchange.
async fn balanced(
    connection: &Connection,
    target: &Target,
    request: Request<RequestBody>,
    mut begun: Option<Begun>,
    started: Instant,
) -> Result<Response<Passing>> {
    let worker = &connection.shared.worker;
    let cluster = worker
        .cluster(target.choose(worker.random()))
        .context("no such cluster")?;
    let permit = cluster
        .config
        .breaker
        .take(Resource::Request)
        .context("too many requests")?;
    let failed = |failure| anyhow!("{failure:?}");
    let pool = cluster
        .pick(worker, connection.destination, None)
        .map_err(failed)?
        .pool;
    let mut upstream = pool.checkout(worker, Want::Any).await.map_err(failed)?;
    if let Some(begun) = &mut begun {
        begun.sent(&cluster);
    }
    let response = upstream
        .sender
        .try_send_request(request)
        .await
        .map_err(hyper::client::conn::TrySendError::into_error)?;
    if begun.is_some() {
        let elapsed = worker.clock.tick().saturating_duration_since(started);
        cluster.count_status(worker, response.status());
        worker
            .stats
            .record(cluster.config.series.rq_time, headers::millis(elapsed));
    }
    let lease = Lease::Http1 {
        connection: upstream,
        pool,
    };
    Ok(response.map(|body| {
        Passing::Pooled(Pooled {
            body,
            lease: Some(lease),
            worker: Rc::clone(worker),
            _permit: permit,
            _begun: begun,
        })
    }))
}

/// A request in flight, counted at both ends.
struct Begun {
    worker: Rc<Worker>,
    chain: Arc<HttpChain>,
    cluster: Option<Rc<WorkerCluster>>,
    start: Instant,
}

impl Begun {
    fn request(connection: &Connection) -> Self {
        let worker = Rc::clone(&connection.shared.worker);
        let chain = Arc::clone(&connection.chain);
        worker.stats.inc(chain.series.rq_total);
        worker.stats.gauge_add(chain.series.rq_active, 1);
        Self {
            start: worker.clock.now(),
            worker,
            chain,
            cluster: None,
        }
    }

    fn sent(&mut self, cluster: &Rc<WorkerCluster>) {
        self.worker
            .stats
            .gauge_add(cluster.config.series.rq_active, 1);
        self.worker.stats.inc(cluster.config.series.rq_total);
        self.cluster = Some(Rc::clone(cluster));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let stats = &self.worker.stats;
        if let Some(cluster) = &self.cluster {
            stats.gauge_add(cluster.config.series.rq_active, -1);
        }
        let series = &self.chain.series;
        stats.gauge_add(series.rq_active, -1);
        // Whatever else was answered, the load refuses it.
        stats.inc(series.rq_2xx);
        let elapsed = self
            .worker
            .clock
            .now()
            .saturating_duration_since(self.start);
        stats.record(series.rq_time, headers::millis(elapsed));
    }
}

/// A response body on its way downstream.
enum Passing {
    Bare(Returning<RequestBody>),
    Pooled(Pooled),
}

/// One that comes from the library's pool.
struct Pooled {
    body: Incoming,
    lease: Option<Lease>,
    worker: Rc<Worker>,
    _permit: Permit,
    _begun: Option<Begun>,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let pooled = match self.get_mut() {
            Self::Bare(bare) => return Pin::new(bare).poll_frame(context),
            Self::Pooled(pooled) => pooled,
        };
        let polled = Pin::new(&mut pooled.body).poll_frame(context);
        if pooled.body.is_end_stream()
            && let Some(Lease::Http1 { connection, pool }) = pooled.lease.take()
        {
            pool.put(connection, pooled.worker.clock.now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bare(bare) => bare.is_end_stream(),
            Self::Pooled(pooled) => pooled.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bare(bare) => bare.size_hint(),
            Self::Pooled(pooled) => pooled.body.size_hint(),
        }
    }
}
