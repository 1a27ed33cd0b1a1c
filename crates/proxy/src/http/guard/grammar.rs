//! Request lines, headers and chunk sizes, one by one (RFC 9112 and 9110, read strictly).

use super::Refusal;

/// `method SP target SP HTTP/1.x` (RFC 9112 §3); whether it is HTTP/1.0.
pub(super) fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
        return Err(Refusal::Malformed);
    };
    let version = parts.next();
    if !METHODS.contains(&method) || !is_target(target, method) {
        return Err(Refusal::Malformed);
    }
    match version {
        Some(b"HTTP/1.1") => Ok(false),
        Some(b"HTTP/1.0") => Ok(true),
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) | None => {
            Err(Refusal::Version)
        }
        Some(_) => Err(Refusal::Malformed),
    }
}

/// Whether a target has the form that its method wants (RFC 9112 §3.2).
fn is_target(target: &[u8], method: &[u8]) -> bool {
    let form = match target {
        b"*" => return method == b"OPTIONS",
        _ if method == b"CONNECT" => target.iter().all(|b| *b != b'/'),
        [b'/', ..] => true,
        _ => [&b"http://"[..], b"https://"].iter().any(|scheme| {
            let start = target.get(..scheme.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }),
    };
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or_default();
    let query = parts.next().unwrap_or_default();
    form && path.iter().all(|b| CLASS[*b as usize] & PATH != 0)
        && query.iter().all(|b| CLASS[*b as usize] & QUERY != 0)
}

/// The methods that Envoy takes: what it knows nothing of could be read as another method by a
/// server that does not mind case, behind an authorization that does. The usual ones first.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"COPY",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// `name: value` (RFC 9112 §5), the value without the blanks around it.
pub(super) fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::Malformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let sound = !name.is_empty()
        && name.iter().all(|b| CLASS[*b as usize] & TOKEN != 0)
        && value.iter().all(|b| CLASS[*b as usize] & VALUE != 0);
    if sound {
        Ok((name, value.trim_ascii()))
    } else {
        Err(Refusal::Malformed)
    }
}

/// Digits, and nothing else.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A chunk's size, and perhaps extensions, which are for this connection only.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    // Sixteen digits are a u64.
    if !(1..=16).contains(&digits) {
        return None;
    }
    let follows = extension.is_empty() || extension[0] == b';';
    if !follows || !extension.iter().all(|b| CLASS[*b as usize] & VALUE != 0) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
/// Visible, and what the type of a parsed target can hold.
const PATH: u8 = 4;
const QUERY: u8 = 8;

/// What a byte may be part of.
static CLASS: [u8; 256] = classes();

#[expect(
    clippy::cast_possible_truncation,
    reason = "an index of 256 entries is a byte"
)]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let mut class = 0;
        if matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+'
            | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b'<' | b'>' | b'`') {
            class |= PATH;
        }
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b'<' | b'>' | b'"') {
            class |= QUERY;
        }
        if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
            class |= VALUE;
        }
        classes[at] = class;
        at += 1;
    }
    classes
}
