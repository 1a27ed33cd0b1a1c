//! One HTTP/1.1 exchange as both ends of the bench know it: a request without a body, a response
//! with a fixed one.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};

/// Bytes of the response's body: a small JSON answer.
pub const BODY: usize = 512;

/// A request as a service in a mesh sends it.
pub fn request(authority: &str) -> Vec<u8> {
    format!(
        "GET /api/v1/reviews/42?full=1 HTTP/1.1\r\n\
         host: {authority}\r\n\
         user-agent: bench/1\r\n\
         accept: application/json\r\n\
         accept-encoding: identity\r\n\
         \r\n"
    )
    .into_bytes()
}

/// The upstream's only answer.
pub fn response() -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\n\
         content-type: application/json\r\n\
         cache-control: no-store\r\n\
         content-length: {BODY}\r\n\
         \r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + BODY, b'x');
    bytes
}

/// Whether `received` holds one whole response.
///
/// # Errors
/// When it is not a 200 with the expected body: a proxy that answers by itself would look cheap.
pub fn is_complete(received: &[u8]) -> Result<bool> {
    let Some(head_end) = memchr::memmem::find(received, b"\r\n\r\n") else {
        return Ok(false);
    };
    if !received.starts_with(b"HTTP/1.1 200 ") {
        let head = received.get(..head_end).unwrap_or(received);
        bail!("unexpected answer: {}", String::from_utf8_lossy(head));
    }
    let wanted = head_end + 4 + BODY;
    if received.len() > wanted {
        bail!(
            "{} bytes more than the expected body",
            received.len() - wanted
        );
    }
    Ok(received.len() == wanted)
}

/// Takes what has arrived of an answer, or waits for some of it where the stream is blocking; true
/// when it is whole.
///
/// # Errors
/// As [`is_complete`], or when the connection ends.
pub fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 8192];
    match stream.read(&mut buffer) {
        Ok(0) => bail!("the proxy closed the connection before it answered"),
        Ok(count) => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error).context("receiving an answer"),
    }
    is_complete(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_at_its_last_byte_and_not_before() {
        let whole = response();
        for end in 0..whole.len() {
            assert!(!is_complete(&whole[..end]).unwrap(), "at {end}");
        }
        assert!(is_complete(&whole).unwrap());
    }

    #[test]
    fn any_other_answer_is_an_error() {
        assert!(is_complete(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        let mut more = response();
        more.push(b'x');
        assert!(is_complete(&more).is_err());
    }
}
