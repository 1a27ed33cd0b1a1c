//! The HTTP inspector (`envoy.filters.listener.http_inspector`): which HTTP version, if any, a
//! plaintext connection begins to speak.
//!
//! It reads the bytes that the listener has put into the connection's prefix buffer and leaves
//! them there; the chain's filter reads them again.

/// The most bytes looked at. A request line that is longer than this is taken for another
/// protocol (Envoy's `MAX_INSPECT_SIZE`, where Envoy closes the connection).
pub const MAX_INSPECT_BYTES: usize = 64 * 1024;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspection {
    /// These bytes could still become HTTP; ask again when there are more.
    NeedMore,
    /// An HTTP/1.0 request line.
    Http10,
    /// An HTTP/1.1 request line.
    Http11,
    /// The HTTP/2 preface, with prior knowledge.
    H2c,
    /// No HTTP, whatever follows.
    NotHttp,
}

impl Inspection {
    /// The name that filter chains match in `application_protocols`; `None` where there is none
    /// (yet).
    pub fn application_protocol(self) -> Option<&'static str> {
        match self {
            Self::Http10 => Some("http/1.0"),
            Self::Http11 => Some("http/1.1"),
            Self::H2c => Some("h2c"),
            Self::NeedMore | Self::NotHttp => None,
        }
    }
}

/// Inspect all bytes that a connection has sent so far.
///
/// The answer for a longer input is the same once it is not [`Inspection::NeedMore`], and a
/// connection that can no longer become HTTP is told apart at the first byte that shows it: its
/// chain must not wait for a line end that never comes. From [`MAX_INSPECT_BYTES`] on the answer is
/// never `NeedMore`.
pub fn inspect(received: &[u8]) -> Inspection {
    let received = &received[..received.len().min(MAX_INSPECT_BYTES)];
    if received.starts_with(HTTP2_PREFACE) {
        return Inspection::H2c;
    }
    if HTTP2_PREFACE.starts_with(received) {
        return Inspection::NeedMore;
    }
    // httparse skips empty lines before the request line, as RFC 9112 section 2.2 allows; Envoy's
    // inspector does not.
    if matches!(received.first(), Some(b'\r' | b'\n')) {
        return Inspection::NotHttp;
    }
    // Only the request line counts: a bad header is the codec's to answer.
    let line_end = memchr::memchr(b'\n', received);
    let line = line_end.map_or(received, |end| &received[..=end]);
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse(line);
    match (parsed, line_end, request.version) {
        (Ok(_), Some(_), Some(0)) => Inspection::Http10,
        (Ok(_), Some(_), Some(1)) => Inspection::Http11,
        (Ok(_), None, _) if received.len() < MAX_INSPECT_BYTES => Inspection::NeedMore,
        _ => Inspection::NotHttp,
    }
}

#[cfg(test)]
mod tests;
