//! The hash of a request or connection, by which a cluster may choose its endpoint.
//!
//! It is what Envoy computes, so that the proxies of a mixed fleet send a client to the same place.

use super::RequestHead;
use crate::cluster::lb::hash::{xx64, xx64_from};
use crate::model::{HashCookie, HashOf, HashPolicy, HeaderMatch, RegexRewrite};
use http::HeaderMap;
use http::header::COOKIE;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

/// The hash of a connection by its client's address.
pub fn source_hash(client: IpAddr) -> u64 {
    // The longest: an address of IPv6 that ends like one of IPv4.
    let mut text = [0; 46];
    let mut rest = &mut text[..];
    // There is room for it.
    let _written = write!(rest, "{client}");
    let length = 46 - rest.len();
    xx64(&text[..length])
}

/// The hash of a request by all that policies name of it; `None` where it has nothing of that.
/// `make` makes a cookie's value for a client that has none.
pub fn request_hash(
    policies: &[HashPolicy],
    head: &RequestHead<'_>,
    client: IpAddr,
    mut make: impl FnMut(&HashCookie) -> String,
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for HashPolicy { of, terminal } in policies {
        let next = match of {
            HashOf::Header { name, rewrite } => of_header(head, name, rewrite.as_ref()),
            HashOf::Cookie(cookie) => of_cookie(head.headers, cookie, &mut make),
            HashOf::SourceIp => Some(source_hash(client)),
            HashOf::QueryParameter(name) => {
                query_parameter(head.path, name).map(|value| xx64(value.as_bytes()))
            }
        };
        // Turned, so that two policies that say the same do not cancel each other out.
        hash = match (hash, next) {
            (Some(before), Some(next)) => Some(before.rotate_left(1) ^ next),
            (before, next) => before.or(next),
        };
        if *terminal && hash.is_some() {
            break;
        }
    }
    hash
}

fn of_header(
    head: &RequestHead<'_>,
    name: &HeaderMatch,
    rewrite: Option<&RegexRewrite>,
) -> Option<u64> {
    let pseudo = |text: &'_ str| -> Option<u64> {
        (!text.is_empty()).then(|| xx64(&rewritten(text.as_bytes(), rewrite)))
    };
    let name = match name {
        HeaderMatch::Method => return pseudo(head.method.as_str()),
        HeaderMatch::Authority => return pseudo(head.authority),
        HeaderMatch::Path => return pseudo(head.path),
        HeaderMatch::Scheme => return pseudo(head.scheme),
        HeaderMatch::Name(name) => name,
    };
    let lines = head.headers.get_all(name).iter();
    let mut values: SmallVec<[Cow<'_, [u8]>; 2]> = lines
        .map(|line| rewritten(line.as_bytes(), rewrite))
        .collect();
    if values.is_empty() {
        return None;
    }
    // In whichever order they come.
    values.sort_unstable();
    let hash = values.iter().fold(0, |hash, value| xx64_from(hash, value));
    Some(hash)
}

fn rewritten<'a>(value: &'a [u8], rewrite: Option<&RegexRewrite>) -> Cow<'a, [u8]> {
    rewrite.map_or(Cow::Borrowed(value), |rewrite| rewrite.apply(value))
}

fn of_cookie(
    headers: &HeaderMap,
    cookie: &HashCookie,
    make: impl FnOnce(&HashCookie) -> String,
) -> Option<u64> {
    match cookie_value(headers, &cookie.name) {
        Some(value) if !value.is_empty() => Some(xx64(value)),
        _ => cookie.ttl.map(|_| xx64(make(cookie).as_bytes())),
    }
}

/// The first cookie of this name, without the quotes that it may have.
fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let value = pairs
        .filter_map(|pair| {
            let start = pair.iter().position(|byte| *byte != b' ')?;
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            Some((pair.get(start..equals)?, &pair[equals + 1..]))
        })
        .find_map(|(key, value)| (key == name.as_bytes()).then_some(value))?;
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|v| v.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// The first value of a parameter of the query, as it stands there.
fn query_parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let parameters = query.split('&').map(|parameter| {
        let pair = parameter.split_once('=');
        pair.unwrap_or((parameter, ""))
    });
    let mut of_name = parameters.filter(|(key, _)| *key == name);
    of_name.next().map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
