use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 60 * 1024,
    count: MAX_HEADERS,
};
const MAX_HEADERS: usize = 100;

/// What becomes of bytes that come at once.
fn at_once(bytes: &[u8]) -> (usize, Option<Refusal>, u64) {
    let mut guard = Guard::new(LIMITS, true);
    let (length, refused) = guard.scan(bytes);
    (length, refused, guard.heads())
}

/// The same bytes in pieces, held back and given again as the connection does.
fn in_pieces(
    bytes: &[u8],
    sizes: impl IntoIterator<Item = usize>,
) -> (usize, Option<Refusal>, u64) {
    let mut guard = Guard::new(LIMITS, true);
    let (mut held, mut admitted, mut rest) = (Vec::new(), 0, bytes);
    for size in sizes {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        held.extend_from_slice(piece);
        let (length, refused) = guard.scan(&held);
        admitted += length;
        held.drain(..length);
        if refused.is_some() || rest.is_empty() {
            return (admitted, refused, guard.heads());
        }
    }
    (admitted, None, guard.heads())
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")
}

#[test]
fn the_preface_of_http2_is_told_apart_before_anything_else_and_only_where_it_is_allowed() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for length in 0..16 {
        assert_eq!(at_once(&preface[..length]), (0, None, 0), "{length}");
    }
    for length in 16..preface.len() {
        let found = at_once(&preface[..length]);
        assert_eq!(found, (0, Some(Refusal::Http2), 0), "{length}");
    }
    let (_, refused) = Guard::new(LIMITS, false).scan(preface);
    assert_eq!(refused, Some(Refusal::Malformed));
    for before in ["\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let bytes = [before.as_bytes(), preface].concat();
        let (length, refused, _) = at_once(&bytes);
        assert_eq!((length, refused), (before.len(), Some(Refusal::Malformed)));
        // The same in two reads.
        let mut guard = Guard::new(LIMITS, true);
        assert_eq!(guard.scan(before.as_bytes()), (before.len(), None));
        assert_eq!(guard.scan(preface), (0, Some(Refusal::Malformed)));
    }
}

#[test]
fn whole_requests_pass_one_behind_the_other() {
    let requests = [
        "GET /a?b HTTP/1.1\r\nhost: a\r\nx-latin: caf\u{e9}\t \r\n\r\n".to_owned(),
        post("content-length: 3\r\n", "abc"),
        post(
            "Transfer-Encoding: Chunked\r\n",
            "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        ),
        "\r\n\r\nOPTIONS * HTTP/1.0\r\n\r\n".to_owned(),
    ]
    .concat();
    assert_eq!(at_once(requests.as_bytes()), (requests.len(), None, 4));
    let one = std::iter::repeat(1);
    assert_eq!(
        in_pieces(requests.as_bytes(), one),
        (requests.len(), None, 4)
    );
}

#[test]
fn what_could_be_taken_apart_in_two_ways_is_refused() {
    use Refusal::{Framing, Malformed, TransferCoding, Version};
    for (request, refusal) in [
        (
            post("content-length: 3\r\ntransfer-encoding: chunked\r\n", ""),
            Framing,
        ),
        (
            post("transfer-encoding: chunked\r\ncontent-length: 3\r\n", ""),
            Framing,
        ),
        (
            post("content-length: 3\r\ncontent-length: 3\r\n", ""),
            Framing,
        ),
        (post("content-length: 3, 3\r\n", ""), Malformed),
        (post("content-length: +3\r\n", ""), Malformed),
        (post("content-length: \r\n", ""), Malformed),
        (
            post("content-length: 99999999999999999999\r\n", ""),
            Malformed,
        ),
        (
            post("transfer-encoding: chunked, chunked\r\n", ""),
            TransferCoding,
        ),
        (post("transfer-encoding: xchunked\r\n", ""), TransferCoding),
        (
            post(
                "transfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "",
            ),
            TransferCoding,
        ),
        (post("x : y\r\n", ""), Malformed),
        (post(" folded\r\n", ""), Malformed),
        (post("x: a\rb\r\n", ""), Malformed),
        (post("x: a\0b\r\n", ""), Malformed),
        (post("x: a\nb: c\r\n", ""), Malformed),
        (post("no colon\r\n", ""), Malformed),
        ("GET / HTTP/1.1\nhost: a\n\n".into(), Malformed),
        ("GET  / HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET / HTTP/1.2\r\n\r\n".into(), Version),
        ("GET /\r\n\r\n".into(), Version),
        (
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            Version,
        ),
        (
            post("content-length: 3\r\ntransfer-encoding: identity\r\n", ""),
            Framing,
        ),
        ("get / HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET * HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET shop HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET ftp://shop/ HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET /a#b HTTP/1.1\r\n\r\n".into(), Malformed),
        ("CONNECT /a HTTP/1.1\r\n\r\n".into(), Malformed),
        ("GET /a b HTTP/1.1\r\n\r\n".into(), Malformed),
        ("G(T / HTTP/1.1\r\n\r\n".into(), Malformed),
    ] {
        let good = "GET / HTTP/1.1\r\n\r\n";
        let wire = format!("{good}{request}");
        assert_eq!(
            at_once(wire.as_bytes()),
            (good.len(), Some(refusal), 1),
            "{request:?}"
        );
    }
}

#[test]
fn chunks_that_two_servers_could_end_differently_are_refused() {
    for chunks in [
        "3\nabc\r\n",
        "3 \r\nabc\r\n",
        " 3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        "\r\n",
        "3;a\rb\r\nabc\r\n",
        "11111111111111111\r\n",
        "3\r\nabcd",
        "3\r\nabc\n",
        "0\r\nbad\r\n\r\n",
        "0\r\na: b\nc: d\r\n\r\n",
    ] {
        let (_, refused, _) = at_once(post("transfer-encoding: chunked\r\n", chunks).as_bytes());
        assert_eq!(refused, Some(Refusal::Malformed), "{chunks:?}");
    }
}

#[test]
fn heads_trailers_and_size_lines_are_bounded_before_they_are_whole() {
    let long = "y".repeat(LIMITS.bytes);
    let header = post(&format!("x: {long}"), "");
    assert_eq!(at_once(header.as_bytes()), (0, Some(Refusal::TooLarge), 0));
    let target = format!("GET /{long}");
    assert_eq!(at_once(target.as_bytes()), (0, Some(Refusal::TooLarge), 0));
    let trailer = post("transfer-encoding: chunked\r\n", &format!("0\r\nx: {long}"));
    assert_eq!(at_once(trailer.as_bytes()).1, Some(Refusal::TooLarge));
    let extension = post("transfer-encoding: chunked\r\n", &format!("1;{long}"));
    assert_eq!(at_once(extension.as_bytes()).1, Some(Refusal::Malformed));
    let many = |count| post(&"x: y\r\n".repeat(count), "");
    assert_eq!(at_once(many(MAX_HEADERS - 1).as_bytes()).1, None);
    assert_eq!(
        at_once(many(MAX_HEADERS).as_bytes()).1,
        Some(Refusal::TooLarge)
    );
}

/// Elements of requests, sound and otherwise.
fn element() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "host: a\r\n",
        "\r\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "hello",
        "5\r\n",
        "0\r\n",
        "\r",
        "\n",
        ";a=b",
        " ",
        ":",
        "content-length: 0\r\n",
        "x: y\r\n",
        "\0",
    ])
}

