//! Applications that speak gRPC's dialect of HTTP/2, and TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use shunt_tests::prelude::*;
use shunt_tests::server::Connection;

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()
}

/// Answers each call with its message, the name of this server, the headers that it saw as JSON,
/// and trailers.
pub(crate) fn grpc_server(pod: &Pod, name: &'static str, port: u16) -> Result<Server> {
    pod.tcp_server(name, port, move |connection| {
        connection.stream.set_nonblocking(true)?;
        let stream = connection.stream.try_clone()?;
        runtime()?.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let handshake = h2::server::handshake(stream).await;
            let mut connection = handshake.map_err(io::Error::other)?;
            while let Some(call) = connection.accept().await {
                let (request, respond) = call.map_err(io::Error::other)?;
                tokio::spawn(answer(name, request, respond));
            }
            Ok(())
        })
    })
}

async fn answer(
    name: &'static str,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let headers = head.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let seen = serde_json::to_string(&headers).unwrap_or_default();
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("x-server", name)
        .header("x-seen", seen)
        .body(())
        .unwrap_or_default();
    let mut stream = respond.send_response(response, false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        stream.send_data(data, false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// What came back of a call.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) server: String,
    pub(crate) message: Vec<u8>,
    /// Headers as they reached the server.
    pub(crate) seen: Vec<(String, String)>,
    pub(crate) trailers: HeaderMap,
}

/// One call on a connection of its own.
pub(crate) fn grpc_call(
    stream: TcpStream,
    authority: &str,
    message: &'static [u8],
) -> Result<Reply> {
    stream.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let (client, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let request = Request::post(format!("http://{authority}/reviews.Reviews/Get"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let exchange = async {
            let (response, mut stream) = client.ready().await?.send_request(request, false)?;
            stream.send_data(Bytes::from_static(message), true)?;
            let (head, mut body) = response.await?.into_parts();
            ensure!(head.status == 200, "{head:?}");
            let header = |name: &str| -> Result<String> {
                let value = head
                    .headers
                    .get(name)
                    .with_context(|| format!("{head:?}"))?;
                Ok(value.to_str()?.to_owned())
            };
            let mut message = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                message.extend_from_slice(&data);
            }
            Ok(Reply {
                server: header("x-server")?,
                message,
                seen: serde_json::from_str(&header("x-seen")?)?,
                trailers: body.trailers().await?.unwrap_or_default(),
            })
        };
        let reply = tokio::time::timeout(DEADLINE, exchange).await?;
        driver.abort();
        reply
    })
}

/// Terminates TLS and answers HTTP/1.1 requests with the server name that the client asked for, and
/// the `host` header.
pub(crate) fn tls_server(
    pod: &Pod,
    name: &str,
    port: u16,
    config: Arc<ServerConfig>,
) -> Result<Server> {
    pod.tcp_server(name, port, move |connection: &Connection| {
        let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let stream = connection.stream.try_clone()?;
        let mut stream = BufReader::new(StreamOwned::new(session, stream));
        loop {
            let mut host = String::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some(value) = line.strip_prefix("host: ") {
                    host = value.trim().to_owned();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let stream = stream.get_mut();
            let asked = stream.conn.server_name().unwrap_or("-").to_owned();
            let body = format!("{asked} {host}");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )?;
            stream.flush()?;
        }
    })
}

/// One request by TLS of the client's own; the first line and the body of the answer.
pub(crate) fn tls_get(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<String> {
    let session = ClientConnection::new(config, name.to_owned().try_into()?)?;
    let mut stream = StreamOwned::new(session, stream);
    write!(stream, "GET / HTTP/1.1\r\nhost: {name}\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "no answer");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}
