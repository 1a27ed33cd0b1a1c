//! gRPC: what a proxy has to know of it to answer in its form.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

/// What gRPC calls itself.
pub const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
/// `grpc-status`.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `DEADLINE_EXCEEDED`.
pub const DEADLINE_EXCEEDED: u16 = 4;

/// `grpc-timeout`.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A time as `grpc-timeout` has it: at most eight digits and a unit.
pub fn timeout(time: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let millis = time.as_millis();
    let units = [(1, 'm'), (1_000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let fitting = units.iter().find(|(unit, _)| millis / unit <= MOST);
    let (unit, name) = fitting.unwrap_or(&(3_600_000, 'H'));
    let text = format!("{}{name}", (millis / unit).min(MOST));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("99999999H"))
}

/// Whether a request is of gRPC: `application/grpc`, with a suffix or without.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content.and_then(|content| content.strip_prefix(CONTENT.as_bytes()));
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// The status of gRPC that stands for one of HTTP (doc/http-grpc-status-mapping.md of gRPC).
pub fn status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// A message as `grpc-message` has it: what is not printable, and `%`, in percent-encoding.
pub fn message(text: &[u8]) -> Option<HeaderValue> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => encoded.push(*byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                encoded.push(b'%');
                encoded.extend(digits);
            }
        }
    }
    HeaderValue::from_bytes(&encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_at_most_eight_digits() {
        for (millis, text) in [
            (1, "1m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (99_999_999_999, "99999999S"),
            (100_000_000_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ] {
            let told = timeout(Duration::from_millis(millis));
            assert_eq!(told, text, "{millis}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (content, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=1", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let value = HeaderValue::from_static(content);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
            assert_eq!(is_grpc(&headers), expected, "{content}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_message_is_printable_whatever_it_says() {
        let said = message("50% of caf\u{e9}\n".as_bytes()).unwrap();
        assert_eq!(said, "50%25 of caf%C3%A9%0A");
    }
}
