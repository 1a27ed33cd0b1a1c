//! The HTTP application: answers with what it saw, as JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Connection, Server, Sighting};
use crate::client::wire::{self, Head};
use crate::net::Pod;

/// One request as the application got it.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The connection on which it came.
    pub sighting: &'a Sighting,
    /// Its first line and headers, names as they were spelled on the wire.
    pub head: &'a Head,
    /// Its body, transfer encoding undone.
    pub body: &'a [u8],
}

/// What an application answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers besides `content-length`.
    pub headers: Vec<(String, String)>,
    /// The body, sent with a `content-length`.
    pub body: Vec<u8>,
}

impl Answer {
    /// `200` with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

impl Pod {
    /// Starts an HTTP/1.1 application that answers `200` with a JSON object: `server`, `peer`,
    /// `local`, `original` (where it was going before a redirect, or null), `method`, `path`,
    /// `headers` (pairs in order of arrival, as spelled) and `body_bytes`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn http_app(&self, name: &str, port: u16) -> Result<Server> {
        self.http_app_with(name, port, |exchange| {
            Answer::ok(describe(exchange).to_string())
        })
    }

    /// Starts an HTTP/1.1 application with answers of its own. It keeps connections alive unless
    /// the request says `connection: close`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn http_app_with(
        &self,
        name: &str,
        port: u16,
        answer: impl Fn(&Exchange<'_>) -> Answer + Send + Sync + 'static,
    ) -> Result<Server> {
        self.start(name, port, |shared| {
            let shared = Arc::clone(&shared);
            move |connection: &Connection| {
                converse(connection, |exchange| {
                    let answer = answer(exchange);
                    // Counted before it is sent, so that a client that has its answer finds it in
                    // the count.
                    shared.requests.fetch_add(1, Ordering::SeqCst);
                    answer
                })
            }
        })
    }
}

fn converse(connection: &Connection, answer: impl Fn(&Exchange<'_>) -> Answer) -> io::Result<()> {
    let mut writer = &*connection.stream;
    let mut reader = BufReader::new(&*connection.stream);
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        let head = wire::read_request_head(&mut reader)?;
        if head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = wire::read_request_body(&mut reader, &head)?;
        let answer = answer(&Exchange {
            sighting: &connection.sighting,
            head: &head,
            body: &body,
        });
        let close = head.wants_close();
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if close {
            bytes.push_str("connection: close\r\n");
        }
        bytes.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
        let mut bytes = bytes.into_bytes();
        if head.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        writer.write_all(&bytes)?;
        if close {
            return Ok(());
        }
    }
}

fn describe(exchange: &Exchange<'_>) -> Value {
    let Sighting {
        server,
        peer,
        local,
        original,
    } = exchange.sighting;
    json!({
        "server": server,
        "peer": peer.to_string(),
        "local": local.to_string(),
        "original": original.map(|address| address.to_string()),
        "method": exchange.head.method,
        "path": exchange.head.target,
        "headers": exchange.head.headers,
        "body_bytes": exchange.body.len(),
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
