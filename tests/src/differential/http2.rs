//! A client and an upstream of HTTP/2: make or answer the requests of a scenario and note what
//! comes.

mod upstream;

pub use upstream::{Answer, serve};

use std::future::poll_fn;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::transcript::shown;

/// How long an answer may take. Longer than any configured time.
const PATIENCE: Duration = Duration::from_secs(4);

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `:method`, `GET` where it is missing.
    #[serde(default = "get")]
    method: String,
    /// `:protocol` of an extended CONNECT.
    protocol: Option<String>,
    /// `:path`; a CONNECT without `:protocol` has none.
    #[serde(default)]
    path: String,
    /// `:authority`, `shop` where it is missing.
    #[serde(default = "shop")]
    authority: String,
    /// Lines of `name: value`.
    #[serde(default)]
    headers: Vec<String>,
    /// The body, in a frame of its own. Of a CONNECT: sent once that is granted.
    body: Option<String>,
    /// Of a CONNECT: what must have come before our side of the tunnel is ended.
    until: Option<String>,
    /// The body is sent once an interim response has come, and not where there is none.
    #[serde(default)]
    waits: bool,
    /// Lines of `name: value` behind the body.
    #[serde(default)]
    trailers: Vec<String>,
}

fn get() -> String {
    "GET".into()
}

fn shop() -> String {
    "shop".into()
}

/// Makes the requests one after the other.
///
/// # Errors
/// A request cannot be written down in HTTP/2.
pub fn play(stream: TcpStream, requests: &[Request]) -> Result<Vec<String>> {
    stream.set_nonblocking(true)?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let (client, connection) = client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let mut lines = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let who = format!("client 1 stream {}", number + 1);
            let mut answer = Vec::new();
            let exchanged = exchange(client.clone(), request, &mut answer);
            match tokio::time::timeout(PATIENCE, exchanged).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => answer.push(match error.downcast_ref::<h2::Error>() {
                    Some(error) => end(error),
                    None => return Err(error),
                }),
                Err(_elapsed) => answer.push("no end".into()),
            }
            lines.extend(answer.into_iter().map(|line| format!("{who}: {line}")));
        }
        drop(client);
        driver.abort();
        Ok(lines)
    })
}

fn end(error: &h2::Error) -> String {
    let reason = error.reason().map(|reason: Reason| format!("{reason:?}"));
    let reason = reason.unwrap_or_else(|| "for no reason".to_owned());
    let what = if error.is_go_away() {
        "go away"
    } else {
        "reset"
    };
    format!("{what} {reason}")
}

impl Request {
    fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    fn head(&self) -> Result<http::Request<()>> {
        let uri = if self.is_connect() && self.protocol.is_none() {
            self.authority.clone()
        } else {
            format!("http://{}{}", self.authority, self.path)
        };
        let mut head = http::Request::builder()
            .method(self.method.as_str())
            .uri(uri)
            .body(())
            .with_context(|| format!("{self:?}"))?;
        *head.headers_mut() = headers(&self.headers)?;
        if let Some(protocol) = &self.protocol {
            head.extensions_mut()
                .insert(Protocol::from(protocol.as_str()));
        }
        Ok(head)
    }
}

async fn exchange(
    client: SendRequest<Bytes>,
    request: &Request,
    lines: &mut Vec<String>,
) -> Result<()> {
    let head = request.head()?;
    let mut ready = client.ready().await?;
    let bare = !request.is_connect() && request.body.is_none() && request.trailers.is_empty();
    let (mut response, mut stream) = ready.send_request(head, bare)?;
    let sends = !request.waits || interim(&mut response, lines).await?;
    if let Some(body) = request.body.as_ref().filter(|_| !request.is_connect())
        && sends
    {
        let body = super::wire::bytes_of(body);
        stream.send_data(body.into(), request.trailers.is_empty())?;
    }
    if !request.trailers.is_empty() && sends {
        stream.send_trailers(headers(&request.trailers)?)?;
    }
    while interim(&mut response, lines).await? {}
    let (head, mut body) = response.await?.into_parts();
    lines.push(format!("status {}", head.status.as_u16()));
    say("header", &head.headers, lines);
    if request.is_connect() && head.status.is_success() {
        return tunnel(request, stream, body, lines).await;
    }
    let received = receive(&mut body).await;
    let (bytes, trailers) = received?;
    if !bytes.is_empty() {
        lines.push(format!("body {}", shown(&bytes)));
    }
    say("trailer", &trailers.unwrap_or_default(), lines);
    Ok(())
}

/// Waits for an interim response; false where the final one has come.
async fn interim(response: &mut ResponseFuture, lines: &mut Vec<String>) -> Result<bool> {
    let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await else {
        return Ok(false);
    };
    let interim = interim?;
    lines.push(format!("interim {}", interim.status().as_u16()));
    say("header", interim.headers(), lines);
    Ok(true)
}

/// Bytes both ways: ours, then what comes, then our end, then the other's.
async fn tunnel(
    request: &Request,
    mut stream: SendStream<Bytes>,
    mut body: RecvStream,
    lines: &mut Vec<String>,
) -> Result<()> {
    if let Some(bytes) = &request.body {
        stream.send_data(super::wire::bytes_of(bytes).into(), false)?;
    }
    let until = request.until.as_deref().map(super::wire::bytes_of);
    let mut until = until.filter(|until| !until.is_empty());
    let mut bytes = Vec::new();
    let ended = loop {
        if let Some(wanted) = &until
            && bytes.windows(wanted.len()).any(|seen| seen == wanted)
        {
            until = None;
            stream.send_data(Bytes::new(), true)?;
        }
        match body.data().await {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len())?;
                bytes.extend_from_slice(&data);
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    lines.push(format!("tunnel {}", shown(&bytes)));
    Ok(ended?)
}

async fn receive(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, stream.trailers().await?))
}

fn headers(lines: &[String]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").context("a line is `name: value`")?;
        map.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(map)
}

fn say(what: &str, map: &HeaderMap, lines: &mut Vec<String>) {
    let mut all: Vec<String> = map
        .iter()
        .map(|(name, value)| {
            format!(
                "{what} {name}: {}",
                String::from_utf8_lossy(value.as_bytes())
            )
        })
        .collect();
    all.sort();
    lines.extend(all);
}
