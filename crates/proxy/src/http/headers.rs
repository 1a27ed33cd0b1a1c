//! What a proxy changes in a head: hop-by-hop headers, forwarding headers, request ids.

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use std::net::IpAddr;
use std::time::Duration;

/// `keep-alive`.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `proxy-connection`.
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `http2-settings`, of an h2c upgrade.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-envoy-expected-rq-timeout-ms`.
pub const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// `x-envoy-upstream-service-time`.
pub const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");

/// `x-forwarded-client-cert`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Whether the body is coded in a way that the codec does not undo: any transfer coding but
/// `chunked`, once. Forwarding such a body would lose the name of its coding.
pub fn has_unknown_transfer_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    codings.next().is_some()
        || first.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// What the `upgrade` header of a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing.
    None,
    /// HTTP/2 over cleartext, which a server may ignore (RFC 9110 §7.8).
    H2c,
    /// Another protocol.
    Other,
}

/// Which upgrade a request asks for: both `upgrade` and `connection: upgrade` are there.
pub fn requested_upgrade(headers: &HeaderMap) -> Upgrade {
    let Some(upgrade) = headers.get(UPGRADE) else {
        return Upgrade::None;
    };
    if !connection_tokens(headers).any(|t| t.eq_ignore_ascii_case("upgrade")) {
        return Upgrade::None;
    }
    if upgrade.as_bytes().eq_ignore_ascii_case(b"h2c") {
        Upgrade::H2c
    } else {
        Upgrade::Other
    }
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// Remove what concerns only one connection (RFC 9110 §7.6.1): `connection` and what it names,
/// and the headers that are hop-by-hop by definition. `te: trailers` stays, as Envoy keeps it, and
/// so does `trailer`, by which the codec knows which trailers to pass on. Credentials for a proxy
/// are not for this one: nobody who uses it knows of it.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_tokens(headers)
            // "close" and "keep-alive" name no header; a request may not remove its own host.
            .filter(|t| !t.eq_ignore_ascii_case("close") && !t.is_empty())
            .filter_map(|t| HeaderName::from_bytes(t.as_bytes()).ok())
            .filter(|name| *name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
    if headers
        .get(TE)
        .is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        headers.remove(TE);
    }
}

/// Append an address to `x-forwarded-for`.
pub fn append_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    let joined = match headers.get(X_FORWARDED_FOR).map(HeaderValue::as_bytes) {
        Some(earlier) => [earlier, b",", peer.to_string().as_bytes()].concat(),
        None => peer.to_string().into_bytes(),
    };
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// A request id: a random UUID (RFC 9562 version 4). It names a request, it guards nothing.
pub fn new_request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut nibble = 32;
    for (at, place) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            nibble -= 1;
            *place = HEX[((random >> (nibble * 4)) & 0xf) as usize];
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
        let mut map = headers(&[
            ("connection", "keep-alive, x-private"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("x-private", "1"),
            ("x-kept", "2"),
            ("te", "gzip"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-kept", "2")]));
    }

    #[test]
    fn only_chunked_alone_is_a_known_transfer_coding() {
        for (value, unknown) in [
            ("chunked", false),
            ("Chunked", false),
            ("gzip, chunked", true),
            ("identity", true),
            ("chunked, chunked", true),
        ] {
            let map = headers(&[("transfer-encoding", value)]);
            assert_eq!(has_unknown_transfer_coding(&map), unknown, "{value}");
        }
        assert!(!has_unknown_transfer_coding(&HeaderMap::new()));
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let mut map = headers(&[("connection", "host"), ("host", "a")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("host", "a")]));
    }

    #[test]
    fn te_trailers_stays() {
        let mut map = headers(&[("te", "trailers")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("te", "trailers")]));
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let both = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(requested_upgrade(&both), Upgrade::Other);
        assert_eq!(
            requested_upgrade(&headers(&[("upgrade", "websocket")])),
            Upgrade::None
        );
        let h2c = headers(&[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
        ]);
        assert_eq!(requested_upgrade(&h2c), Upgrade::H2c);
    }

    #[test]
    fn request_ids_are_version_4_uuids_and_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (a, b) = (new_request_id(&mut rng), new_request_id(&mut rng));
        assert_ne!(a, b);
        let text = a.to_str().unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert!(text.split('-').map(str::len).eq([8, 4, 4, 4, 12]));
    }

    #[test]
    fn a_peer_is_appended_to_what_earlier_proxies_saw() {
        let mut map = headers(&[("x-forwarded-for", "10.0.0.1")]);
        append_forwarded_for(&mut map, "10.0.0.2".parse().unwrap());
        assert_eq!(map[X_FORWARDED_FOR], "10.0.0.1,10.0.0.2");
    }
}
