use super::Inspection::{H2c, Http10, Http11, NeedMore, NotHttp};
use super::{HTTP2_PREFACE, MAX_INSPECT_BYTES, inspect};
use proptest::prelude::*;

#[test]
fn first_bytes_tell_the_protocol() {
    let rows: &[(&[u8], super::Inspection)] = &[
        // Request lines.
        (b"GET / HTTP/1.1\r\n", Http11),
        (b"GET / HTTP/1.0\r\n", Http10),
        (b"GET / HTTP/1.1\n", Http11),
        (b"GET /a?b=c#d HTTP/1.1\r\nhost: x\r\n\r\n", Http11),
        (b"OPTIONS * HTTP/1.1\r\n", Http11),
        (b"CONNECT a.example:443 HTTP/1.1\r\n", Http11),
        (b"GET http://a.example/ HTTP/1.1\r\n", Http11),
        (b"M-SEARCH_x!# / HTTP/1.1\r\n", Http11),
        // Only the request line counts.
        (b"GET / HTTP/1.1\r\n\0\xff: not a header\r\n\r\n", Http11),
        // Not there yet.
        (b"", NeedMore),
        (b"G", NeedMore),
        (b"GET", NeedMore),
        (b"GET ", NeedMore),
        (b"GET /", NeedMore),
        (b"GET / ", NeedMore),
        (b"GET / HTTP/1.", NeedMore),
        (b"GET / HTTP/1.1", NeedMore),
        (b"GET / HTTP/1.1\r", NeedMore),
        // HTTP/2.
        (b"P", NeedMore),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", NeedMore),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", H2c),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04", H2c),
        (b"PRI * HTTP/2.0\r\n\r\nXX", NotHttp),
        (b"PRI * HTTP/1.1\r\n", Http11),
        (b"POST / HTTP/1.1\r\n", Http11),
        // Other protocols, told apart before their line ends.
        (b"\r\nGET / HTTP/1.1\r\n", NotHttp),
        (b"\r", NotHttp),
        (b"\n", NotHttp),
        (b" GET", NotHttp),
        (b"\x16\x03\x01\x02\x00\x01", NotHttp),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", NotHttp),
        (b"*1\r", NotHttp),
        (b"PING\r", NotHttp),
        (b"SSH-2.0-OpenSSH_9.2\r", NotHttp),
        (b"get key\r", NotHttp),
        (b"GET  ", NotHttp),
        (b"GET / HTTP/1.2", NotHttp),
        (b"GET / HTTP/2", NotHttp),
        (b"GET / HTTP/1.1 ", NotHttp),
        (b"GET / HTTP/1.1\rx", NotHttp),
        (b"GET / http/1.1", NotHttp),
        (b"GET /\r\n", NotHttp),
        (b"GET /\0", NotHttp),
        (b"G\xc3\xa9T", NotHttp),
    ];
    for &(received, expected) in rows {
        let text = String::from_utf8_lossy(received);
        assert_eq!(inspect(received), expected, "{text:?}");
    }
}

#[test]
fn filter_chains_know_the_answers_as_http_1_0_http_1_1_and_h2c() {
    let names = [Http10, Http11, H2c, NotHttp, NeedMore].map(|i| i.application_protocol());
    let expected = [Some("http/1.0"), Some("http/1.1"), Some("h2c"), None, None];
    assert_eq!(names, expected);
}

#[test]
fn a_request_line_may_be_64_kib_long_and_not_longer() {
    let line = |len: usize| {
        let target = "a".repeat(len - "GET / HTTP/1.1\r\n".len());
        format!("GET /{target} HTTP/1.1\r\n").into_bytes()
    };
    let fits = line(MAX_INSPECT_BYTES);
    assert_eq!(inspect(&fits[..MAX_INSPECT_BYTES - 1]), NeedMore);
    assert_eq!(inspect(&fits), Http11);
    let too_long = line(MAX_INSPECT_BYTES + 1);
    assert_eq!(inspect(&too_long[..MAX_INSPECT_BYTES]), NotHttp);
    assert_eq!(inspect(&too_long), NotHttp);
}

/// What a connection gets whose bytes arrive one by one.
fn fed_byte_by_byte(received: &[u8]) -> super::Inspection {
    (0..=received.len())
        .map(|len| inspect(&received[..len]))
        .find(|&answer| answer != NeedMore)
        .unwrap_or(NeedMore)
}

/// A beginning that is HTTP or nearly so, so that every step of the parser is reached.
fn near_http() -> impl Strategy<Value = Vec<u8>> {
    let beginnings: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /a/b?c HTTP/1.0\nx",
        HTTP2_PREFACE,
        b"\r\n",
        b"",
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (
        prop::sample::select(beginnings),
        prop::collection::vec(change, 0..3),
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(beginning, changes, end)| {
            let mut bytes = [beginning, &end].concat();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        })
}

proptest! {
    #[test]
    fn bytes_fed_one_by_one_get_the_answer_of_all_at_once(received in near_http()) {
        prop_assert_eq!(fed_byte_by_byte(&received), inspect(&received));
    }

    #[test]
    fn arbitrary_bytes_fed_one_by_one_get_the_answer_of_all_at_once(
        received in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert_eq!(fed_byte_by_byte(&received), inspect(&received));
    }

    #[test]
    fn a_request_line_is_recognised_at_its_end_whatever_follows(
        method in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}",
        target in "[!-~]{1,40}",
        one in any::<bool>(),
        end in prop::sample::select(&["\r\n", "\n"]),
        rest in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let line = format!("{method} {target} HTTP/1.{}{end}", u8::from(one));
        for len in 0..line.len() {
            prop_assert_eq!(inspect(&line.as_bytes()[..len]), NeedMore, "{} bytes", len);
        }
        let expected = if one { Http11 } else { Http10 };
        prop_assert_eq!(inspect(&[line.as_bytes(), &rest].concat()), expected);
    }
}
