//! HTTP/1.1 messages as they stood on the wire, read by a parser that was written apart from the
//! code under test and overlooks nothing.

use std::fmt;

/// What frames a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: there is no body.
    None,
    /// `content-length`.
    Length(usize),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// The end of the connection.
    UntilEnd,
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Length(length) => write!(f, "length {length}"),
            Self::Chunked => f.write_str("chunked"),
            Self::UntilEnd => f.write_str("until the end"),
        }
    }
}

/// What is read: the framing of a response depends on its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// The response to a request that is not `HEAD`.
    Response,
    /// The response to a `HEAD` request: never a body.
    ResponseToHead,
}

/// One message. Each character of its texts stands for one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub first_line: String,
    /// Names as spelled, values without surrounding blanks, in order.
    pub headers: Vec<(String, String)>,
    /// What frames its body.
    pub framing: Framing,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// Headers after the last chunk.
    pub trailers: Vec<(String, String)>,
    /// Whether all of it came.
    pub whole: bool,
    /// What a reader might understand in two ways.
    pub ambiguous: Vec<String>,
}

impl Message {
    /// The values of all headers of that name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.first_line.split(' ').nth(1)?.parse().ok()
    }

    /// Whether a response announces the end of its connection.
    pub fn announces_close(&self) -> bool {
        self.values("connection")
            .any(|value| value.eq_ignore_ascii_case("close"))
            || self.framing == Framing::UntilEnd
    }
}

/// Bytes as text, a character for each.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The length of a head that is there to its end, the empty line included.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Reads the first message in `bytes` and says how long it is; `None` where more is needed. Once
/// the stream has `ended`, what is there counts, as a message that is not whole.
pub fn read(bytes: &[u8], kind: Kind, ended: bool) -> Option<(Message, usize)> {
    let Some(length) = head_length(bytes) else {
        let cut = Message {
            first_line: latin(bytes),
            headers: Vec::new(),
            framing: Framing::None,
            body: Vec::new(),
            trailers: Vec::new(),
            whole: false,
            ambiguous: vec!["no end of its head".into()],
        };
        return (ended && !bytes.is_empty()).then_some((cut, bytes.len()));
    };
    let mut message = read_head(&bytes[..length], kind);
    let rest = &bytes[length..];
    let taken = match message.framing {
        Framing::None => Some(0),
        Framing::Length(expected) => {
            let taken = rest.len().min(expected);
            message.body = rest[..taken].to_vec();
            (taken == expected).then_some(taken)
        }
        Framing::UntilEnd => {
            message.body = rest.to_vec();
            ended.then_some(rest.len())
        }
        Framing::Chunked => read_chunks(rest, &mut message),
    };
    match taken {
        Some(taken) => Some((message, length + taken)),
        None if ended => {
            message.whole = false;
            Some((message, bytes.len()))
        }
        None => None,
    }
}

fn read_head(head: &[u8], kind: Kind) -> Message {
    let mut ambiguous = Vec::new();
    let text = latin(&head[..head.len() - 4]);
    let mut lines = text.split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let headers = read_headers(lines, &mut ambiguous);
    let mut message = Message {
        first_line,
        headers,
        framing: Framing::None,
        body: Vec::new(),
        trailers: Vec::new(),
        whole: true,
        ambiguous,
    };
    if text
        .chars()
        .any(|c| c.is_ascii_control() && !"\r\n\t".contains(c))
    {
        message.ambiguous.push("a control character".into());
    }
    if text.split("\r\n").any(|line| line.contains(['\r', '\n'])) {
        message.ambiguous.push("a bare CR or LF".into());
    }
    if kind == Kind::Request {
        let mut parts = message.first_line.split(' ');
        let version = (parts.nth(2), parts.next());
        if version != (Some("HTTP/1.1"), None) {
            message
                .ambiguous
                .push("a request line of other than three parts".into());
        }
        if message.values("host").count() != 1 {
            message.ambiguous.push("not one host".into());
        }
    }
    message.framing = framing(&mut message, kind);
    message
}

fn read_headers<'a>(
    lines: impl Iterator<Item = &'a str>,
    ambiguous: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) || !line.contains(':') {
            ambiguous.push(format!("no header: {line:?}"));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    headers
}