proptest! {
    #[test]
    fn it_does_not_matter_in_which_pieces_bytes_come(
        elements in proptest::collection::vec(element(), 0..24),
        sizes in proptest::collection::vec(1_usize..9, 200),
    ) {
        let bytes = elements.concat().into_bytes();
        prop_assume!(!bytes.is_empty());
        prop_assert_eq!(in_pieces(&bytes, sizes), at_once(&bytes));
    }

    /// Another parser, which forgives more, finds the same end in every head that passes.
    #[test]
    fn a_head_that_passes_ends_where_another_parser_ends_it(
        elements in proptest::collection::vec(element(), 1..12),
    ) {
        let bytes = elements.concat().into_bytes();
        let mut guard = Guard::new(LIMITS, true);
        let mut end = 0;
        while end < bytes.len() && guard.heads() == 0 {
            match guard.step(&bytes[end..]) {
                Ok(Step::Take(taken)) => end += taken,
                _ => return Ok(()),
            }
        }
        prop_assume!(guard.heads() == 1);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let parsed = httparse::Request::new(&mut headers).parse(&bytes);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(end)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (length, _, _) = at_once(&bytes);
        prop_assert!(length <= bytes.len());
    }
}

#[test]
fn chunks_in_http_1_0_are_faulty_framing_where_that_version_is_served() {
    let head = b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let (taken, refused) = Guard::new(LIMITS, true).scan(head);
    assert_eq!((taken, refused), (0, Some(Refusal::Version)));
    let (taken, refused) = Guard::new(LIMITS, true).serving_http10().scan(head);
    assert_eq!((taken, refused), (0, Some(Refusal::Framing)));
}

#[test]
fn a_connect_has_no_body_and_what_follows_waits_for_its_answer() {
    for (headers, refused) in [
        ("content-length: 1", Some(Refusal::Malformed)),
        ("transfer-encoding: chunked", Some(Refusal::TransferCoding)),
        ("content-length: 0", None),
        ("x: y", None),
    ] {
        let head = format!("CONNECT a:1 HTTP/1.1\r\n{headers}\r\n\r\n");
        let mut guard = Guard::new(LIMITS, true);
        let (taken, why) = guard.scan(format!("{head}\0not http").as_bytes());
        assert_eq!(why, refused, "{headers}");
        if refused.is_none() {
            assert_eq!(taken, head.len(), "{headers}");
            assert!(guard.awaits_answer(), "{headers}");
        }
    }
}
