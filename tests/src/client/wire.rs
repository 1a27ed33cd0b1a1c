//! HTTP/1.1 on the wire, just enough for a client and a server that a test can trust: written
//! apart from the code under test, strict in what it accepts.

use std::io::{self, BufRead, Read};

const MAX_HEADERS: usize = 128;
const MAX_HEAD: usize = 1 << 20;

/// The first line and headers of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Method; empty in a response.
    pub method: String,
    /// Request target as written; empty in a response.
    pub target: String,
    /// Status code; 0 in a request.
    pub status: u16,
    /// Minor version: 0 or 1.
    pub minor_version: u8,
    /// Headers in order of arrival, names as spelled.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of the only header of that name; none if there is none or several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The values of all headers of that name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the sender will close the connection after this message (RFC 9112 section 9.3).
    pub fn wants_close(&self) -> bool {
        let has = |token: &str| {
            self.values("connection")
                .flat_map(|value| value.split(','))
                .any(|word| word.trim().eq_ignore_ascii_case(token))
        };
        has("close") || (self.minor_version == 0 && !has("keep-alive"))
    }
}

/// Reads a request's head.
///
/// # Errors
/// Not HTTP/1, or the stream ends within it.
pub fn read_request_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let bytes = read_head(reader)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&bytes).map_err(malformed)?;
    Ok(Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        status: 0,
        minor_version: parsed.version.unwrap_or_default(),
        headers: owned(parsed.headers),
    })
}

/// Reads a response's head.
///
/// # Errors
/// Not HTTP/1, or the stream ends within it.
pub fn read_response_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let bytes = read_head(reader)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(&bytes).map_err(malformed)?;
    Ok(Head {
        status: parsed.code.unwrap_or_default(),
        minor_version: parsed.version.unwrap_or_default(),
        headers: owned(parsed.headers),
        ..Head::default()
    })
}

/// Reads a request's body; there is none without a length or chunks.
///
/// # Errors
/// The body ends early or its framing is wrong.
pub fn read_request_body(reader: &mut impl BufRead, head: &Head) -> io::Result<Vec<u8>> {
    if head.values("transfer-encoding").next().is_some() {
        return read_chunks(reader);
    }
    match head.header("content-length") {
        Some(length) => read_length(reader, length),
        None => Ok(Vec::new()),
    }
}

/// Reads the body of the response to a request with that method; without a length or chunks it
/// lasts until the connection ends.
///
/// # Errors
/// The body ends early or its framing is wrong.
pub fn read_response_body(
    reader: &mut impl BufRead,
    head: &Head,
    method: &str,
) -> io::Result<Vec<u8>> {
    if method == "HEAD" || matches!(head.status, 100..200 | 204 | 304) {
        return Ok(Vec::new());
    }
    if head.values("transfer-encoding").next().is_some() {
        return read_chunks(reader);
    }
    match head.header("content-length") {
        Some(length) => read_length(reader, length),
        None => {
            let mut body = Vec::new();
            reader.read_to_end(&mut body)?;
            Ok(body)
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        reader.take(MAX_HEAD as u64).read_until(b'\n', &mut bytes)?;
        let line = &bytes[before..];
        if line == b"\r\n" && before > 0 {
            return Ok(bytes);
        }
        if !line.ends_with(b"\n") {
            let got = String::from_utf8_lossy(&bytes);
            return Err(broken(&format!(
                "the connection ended within a message's head: {got:?}"
            )));
        }
        if bytes.len() > MAX_HEAD {
            return Err(broken("a message's head is endless"));
        }
    }
}

fn read_length(reader: &mut impl BufRead, length: &str) -> io::Result<Vec<u8>> {
    let length: usize = length.parse().map_err(malformed)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(malformed)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        if size == 0 {
            break;
        }
        let mut end = [0; 2];
        reader.read_exact(&mut end)?;
        if &end != b"\r\n" {
            return Err(broken("a chunk is longer than it says"));
        }
    }
    // Trailers, up to the empty line.
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(broken("the connection ended within the trailers"));
        }
        if line == "\r\n" {
            return Ok(body);
        }
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|header| {
            (
                header.name.to_owned(),
                String::from_utf8_lossy(header.value).into_owned(),
            )
        })
        .collect()
}

fn malformed(error: impl std::fmt::Display) -> io::Error {
    broken(&format!("malformed HTTP: {error}"))
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_trailers_skipped() {
        let mut wire: &[u8] = b"4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nx-trailer: 1\r\n\r\nrest";
        assert_eq!(read_chunks(&mut wire).unwrap(), b"Wikipedia");
        assert_eq!(wire, b"rest");
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        let head = Head {
            headers: vec![("Content-Length".into(), "5".into())],
            ..Head::default()
        };
        let mut wire: &[u8] = b"four";
        assert!(read_request_body(&mut wire, &head).is_err());
        let mut wire: &[u8] = b"5\r\nfour";
        assert!(read_chunks(&mut wire).is_err());
    }

    #[test]
    fn a_head_keeps_the_spelling_and_order_of_its_headers() {
        let mut wire: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 2\r\nx-two: 3\r\n\r\n";
        let head = read_request_head(&mut wire).unwrap();
        assert_eq!(head.target, "/a?b=c");
        assert_eq!(head.headers[1], ("X-Two".to_owned(), "2".to_owned()));
        assert_eq!(head.header("host"), Some("x"));
        assert_eq!(head.header("x-two"), None, "ambiguous");
        assert_eq!(head.values("x-two").collect::<Vec<_>>(), ["2", "3"]);
    }
}
