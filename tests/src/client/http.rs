//! A blocking HTTP/1.1 client that holds one connection and shows exactly what came back.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use serde_json::Value;

use super::wire::{self, Head};
use crate::net::AsUser;

/// One connection to an HTTP server.
#[derive(Debug)]
pub struct HttpClient {
    stream: BufReader<TcpStream>,
    authority: String,
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A response that has arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: Head,
    /// Body, transfer encoding undone.
    pub body: Vec<u8>,
}

impl Request {
    /// A `GET`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` with a body, sent with its length.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: Some(body.into()),
            ..Self::new("POST", target)
        }
    }

    /// Any other method.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header. A `host` replaces the one the client would send.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl HttpClient {
    /// Speaks over a stream; `authority` is the `host` header unless a request has its own.
    pub fn over(stream: TcpStream, authority: &str) -> Self {
        Self {
            stream: BufReader::new(stream),
            authority: authority.to_owned(),
        }
    }

    /// Sends a request and reads the answer. The connection serves further requests unless either
    /// side said that it will close.
    ///
    /// # Errors
    /// The connection broke or timed out, or the answer is not HTTP/1.1.
    pub fn send(&mut self, request: &Request) -> Result<Response> {
        self.begin(request)?;
        self.finish(request)
    }

    /// Sends a request without waiting for the answer.
    ///
    /// # Errors
    /// The connection broke or timed out.
    pub fn begin(&mut self, request: &Request) -> Result<()> {
        let Request {
            method,
            target,
            headers,
            body,
        } = request;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            bytes.push_str(&format!("host: {}\r\n", self.authority));
        }
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            bytes.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body.as_deref().unwrap_or_default());
        self.send_raw(&bytes)
            .with_context(|| format!("sending {method} {target}"))
    }

    /// Reads the answer to a request sent by [`HttpClient::begin`].
    ///
    /// # Errors
    /// As for [`HttpClient::send`].
    pub fn finish(&mut self, request: &Request) -> Result<Response> {
        let Request { method, target, .. } = request;
        let read = || -> std::io::Result<Response> {
            let head = wire::read_response_head(&mut self.stream)?;
            let body = wire::read_response_body(&mut self.stream, &head, method)?;
            Ok(Response {
                status: head.status,
                head,
                body,
            })
        };
        let mut read = read;
        read().with_context(|| format!("reading the answer to {method} {target}"))
    }

    /// Writes bytes as they are, right or wrong.
    ///
    /// # Errors
    /// The connection broke or timed out.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .context("writing to the connection")
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Response {
    /// The value of the only header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, as [`crate::net::Pod::http_app`] sends it.
    ///
    /// # Errors
    /// The body is something else.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "the body of a {} is not JSON: {:?}",
                self.status,
                self.text()
            )
        })
    }

    /// The name of the server that answered, from the JSON of [`crate::net::Pod::http_app`].
    ///
    /// # Errors
    /// The answer came from somewhere else.
    pub fn server(&self) -> Result<String> {
        let json = self.json()?;
        let server = json["server"]
            .as_str()
            .with_context(|| format!("{json} names no server"))?;
        Ok(server.to_owned())
    }

    /// The headers with which the request reached the application: lower-case names, in order.
    ///
    /// # Errors
    /// The answer did not come from [`crate::net::Pod::http_app`].
    pub fn request_headers(&self) -> Result<Vec<(String, String)>> {
        let json = self.json()?;
        let headers: Vec<(String, String)> = serde_json::from_value(json["headers"].clone())
            .with_context(|| format!("{json} tells no headers"))?;
        Ok(headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect())
    }
}

impl AsUser<'_> {
    /// Opens a connection for HTTP requests.
    ///
    /// # Errors
    /// As for [`AsUser::connect`].
    pub fn http(&self, to: SocketAddr) -> Result<HttpClient> {
        Ok(HttpClient::over(self.connect(to)?, &to.to_string()))
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    /// As for [`AsUser::connect`] and [`HttpClient::send`].
    pub fn request(&self, to: SocketAddr, request: &Request) -> Result<Response> {
        self.http(to)?.send(request)
    }

    /// `GET` on a connection of its own.
    ///
    /// # Errors
    /// As for [`AsUser::request`].
    pub fn get(&self, to: SocketAddr, target: &str) -> Result<Response> {
        self.request(to, &Request::get(target))
    }
}
