//! Peers that speak HTTP/2: well-behaved ones, and one that writes any frame it likes.

use super::{CLUSTER, DEADLINE, Proxy, Upstream, connect};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, Request, Response, StatusCode};
use shunt_proxy::model::{Cluster, HttpConnectionManager, UpstreamProtocol};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// Run a test's client, for at most as long as anything may take.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let within = async { tokio::time::timeout(DEADLINE * 3, test).await };
    runtime().block_on(within).expect("the test takes too long")
}

fn runtime() -> LocalRuntime {
    let mut builder = Builder::new_current_thread();
    let local = builder.enable_all().build_local(LocalOptions::default());
    local.unwrap()
}

/// The label of the counters of the only cluster.
pub const OF_CLUSTER: [(&str, &str); 1] = [("envoy_cluster_name", CLUSTER)];
/// And that of the connection manager.
pub const OF_MANAGER: [(&str, &str); 1] = [("envoy_http_conn_manager_prefix", "http")];

/// A proxy that speaks HTTP/2 to its upstreams.
pub fn by_http2(upstreams: &[SocketAddr]) -> Proxy {
    by_http2_with(upstreams, |_, _| {})
}

pub fn by_http2_with(
    upstreams: &[SocketAddr],
    edit: impl FnOnce(&mut HttpConnectionManager, &mut Cluster),
) -> Proxy {
    Proxy::http_with(upstreams, |hcm, cluster| {
        cluster.protocol = UpstreamProtocol::Http2;
        edit(hcm, cluster);
    })
}

/// Wait until a counter has this value, while the test's own connections go on.
pub async fn reached(proxy: &Proxy, family: &str, labels: &[(&'static str, &str)], value: u64) {
    while proxy.registry.value(family, labels) != Some(value) {
        tokio::task::yield_now().await;
    }
}

/// Bytes of which no two neighbours are alike.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// A connection with prior knowledge.
pub async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    client_with(address, &mut client::Builder::new()).await
}

pub async fn client_with(address: SocketAddr, builder: &mut client::Builder) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ended = connection.await;
    });
    sender
}

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

pub fn get(path: &str) -> Request<()> {
    let uri = format!("http://shop{path}");
    Request::get(uri).body(()).unwrap()
}

pub fn post(path: &str) -> Request<()> {
    let uri = format!("http://shop{path}");
    Request::post(uri).body(()).unwrap()
}

/// Begin a request with a body.
pub async fn begin(
    client: &SendRequest<Bytes>,
    request: Request<()>,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut ready = client.clone().ready().await.unwrap();
    ready.send_request(request, false).unwrap()
}

/// A request without a body and its answer.
pub async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> Result<Answer, h2::Error> {
    let mut ready = client.clone().ready().await?;
    let (response, _) = ready.send_request(request, true)?;
    read(response).await
}

/// All of an answer.
pub async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let (body, trailers) = receive(&mut stream).await?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        trailers,
    })
}

/// All of a body.
pub async fn receive(stream: &mut RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok((body.into(), stream.trailers().await?))
}

/// Send a part of a body, once there is room for it.
pub async fn send(stream: &mut SendStream<Bytes>, data: impl Into<Bytes>, end: bool) {
    let mut data = data.into();
    loop {
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        while room == 0 && !data.is_empty() {
            room = poll_fn(|cx| stream.poll_capacity(cx))
                .await
                .unwrap()
                .unwrap();
        }
        let part = data.split_to(room.min(data.len()));
        let last = data.is_empty();
        stream.send_data(part, end && last).unwrap();
        if last {
            return;
        }
    }
}

/// An upstream that speaks HTTP/2: each request is handed to `serve`.
pub fn upstream<F: Future<Output = ()> + 'static>(
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + Clone + 'static,
) -> Upstream {
    upstream_with(server::Builder::new(), serve)
}

pub fn upstream_with<F: Future<Output = ()> + 'static>(
    builder: server::Builder,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + Clone + 'static,
) -> Upstream {
    Upstream::start(move |stream| {
        stream.set_nonblocking(true).unwrap();
        runtime().block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let Ok(mut connection) = builder.handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::task::spawn_local(serve(request, respond));
            }
        });
    })
}

/// Answer with a body.
pub fn answer(respond: &mut SendResponse<Bytes>, status: u16, body: impl Into<Bytes>) {
    let head = Response::builder().status(status).body(()).unwrap();
    if let Ok(mut stream) = respond.send_response(head, false) {
        let _gone = stream.send_data(body.into(), true);
    }
}

/// A frame as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Headers as literals that nobody remembers (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A length with a prefix of seven bits (RFC 7541 §5.1).
fn integer(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return bytes.push(u8::try_from(value).unwrap());
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
}

pub const SHOP: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "shop"),
    (":path", "/"),
];

/// A whole request without a body.
pub fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&SHOP))
}

/// A client that writes frames.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    /// Connect, and send the preface with these settings.
    pub fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = connect(address);
        let hello = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(SETTINGS, 0, 0, settings),
            &frame(SETTINGS, 1, 0, &[]),
        ];
        stream.write_all(&hello.concat()).unwrap();
        Self { stream }
    }

    /// Send; that nobody wants it any more is no matter.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` at the end.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
            Err(_ended) => None,
        }
    }

    /// The next frame of this kind, of this stream.
    pub fn await_frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.read().expect("a frame, not the end");
            if kind != PING {
                self.acknowledge(&frame);
            }
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    fn acknowledge(&mut self, frame: &Frame) {
        if frame.kind == PING && frame.flags == 0 {
            self.send(&self::frame(PING, 1, 0, &frame.payload));
        }
    }

    /// Read to the end; the code of the last GOAWAY.
    pub fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.read() {
            self.acknowledge(&frame);
            if frame.kind == GOAWAY {
                let last: [u8; 4] = frame.payload[4..8].try_into().unwrap();
                code = Some(u32::from_be_bytes(last));
            }
        }
        code
    }
}