fn framing(message: &mut Message, kind: Kind) -> Framing {
    let codings: Vec<String> = message
        .values("transfer-encoding")
        .map(Into::into)
        .collect();
    let lengths: Vec<String> = message.values("content-length").map(Into::into).collect();
    if !codings.is_empty() && !lengths.is_empty() {
        message
            .ambiguous
            .push("a length beside a transfer coding".into());
    }
    if codings.len() + lengths.len() > 1 {
        message.ambiguous.push("framed more than once".into());
    }
    let bodiless = matches!(message.status(), Some(100..200 | 204 | 304));
    if kind == Kind::ResponseToHead || (kind == Kind::Response && bodiless) {
        return Framing::None;
    }
    if let Some(coding) = codings.last() {
        if coding == "chunked" {
            return Framing::Chunked;
        }
        message
            .ambiguous
            .push(format!("a transfer coding {coding:?}"));
    }
    match lengths.first() {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().unwrap_or(usize::MAX))
        }
        Some(length) => {
            message.ambiguous.push(format!("a length of {length:?}"));
            Framing::None
        }
        None if kind == Kind::Request => Framing::None,
        None => Framing::UntilEnd,
    }
}

/// Reads chunks and trailers; `None` where more is needed.
fn read_chunks(bytes: &[u8], message: &mut Message) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        let text = latin(line);
        let digits = text.split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            message.ambiguous.push(format!("a chunk size of {text:?}"));
            return Some(bytes.len());
        };
        if digits != text || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            message.ambiguous.push(format!("a chunk size of {text:?}"));
        }
        if size == 0 {
            break;
        }
        let data = &bytes[at..];
        message.body.extend(&data[..size.min(data.len())]);
        if data.len() < size + 2 {
            return None;
        }
        if &data[size..size + 2] != b"\r\n" {
            message
                .ambiguous
                .push("a chunk longer than its size".into());
            return Some(bytes.len());
        }
        at += size + 2;
    }
    let mut lines = Vec::new();
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            break;
        }
        lines.push(latin(line));
    }
    let lines = lines.iter().map(String::as_str);
    message.trailers = read_headers(lines, &mut message.ambiguous);
    Some(at)
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    Some(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Message {
        let wire = format!("{text}\r\n\r\n");
        read(wire.as_bytes(), Kind::Request, true).unwrap().0
    }

    #[test]
    fn a_plain_request_is_unambiguous() {
        let message = request("GET / HTTP/1.1\r\nhost: a\r\nx-y:  z ");
        assert_eq!(message.ambiguous, [""; 0]);
        assert_eq!(message.headers[1], ("x-y".to_owned(), "z".to_owned()));
        assert_eq!((message.framing, message.whole), (Framing::None, true));
    }

    #[test]
    fn what_two_readers_might_take_differently_is_ambiguous() {
        for bad in [
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b",
            "GET / HTTP/1.1",
            "GET  / HTTP/1.1\r\nhost: a",
            "GET / HTTP/1.0\r\nhost: a",
            "GET / HTTP/1.1\r\nhost: a\r\nx : y",
            "GET / HTTP/1.1\r\nhost: a\r\n folded",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\nb",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +0",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 0",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ntransfer-encoding: chunked",
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked",
        ] {
            assert!(!request(bad).ambiguous.is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        let wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            3\r\nabc\r\n1\r\nd\r\n0\r\nx-t: 1\r\n\r\nrest";
        let (message, length) = read(wire, Kind::Response, false).unwrap();
        assert_eq!(message.body, b"abcd");
        assert_eq!(message.trailers, [("x-t".to_owned(), "1".to_owned())]);
        assert_eq!(&wire[length..], b"rest");
        for cut in 0..length {
            assert_eq!(read(&wire[..cut], Kind::Response, false), None, "{cut}");
        }
        let (cut, _) = read(&wire[..length - 1], Kind::Response, true).unwrap();
        assert!(!cut.whole);
        let bad = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n";
        let (bad, _) = read(bad, Kind::Response, false).unwrap();
        assert_eq!(bad.ambiguous, ["a chunk longer than its size"]);
    }

    #[test]
    fn the_body_of_a_response_depends_on_its_request_and_status() {
        let wire = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(read(wire, Kind::Response, false).unwrap().1, wire.len());
        assert_eq!(
            read(wire, Kind::ResponseToHead, false).unwrap().1,
            wire.len() - 2
        );
        let open = b"HTTP/1.1 200 OK\r\n\r\nhi";
        assert_eq!(read(open, Kind::Response, false), None);
        assert_eq!(read(open, Kind::Response, true).unwrap().0.body, b"hi");
        let none = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(read(none, Kind::Response, false).unwrap().1, none.len());
    }
}
