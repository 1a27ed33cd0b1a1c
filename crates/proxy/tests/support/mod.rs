//! A proxy in this process, and peers that can misbehave on the wire.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses a part of it, and a test that cannot go on fails"
)]

pub mod http2;
pub mod tls;

use shunt_proxy::admin::readiness::Readiness;
use shunt_proxy::control::Control;
use shunt_proxy::model::{
    AccessLog, AccessLogSink, Balanced, BindConfig, CircuitBreakers, ClientCertDetails, Cluster,
    ClusterKind, Codec, DEFAULT_TEXT_FORMAT, DownstreamLimits, Endpoint, FilterChain,
    FilterChainMatch, ForwardClientCert, HeadOptions, HeaderCase, Http2Options,
    HttpConnectionManager, HttpFilter, IpRange, LbPolicy, Listener, ListenerSocket, NetworkFilter,
    PathMatch, PerTry, Resources, Route, RouteAction, RouteConfiguration, RouteForward, RouteMatch,
    RouteSource, RouteTarget, Secrets, ServerHeader, StreamIdle, TcpCluster, TcpProxy, Timeouts,
    TrafficDirection, UpstreamProtocol, VirtualHost,
};
use shunt_proxy::observe::stats::Registry;
use shunt_proxy::server::{Bound, Config, Ended, Running, StartError};
use shunt_proxy::worker::Process;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything in a test may take, on the slowest machine; nothing waits this long when all is
/// well.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const LISTENER: &str = "test";
pub const CLUSTER: &str = "backend";

/// A running proxy with one listener.
pub struct Proxy {
    pub address: SocketAddr,
    pub registry: Registry,
    /// What the workers share.
    pub process: Arc<Process>,
    /// Changes its configuration.
    pub control: Control,
    running: Option<Running>,
    log: tempfile::TempDir,
}

/// Where a test's access log goes, until the proxy knows.
pub struct Log {
    folder: tempfile::TempDir,
}

impl Log {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn config(&self) -> AccessLog {
        self.formatted(DEFAULT_TEXT_FORMAT)
    }

    pub fn formatted(&self, format: &str) -> AccessLog {
        AccessLog {
            sink: AccessLogSink::File(self.folder.path().join("access.log")),
            format: format.to_owned(),
        }
    }
}

impl Proxy {
    pub fn start(log: Log, filter: NetworkFilter, clusters: Vec<Cluster>) -> Self {
        Self::listen(log, listener(filter), clusters)
    }

    pub fn listen(log: Log, listener: Listener, clusters: Vec<Cluster>) -> Self {
        Self::serve(log, resources(vec![listener], clusters))
    }

    /// A proxy of these resources; its listener of the name [`LISTENER`] is where tests connect.
    pub fn serve(log: Log, resources: Resources) -> Self {
        let bound = bind(resources).unwrap();
        let address = bound.local_addr(LISTENER).unwrap();
        let process = Arc::clone(bound.process());
        let registry = process.registry.clone();
        let (running, control) = bound.run().unwrap();
        Self {
            address,
            registry,
            process,
            control,
            running: Some(running),
            log: log.folder,
        }
    }

    /// An HTTP proxy that sends everything to `upstreams`.
    pub fn http(upstreams: &[SocketAddr]) -> Self {
        Self::http_with(upstreams, |_, _| {})
    }

    pub fn http_with(
        upstreams: &[SocketAddr],
        edit: impl FnOnce(&mut HttpConnectionManager, &mut Cluster),
    ) -> Self {
        let log = Log::new();
        let mut hcm = hcm(vec![route("/", CLUSTER)], log.config());
        let mut cluster = cluster(CLUSTER, upstreams);
        edit(&mut hcm, &mut cluster);
        Self::start(log, NetworkFilter::Http(hcm), vec![cluster])
    }

    /// A TCP proxy to `upstream`.
    pub fn tcp(upstream: SocketAddr) -> Self {
        Self::tcp_with(&[upstream], |_| {})
    }

