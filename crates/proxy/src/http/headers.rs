//! What a proxy changes in a head: hop-by-hop headers, forwarding headers, request ids.

use crate::error::Failure;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{Method, Request, StatusCode};
use http_body::Body;
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
/// `x-forwarded-port`.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-envoy-expected-rq-timeout-ms`.
pub const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// `x-envoy-upstream-service-time`.
pub const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");

/// `x-envoy-internal`.
const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// `x-envoy-external-address`.
const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
/// `x-envoy-overloaded`.
pub const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// What only a client inside may ask a proxy for, and none is (`internal_address_config`): Envoy,
/// `cleanInternalHeaders`.
const OF_INSIDE: [HeaderName; 16] = [
    X_ENVOY_INTERNAL,
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-stream-duration-ms"),
];

/// What a proxy inside tells the next, and none has told the first one.
const OF_PROXIES: [HeaderName; 5] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-host"),
    HeaderName::from_static("x-envoy-original-path"),
];

/// `x-forwarded-client-cert`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Whether the body of a response can be passed on: coded by nothing but `chunked`, once, since
/// the name of another coding would be lost; framed once, since the next reader might take the
/// other framing; and there to be none where its status has none (RFC 9110 §8.6, RFC 9112 §6.1).
pub fn is_framed_soundly(status: StatusCode, headers: &HeaderMap) -> bool {
    if matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS
    ) {
        return announces_nothing(headers);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => has_one_length_at_most(headers),
        (Some(coding), None) => {
            !headers.contains_key(CONTENT_LENGTH)
                && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether a length, where there is one, is said once and is one number. It is passed on as it is,
/// and the next reader might take another of several, or understand another sign.
pub fn has_one_length_at_most(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
    };
    lengths.next().is_none_or(is_number) && lengths.next().is_none()
}

/// Whether a head says that no body comes, or does not say that one does.
fn announces_nothing(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    !headers.contains_key(TRANSFER_ENCODING) && lengths.all(|length| length == "0")
}

/// Whether a 101 names the protocol that is switched to, as one of its connection (RFC 9110 §7.8).
pub fn names_its_protocol(headers: &HeaderMap) -> bool {
    requested_upgrade(headers) != Upgrade::None
}

/// Whether a value may be an authority: host and port, no path and no blank (Envoy,
/// `HeaderUtility::authorityIsValid`).
pub fn is_authority(value: &HeaderValue) -> bool {
    let allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(byte);
    value.as_bytes().iter().all(allowed)
}

/// Refuse a `connection` header that would take away what a proxy of the way has said of the
/// client, or the host (Envoy, `Utility::sanitizeConnectionHeader`).
///
/// # Errors
/// It names one of them.
pub fn check_connection(headers: &HeaderMap) -> Result<(), Failure> {
    if !headers.contains_key(CONNECTION) {
        return Ok(());
    }
    for token in connection_tokens(headers) {
        if token.eq_ignore_ascii_case("host") {
            return Err(Failure::MissingHost);
        }
        let forwarding = token
            .get(..12)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-forwarded-"));
        if forwarding {
            return Err(Failure::BadRequest {
                details: "http1.connection_header_rejected",
            });
        }
    }
    Ok(())
}

/// Say in HTTP/1 whether a request has a body, where its method lets others guess wrong: that it has
/// none where most have one (RFC 9110 §8.6), and that it has one where few have, which the codec
/// would leave out.
pub fn announce_body<B: Body>(request: &mut Request<B>) {
    let seldom = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT
    );
    if request.headers().contains_key(CONTENT_LENGTH) {
        return;
    }
    let has_body = !request.body().is_end_stream();
    if !has_body && !seldom {
        request.headers_mut().insert(CONTENT_LENGTH, 0.into());
    } else if has_body && seldom && request.body().size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

/// Whether an `expect` header asks to be told before the body is sent.
pub fn is_continue(expect: &HeaderValue) -> bool {
    expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
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

/// Ask the next one on the way to switch to a protocol, or say that it has been switched to.
pub fn ask_for_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
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

/// Whether `connection` says that it shall go on after this message.
pub fn keeps_alive(headers: &HeaderMap) -> bool {
    let says = |word| connection_tokens(headers).any(|token| token.eq_ignore_ascii_case(word));
    says("keep-alive") && !says("close")
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
            // "close" and "keep-alive" name no header; a request may not remove its own host; of
            // `te`, which is to be named, that part stays which this hop keeps to as well.
            .filter(|t| !t.eq_ignore_ascii_case("close") && !t.is_empty())
            .filter_map(|t| HeaderName::from_bytes(t.as_bytes()).ok())
            .filter(|name| *name != HOST && *name != TE)
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
    if let Some(te) = headers.remove(TE) {
        let codings = te.as_bytes().split(|byte| *byte == b',');
        let trailers = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"trailers");
        if codings.into_iter().any(trailers) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Take away what a client may not ask for; at the `edge`, also what it cannot know.
pub fn forget_control(headers: &mut HeaderMap, edge: bool) {
    // Looked for at once: most requests have none of them.
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("x-envoy-"))
    {
        return;
    }
    let of_proxies = if edge { &OF_PROXIES[..] } else { &[] };
    for name in OF_INSIDE.iter().chain(of_proxies) {
        headers.remove(name);
    }
}

/// The peer of the first proxy of a request's way (`use_remote_address`).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// As whom it is appended to `x-forwarded-for`, where it is: one on the loopback interface as
    /// this pod, since the address would lead others to themselves.
    pub known_as: Option<IpAddr>,
}

/// Say who the client is: the peer, unless `trusted_hops` proxies before this one are believed. Then
/// it is the one that the first of them has seen.
pub fn begin_the_way(headers: &mut HeaderMap, peer: Peer, trusted_hops: u32) {
    let seen = client(headers, true, trusted_hops);
    if let Some(known_as) = peer.known_as {
        append_forwarded_for(headers, known_as);
    }
    if let Ok(address) = HeaderValue::from_str(&seen.unwrap_or(peer.address).to_string()) {
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS, address);
    }
}

