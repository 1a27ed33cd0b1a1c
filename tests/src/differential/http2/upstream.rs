//! An upstream of HTTP/2: answers the requests of one connection and notes what each was.

use std::future::poll_fn;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use serde::Deserialize;

use super::{end, headers, say};
use crate::differential::transcript::shown;
use crate::differential::wire::{Board, Noted, bytes_of, lock};

/// What a request is answered with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// `:status`, 200 where it is missing.
    status: Option<u16>,
    /// A `100` comes before the body of the request is read.
    #[serde(default)]
    go_on: bool,
    /// The answer is given before the body of the request is read.
    #[serde(default)]
    early: bool,
    /// Lines of `name: value` of a `103` that comes before.
    #[serde(default)]
    hints: Vec<String>,
    /// Lines of `name: value`.
    #[serde(default)]
    headers: Vec<String>,
    /// The body. To a CONNECT: the first bytes of the tunnel.
    #[serde(default)]
    body: String,
    /// Milliseconds before the answer.
    #[serde(default)]
    pause: u64,
    /// Milliseconds after the body, before the rest of it.
    #[serde(default)]
    rest: u64,
    /// The rest of the body.
    #[serde(default)]
    more: String,
    /// Lines of `name: value` behind the body.
    #[serde(default)]
    trailers: Vec<String>,
    /// The stream is reset in place of an answer, for this reason of RFC 9113 §7.
    reset: Option<u32>,
    /// To a CONNECT: what must have come before our side of the tunnel is ended.
    until: Option<String>,
}

/// Answers the requests of a connection, the last answer for all further ones, until it or the
/// scenario ends. What came is noted on the board, request by request.
///
/// # Errors
/// What is no HTTP/2.
pub fn serve(stream: TcpStream, port: u16, answers: &[Answer], board: &Arc<Board>) -> Result<()> {
    stream.set_nonblocking(true)?;
    let noted = board.note(port);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let handshake = server::Builder::new()
            .enable_connect_protocol()
            .handshake::<_, Bytes>(stream);
        tokio::select! {
            served = accept(handshake, answers, board, &noted) => served,
            () = board.ended() => Ok(()),
        }
    })
}

async fn accept(
    handshake: server::Handshake<tokio::net::TcpStream, Bytes>,
    answers: &[Answer],
    board: &Arc<Board>,
    noted: &Noted,
) -> Result<()> {
    let mut connection = handshake.await.context("an upstream's handshake")?;
    let mut number = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        board.touch();
        let answer = answers.get(number).or_else(|| answers.last()).cloned();
        let (board, noted) = (Arc::clone(board), Arc::clone(noted));
        let at = number;
        lock(&noted).push(Vec::new());
        tokio::task::spawn_local(async move {
            let note = |line: String| {
                board.touch();
                lock(&noted)[at].push(line);
            };
            let answered = answer_one(request, respond, answer.unwrap_or_default(), &note).await;
            if let Err(error) = answered {
                note(match error.downcast_ref::<h2::Error>() {
                    Some(error) => end(error),
                    None => format!("{error:#}"),
                });
            }
        });
        number += 1;
    }
    Ok(())
}

/// Lets milliseconds pass, unless something else happens first.
async fn passes<T>(millis: u64, other: impl Future<Output = T>) -> Option<T> {
    if millis == 0 {
        return None;
    }
    let time = Duration::from_millis(millis);
    tokio::time::timeout(time, other).await.ok()
}

/// Notes the body of a request.
async fn take_body(body: &mut RecvStream, note: &impl Fn(String)) -> Result<()> {
    let (bytes, trailers) = super::receive(body).await?;
    if !bytes.is_empty() {
        note(format!("body {}", shown(&bytes)));
    }
    let mut lines = Vec::new();
    say("trailer", &trailers.unwrap_or_default(), &mut lines);
    lines.into_iter().for_each(note);
    Ok(())
}

async fn answer_one(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: Answer,
    note: &impl Fn(String),
) -> Result<()> {
    let (head, mut body) = request.into_parts();
    note(format!("{} {}", head.method, head.uri));
    if let Some(protocol) = head.extensions.get::<Protocol>() {
        note(format!("protocol {}", protocol.as_str()));
    }
    let mut lines = Vec::new();
    say("header", &head.headers, &mut lines);
    lines.into_iter().for_each(note);
    if let Some(code) = answer.reset {
        respond.send_reset(Reason::from(code));
        return Ok(());
    }
    let is_tunnel = head.method == http::Method::CONNECT;
    if answer.go_on {
        let go_on = Response::builder().status(100).body(())?;
        respond.send_informational(go_on)?;
    }
    if !is_tunnel && !answer.early {
        take_body(&mut body, note).await?;
    }
    let gone = poll_fn(|cx| respond.poll_reset(cx));
    if let Some(reason) = passes(answer.pause, gone).await {
        note(format!("reset {:?}", reason?));
        return Ok(());
    }
    if !answer.hints.is_empty() {
        let mut hints = Response::builder().status(103).body(())?;
        *hints.headers_mut() = headers(&answer.hints)?;
        respond.send_informational(hints)?;
    }
    let mut response = Response::builder()
        .status(answer.status.unwrap_or(200))
        .body(())?;
    *response.headers_mut() = headers(&answer.headers)?;
    let grants = is_tunnel && response.status().is_success();
    let last = !grants && answer.trailers.is_empty();
    let whole = last && answer.more.is_empty();
    let bare = whole && !answer.early && answer.rest == 0 && answer.body.is_empty();
    let mut stream = respond.send_response(response, bare)?;
    if bare {
        return Ok(());
    }
    stream.send_data(bytes_of(&answer.body).into(), whole)?;
    let gone = poll_fn(|cx| stream.poll_reset(cx));
    if let Some(reason) = passes(answer.rest, gone).await {
        note(format!("reset {:?}", reason?));
        return Ok(());
    }
    if !answer.more.is_empty() {
        stream.send_data(bytes_of(&answer.more).into(), last)?;
    }
    if !grants {
        if !last {
            stream.send_trailers(headers(&answer.trailers)?)?;
        }
        if !is_tunnel && answer.early {
            take_body(&mut body, note).await?;
        }
        return Ok(());
    }
    let mut until = answer.until.as_deref().map(bytes_of);
    let mut came = Vec::new();
    let ended = loop {
        if until
            .as_ref()
            .is_some_and(|wanted| came.windows(wanted.len().max(1)).any(|seen| seen == wanted))
        {
            until = None;
            stream.send_data(Bytes::new(), true)?;
        }
        match body.data().await {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len())?;
                came.extend_from_slice(&data);
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    note(format!("tunnel {}", shown(&came)));
    ended?;
    if answer.until.is_none() {
        stream.send_data(Bytes::new(), true)?;
    }
    note("end".into());
    Ok(())
}