    pub fn tcp_with(upstreams: &[SocketAddr], edit: impl FnOnce(&mut TcpProxy)) -> Self {
        let log = Log::new();
        let mut tcp = TcpProxy {
            stat_prefix: "tcp".into(),
            cluster: TcpCluster::Cluster(CLUSTER.into()),
            idle_timeout: None,
            max_duration: None,
            max_connect_attempts: 1,
            hash_source: false,
            access_log: vec![log.config()],
        };
        edit(&mut tcp);
        Self::start(
            log,
            NetworkFilter::Tcp(tcp),
            vec![cluster(CLUSTER, upstreams)],
        )
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Records of the access log, when there are at least `n`.
    pub fn records(&self, n: usize) -> Vec<String> {
        let path: PathBuf = self.log.path().join("access.log");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // The last may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
            if lines.len() >= n {
                return lines;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {n} records: {lines:#?}",
                lines.len()
            );
            thread::yield_now();
        }
    }

    /// Wait until a counter or gauge has this value.
    pub fn wait_value(&self, family: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.registry.value(family, labels).unwrap_or(0) != value {
            assert!(
                Instant::now() < deadline,
                "{family} is {:?}, not {value}",
                self.registry.value(family, labels)
            );
            thread::yield_now();
        }
    }

    /// Begin to shut down; join the thread for how it ended.
    pub fn shut_down(&mut self) -> JoinHandle<Ended> {
        let running = self.running.take().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .unwrap()
                .block_on(running.shut_down(&Readiness::new()))
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.running.is_some() && !thread::panicking() {
            self.shut_down().join().unwrap();
        }
    }
}

/// How long connections of a replaced chain go on in these tests.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

pub fn bind(resources: Resources) -> Result<Bound, StartError> {
    Bound::bind(&Config {
        resources,
        workers: 1,
        drain_time: DRAIN_TIME,
    })
}

pub fn resources(listeners: Vec<Listener>, clusters: Vec<Cluster>) -> Resources {
    Resources {
        listeners: listeners.into_iter().map(Arc::new).collect(),
        clusters: clusters.into_iter().map(Arc::new).collect(),
        routes: Vec::new(),
        secrets: Secrets::default(),
    }
}

/// The routes of a connection manager that has them inline.
pub fn inline(hcm: &mut HttpConnectionManager) -> &mut RouteConfiguration {
    match &mut hcm.route_config {
        RouteSource::Inline(config) => config,
        RouteSource::Named(name) => panic!("its routes are elsewhere: {name}"),
    }
}

pub fn listener(filter: NetworkFilter) -> Listener {
    let matcher = FilterChainMatch::default();
    Listener {
        name: LISTENER.into(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        additional_addresses: vec![],
        bind_to_port: true,
        use_original_dst: false,
        listener_filters: vec![],
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        filter_chains: vec![FilterChain {
            name: "".into(),
            matcher,
            tls: None,
            handshake_timeout: None,
            filter,
        }],
        default_filter_chain: None,
        traffic_direction: TrafficDirection::Outbound,
        access_log: vec![],
        stat_prefix: None,
        socket: ListenerSocket::default(),
        keepalive: None,
    }
}

/// A listener with a chain for 127.0.0.1 and one for 127.0.0.2.
pub fn two_chains(first: NetworkFilter, second: NetworkFilter) -> Listener {
    let mut listener = listener(first);
    listener.address = (Ipv4Addr::UNSPECIFIED, 0).into();
    let of = |last: u8| {
        let address = Ipv4Addr::new(127, 0, 0, last).into();
        FilterChainMatch {
            prefix_ranges: vec![IpRange::new(address, 32).unwrap()],
            ..FilterChainMatch::default()
        }
    };
    listener.filter_chains[0].matcher = of(1);
    listener.filter_chains.push(FilterChain {
        name: "second".into(),
        matcher: of(2),
        tls: None,
        handshake_timeout: None,
        filter: second,
    });
    listener
}

pub fn hcm(routes: Vec<Route>, log: AccessLog) -> HttpConnectionManager {
    let virtual_host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes,
    };
    HttpConnectionManager {
        stat_prefix: "http".into(),
        route_config: RouteSource::Inline(RouteConfiguration {
            name: String::new(),
            virtual_hosts: vec![virtual_host],
            ignore_port_in_host_matching: false,
        }),
        http_filters: vec![HttpFilter::Router {
            suppress_envoy_headers: false,
        }],
        access_log: vec![log],
        codec: Codec::Auto,
        http10: None,
        http2: Http2Options::default(),
        max_request_headers: 60 * 1024,
        max_headers_count: 100,
        idle_timeout: None,
        stream_idle_timeout: None,
        limits: DownstreamLimits::default(),
        heads: HeadOptions::default(),
        request_headers_timeout: None,
        delayed_close_timeout: Some(Duration::from_secs(1)),
        upgrades: vec![],
        server_name: "envoy".into(),
        server_header: ServerHeader::Overwrite,
        generate_request_id: true,
        use_remote_address: false,
        forward_client_cert: ForwardClientCert::Sanitize,
        client_cert_details: ClientCertDetails::default(),
    }
}

pub fn route(prefix: &str, cluster: &str) -> Route {
    Route {
        name: "default".into(),
        matcher: RouteMatch {
            path: PathMatch::Prefix(prefix.to_owned()),
            case_sensitive: true,
            headers: vec![],
        },
        action: RouteAction::Forward(RouteForward {
            target: RouteTarget::Cluster(cluster.into()),
            timeouts: Timeouts::Response {
                timeout: None,
                grpc: None,
            },
            per_try: PerTry::default(),
            idle: StreamIdle::Inherited,
            cluster_not_found: http::StatusCode::SERVICE_UNAVAILABLE,
            upgrades: vec![],
            hash_policy: vec![],
        }),
    }
}

pub fn cluster(name: &str, upstreams: &[SocketAddr]) -> Cluster {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: *address,
        healthy: true,
        tls: None,
        balanced: Balanced::default(),
    };
    Cluster {
        name: name.into(),
        kind: ClusterKind::Static(upstreams.iter().map(endpoint).collect()),
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        bind: BindConfig::default(),
        circuit_breakers: CircuitBreakers::default(),
        protocol: UpstreamProtocol::Http1,
        http2: Http2Options::default(),
        idle_timeout: None,
        max_requests_per_connection: None,
        header_case: HeaderCase::Lower,
        max_connection_duration: None,
        max_headers_count: None,
        keepalive: None,
        tls: None,
    }
}

/// An address at which nobody listens; nobody else can, for as long as the test runs.
pub fn nobody() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Bound and without a listener, until the process ends.
    std::mem::forget(socket);
    address
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// An upstream: each accepted connection is handed to `serve`, on a thread of its own.
pub struct Upstream {
    pub address: SocketAddr,
}

impl Upstream {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        // The thread waits in accept until the test process ends.
        thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let serve = serve.clone();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address }
    }

    /// Answers each request with the same bytes, and passes on the requests it saw.
    pub fn http(response: &'static str) -> (Self, mpsc::Receiver<String>) {
        let (seen, requests) = mpsc::channel();
        let upstream = Self::start(move |mut stream| {
            while let Some(request) = read_message(&mut stream) {
                let _test_over = seen.send(request);
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        });
        (upstream, requests)
    }
}

/// The head of a message, and not a byte more.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// One HTTP message with its body, by content-length or chunked; `None` at the end of the stream.
pub fn read_message(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    if let Some((_, rest)) = head.split_once("\r\ncontent-length: ") {
        let length = rest.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        bytes.extend(body);
    } else if head.contains("\r\ntransfer-encoding: chunked") {
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return None,
            }
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// Send a request and read the answer to it.
pub fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    read_message(stream).expect("an answer")
}