/// Append an address to `x-forwarded-for`.
fn append_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    append(headers, X_FORWARDED_FOR, b",", peer.to_string().as_bytes());
}

/// Append a name to `via`.
pub fn append_via(headers: &mut HeaderMap, name: &HeaderValue) {
    append(headers, VIA, b", ", name.as_bytes());
}

/// Append to a list, whose lines become one.
fn append(headers: &mut HeaderMap, name: HeaderName, separator: &[u8], value: &[u8]) {
    let mut joined = Vec::new();
    for earlier in headers
        .get_all(&name)
        .iter()
        .filter(|line| !line.is_empty())
    {
        joined.extend_from_slice(earlier.as_bytes());
        joined.extend_from_slice(separator);
    }
    joined.extend_from_slice(value);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
    }
}

/// The client as earlier proxies tell of it in `x-forwarded-for`: with so many of them trusted
/// besides the one that connected; the one that connected is itself one of them where we are the
/// first to append (`use_remote_address`). `None` where that is the peer.
pub fn client(headers: &HeaderMap, use_remote_address: bool, trusted_hops: u32) -> Option<IpAddr> {
    let skip = match use_remote_address {
        true => trusted_hops.checked_sub(1)?,
        false => trusted_hops,
    };
    let mut lines = headers.get_all(X_FORWARDED_FOR).iter();
    lines.next()?;
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let texts: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let seen = texts.iter().flat_map(|line| line.split(','));
    let seen: Vec<&str> = seen.map(str::trim).collect();
    let skip = usize::try_from(skip).ok()?;
    seen.iter().rev().nth(skip)?.parse().ok()
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

/// Whether a request comes without an id that goes on: one that is empty names nothing, and one that
/// `connection` names ends here.
pub fn lacks_request_id(headers: &HeaderMap) -> bool {
    let is_named = |token: &str| token.eq_ignore_ascii_case(X_REQUEST_ID.as_str());
    headers
        .get(X_REQUEST_ID)
        .is_none_or(|id| id.is_empty() || connection_tokens(headers).any(is_named))
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

    fn peer(address: &str) -> Peer {
        let address = address.parse().unwrap();
        Peer {
            address,
            known_as: Some(address),
        }
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
    fn a_response_is_framed_soundly_by_one_length_or_by_chunks_alone() {
        for (pairs, sound) in [
            (&[][..], true),
            (&[("content-length", "1")][..], true),
            (&[("content-length", "1, 1")], false),
            (&[("content-length", "+1")], false),
            (&[("content-length", "")], false),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "identity")], false),
            (&[("transfer-encoding", "chunked, chunked")], false),
        ] {
            let is_sound = is_framed_soundly(StatusCode::OK, &headers(pairs));
            assert_eq!(is_sound, sound, "{pairs:?}");
        }
        let mut both = headers(&[("transfer-encoding", "chunked"), ("content-length", "1")]);
        assert!(!is_framed_soundly(StatusCode::OK, &both));
        both.remove(TRANSFER_ENCODING);
        both.append(CONTENT_LENGTH, HeaderValue::from_static("1"));
        assert!(!is_framed_soundly(StatusCode::OK, &both));
    }

    /// A body of which nobody knows the length, or none.
    struct Unknown(bool);

    impl Body for Unknown {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }

        fn is_end_stream(&self) -> bool {
            !self.0
        }
    }

    #[test]
    fn what_others_would_guess_wrong_of_a_body_is_said() {
        let chunked = &[("transfer-encoding", "chunked")][..];
        let zero = &[("content-length", "0")][..];
        let five = &[("content-length", "5")][..];
        for (method, has_body, given, said) in [
            ("GET", true, &[][..], chunked),
            ("HEAD", true, &[], chunked),
            ("DELETE", true, &[], chunked),
            ("GET", false, &[], &[]),
            ("GET", true, five, five),
            ("POST", true, &[], &[]),
            ("POST", true, five, five),
            ("POST", false, &[], zero),
            ("BREW", false, &[], zero),
            ("TRACE", false, &[], &[]),
        ] {
            let mut request = Request::new(Unknown(has_body));
            *request.method_mut() = method.parse().unwrap();
            *request.headers_mut() = headers(given);
            announce_body(&mut request);
            assert_eq!(*request.headers(), headers(said), "{method} {has_body}");
        }
    }

    #[test]
    fn a_status_without_a_body_announces_none() {
        for status in [StatusCode::NO_CONTENT, StatusCode::SWITCHING_PROTOCOLS] {
            for (pairs, sound) in [
                (&[][..], true),
                (&[("content-length", "0")][..], true),
                (&[("content-length", "1")], false),
                (&[("transfer-encoding", "chunked")], false),
            ] {
                let is_sound = is_framed_soundly(status, &headers(pairs));
                assert_eq!(is_sound, sound, "{status} {pairs:?}");
            }
        }
    }

    #[test]
    fn the_first_proxy_believes_a_client_nothing() {
        let mut map = headers(&[
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-upstream-stream-duration-ms", "1"),
            ("x-envoy-internal", "true"),
            ("x-envoy-external-address", "1.2.3.4"),
            ("x-own", "kept"),
        ]);
        forget_control(&mut map, true);
        begin_the_way(&mut map, peer("10.0.0.2"), 0);
        let expected = headers(&[
            ("x-envoy-external-address", "10.0.0.2"),
            ("x-own", "kept"),
            ("x-forwarded-for", "10.0.0.2"),
        ]);
        assert_eq!(map, expected);
    }

    #[test]
    fn a_proxy_inside_lets_pass_what_other_proxies_tell() {
        let told = [
            ("x-envoy-decorator-operation", "op"),
            ("x-envoy-original-path", "/"),
        ];
        let mut map = headers(&told);
        map.insert(
            "x-envoy-retry-grpc-on",
            HeaderValue::from_static("internal"),
        );
        forget_control(&mut map, false);
        assert_eq!(map, headers(&told));
        forget_control(&mut map, true);
        assert!(map.is_empty());
    }

    #[test]
    fn the_client_is_whom_the_first_trusted_proxy_has_seen() {
        let mut map = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")]);
        map.append("x-forwarded-for", HeaderValue::from_static("::3,nobody"));
        let client = |first, hops| client(&map, first, hops).map(|client| client.to_string());
        assert_eq!(client(false, 0), None);
        assert_eq!(client(false, 1).as_deref(), Some("::3"));
        assert_eq!(client(false, 3).as_deref(), Some("1.1.1.1"));
        assert_eq!(client(false, 4), None);
        assert_eq!(client(true, 0), None);
        assert_eq!(client(true, 2).as_deref(), Some("::3"));
        begin_the_way(&mut map, peer("10.0.0.2"), 3);
        assert_eq!(map["x-envoy-external-address"], "2.2.2.2");
        assert_eq!(map[X_FORWARDED_FOR], "1.1.1.1, 2.2.2.2,::3,nobody,10.0.0.2");
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let mut map = headers(&[("connection", "host"), ("host", "a")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("host", "a")]));
    }

    #[test]
    fn te_trailers_stays() {
        for (te, kept) in [
            ("trailers", true),
            ("gzip;q=0.5, Trailers", true),
            ("gzip", false),
        ] {
            let mut map = headers(&[("te", te)]);
            strip_hop_by_hop(&mut map);
            let expected = headers(&[("te", "trailers")][..usize::from(kept)]);
            assert_eq!(map, expected, "{te}");
        }
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
    fn an_id_that_is_empty_or_ends_here_is_none() {
        for (pairs, lacks) in [
            (&[][..], true),
            (&[("x-request-id", "")][..], true),
            (&[("x-request-id", "a")], false),
            (
                &[("x-request-id", "a"), ("connection", "X-Request-Id")],
                true,
            ),
            (&[("x-request-id", "a"), ("connection", "x-request")], false),
        ] {
            assert_eq!(lacks_request_id(&headers(pairs)), lacks, "{pairs:?}");
        }
    }

    #[test]
    fn a_peer_is_appended_to_what_earlier_proxies_saw() {
        let mut map = headers(&[("x-forwarded-for", "10.0.0.1")]);
        append_forwarded_for(&mut map, "10.0.0.2".parse().unwrap());
        assert_eq!(map[X_FORWARDED_FOR], "10.0.0.1,10.0.0.2");
    }
}
