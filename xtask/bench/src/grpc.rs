//! Unary gRPC over HTTP/2: the load in a closed loop of many streams on few connections, and the
//! upstream that answers it. Both on the one core of the load, in one thread each.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, client, server};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::exchange::BODY;
use crate::outcome::{Timing, Window};
use crate::target::Target;

/// Arguments of the load.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Streams at a time on each
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Milliseconds measured
    #[arg(long, default_value_t = 2000)]
    measure: u64,
    #[command(flatten)]
    timing: Timing,
}

/// Arguments of the upstream.
#[derive(clap::Args)]
pub struct UpstreamArgs {
    /// Where to listen
    #[arg(required = true)]
    listen: Vec<SocketAddr>,
}

/// Bytes of a request's message.
const MESSAGE: usize = 64;

/// A message with gRPC's prefix: not compressed, and its length.
fn message(length: usize) -> Result<Bytes> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(length)?.to_be_bytes());
    bytes.resize(bytes.len() + length, b'x');
    Ok(bytes.into())
}

/// One thread that runs all tasks.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    LocalSet::new().block_on(&runtime, work)
}

/// Sends, measures, prints the outcome.
///
/// # Errors
/// On any answer but the expected one.
pub fn run(args: &Args) -> Result<()> {
    args.target.take_identity()?;
    block_on(async {
        let mut senders = Vec::with_capacity(args.connections);
        for _ in 0..args.connections {
            senders.push(open(args.target.to).await?);
        }
        let load = Rc::new(Load {
            uri: format!("http://{}/reviews.Reviews/Get", args.target.authority),
            message: message(MESSAGE)?,
        });
        load.exchange_for(args.timing.warm_up, args.streams, &senders)
            .await?;
        let window = Window::open(&args.timing)?;
        let latencies = load
            .exchange_for(args.measure, args.streams, &senders)
            .await?;
        window.close(latencies)
    })
}

async fn open(to: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::handshake(stream).await.context("opening HTTP/2")?;
    // How a connection ends is seen by its streams.
    tokio::task::spawn_local(async { connection.await.ok() });
    Ok(sender)
}

struct Load {
    uri: String,
    message: Bytes,
}

impl Load {
    /// Keeps every stream busy for some milliseconds; gives the time each exchange took.
    async fn exchange_for(
        self: &Rc<Self>,
        milliseconds: u64,
        streams: usize,
        senders: &[SendRequest<Bytes>],
    ) -> Result<Vec<Duration>> {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        let mut lanes = JoinSet::new();
        for sender in senders
            .iter()
            .flat_map(|sender| std::iter::repeat_n(sender, streams))
        {
            let (load, sender) = (Rc::clone(self), sender.clone());
            lanes.spawn_local(async move { load.lane(sender, end).await });
        }
        let mut latencies = Vec::with_capacity(1 << 18);
        while let Some(lane) = lanes.join_next().await {
            latencies.extend(lane.context("a lane panicked")??);
        }
        Ok(latencies)
    }

    async fn lane(&self, mut sender: SendRequest<Bytes>, end: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            sender = sender.ready().await.context("waiting for a stream")?;
            self.call(&mut sender).await?;
            latencies.push(start.elapsed());
        }
        Ok(latencies)
    }

    async fn call(&self, sender: &mut SendRequest<Bytes>) -> Result<()> {
        let request = Request::post(&self.uri)
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "bench/1")
            .header("grpc-accept-encoding", "identity")
            .body(())?;
        let (answer, mut body) = sender.send_request(request, false)?;
        body.send_data(self.message.clone(), true)?;
        let answer = answer.await.context("waiting for an answer")?;
        if answer.status() != 200 {
            bail!("unexpected answer: {}", answer.status());
        }
        let mut body = answer.into_body();
        let length = read(&mut body).await?;
        let trailers = body.trailers().await.context("reading trailers")?;
        let status = trailers
            .as_ref()
            .and_then(|trailers| trailers.get("grpc-status"));
        if length != 5 + BODY || status.is_none_or(|status| status != "0") {
            bail!("{length} bytes with status {status:?} instead of the expected answer");
        }
        Ok(())
    }
}

/// Reads a body to its end; gives its length.
async fn read(body: &mut RecvStream) -> Result<usize> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.context("reading a message")?;
        body.flow_control().release_capacity(data.len())?;
        length += data.len();
    }
    Ok(length)
}

/// Serves until killed.
///
/// # Errors
/// When it cannot listen.
pub fn upstream(args: &UpstreamArgs) -> Result<()> {
    block_on(async {
        let answer = message(BODY)?;
        let mut listeners = JoinSet::new();
        for address in &args.listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address}"))?;
            listeners.spawn_local(accept(listener, answer.clone()));
        }
        while let Some(ended) = listeners.join_next().await {
            ended.context("a listener panicked")??;
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener, answer: Bytes) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        // A connection that fails is seen by whoever asked.
        tokio::task::spawn_local(async { serve(stream, answer).await.ok() });
    }
}

async fn serve(stream: TcpStream, answer: Bytes) -> Result<()> {
    let mut connection = server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let answer = answer.clone();
        tokio::task::spawn_local(async { respond_to(request, respond, answer).await.ok() });
    }
    Ok(())
}

async fn respond_to(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: Bytes,
) -> Result<()> {
    read(&mut request.into_body()).await?;
    let head = Response::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .body(())?;
    let mut body = respond.send_response(head, false)?;
    body.send_data(answer, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)?;
    Ok(())
}
