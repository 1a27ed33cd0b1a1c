use super::{ClientHello, Inspection, MAX_CLIENT_HELLO, inspect};
use proptest::prelude::*;
use std::sync::Arc;

/// What a real client of rustls sends first.
fn real_hello(server_name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = server_name.to_owned().try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a vector takes all");
    bytes
}

fn look(bytes: &[u8]) -> Inspection {
    inspect(bytes, MAX_CLIENT_HELLO)
}

fn hello(server_name: &str, alpn: &[&str]) -> ClientHello {
    ClientHello {
        server_name: server_name.into(),
        alpn: alpn.iter().map(|&p| p.into()).collect(),
    }
}

/// The same handshake bytes in records of other sizes.
fn in_records(record: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut rest = &record[5..];
    let mut sizes = sizes.iter().copied().cycle();
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let n = sizes.next().unwrap_or(1).min(rest.len());
        bytes.extend([22, 3, 1]);
        bytes.extend(u16::try_from(n).expect("small").to_be_bytes());
        bytes.extend(&rest[..n]);
        rest = &rest[n..];
    }
    bytes
}

/// A ClientHello with these extensions, in one record.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let with_length = |bytes: &[u8]| {
        let mut out = u16::try_from(bytes.len())
            .expect("small")
            .to_be_bytes()
            .to_vec();
        out.extend(bytes);
        out
    };
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(with_length(content));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(with_length(&list));
    let mut message = vec![1, 0];
    message.extend(with_length(&body));
    let mut record = vec![22, 3, 1];
    record.extend(with_length(&message));
    record
}

#[test]
fn a_real_client_is_recognised_with_its_name_and_protocols() {
    let bytes = real_hello("WWW.Example.com", &["istio", "h2"]);
    let found = Inspection::Tls(hello("www.example.com", &["istio", "h2"]));
    assert_eq!(look(&bytes), found);
    // Byte by byte, in records of all sizes: nothing is decided too early, and nothing late.
    for sizes in [&[1][..], &[3, 100, 1], &[5000]] {
        let bytes = in_records(&bytes, sizes);
        for end in 0..bytes.len() {
            assert_eq!(look(&bytes[..end]), Inspection::NeedMore, "{end}");
        }
        assert_eq!(look(&bytes), found);
        // What follows is not its business.
        assert_eq!(look(&[&bytes[..], b"anything"].concat()), found);
    }
}

#[test]
fn a_client_that_asks_for_nothing_is_tls_too() {
    assert_eq!(
        look(&real_hello("192.0.2.1", &[])),
        Inspection::Tls(hello("", &[]))
    );
}

#[test]
fn other_protocols_are_told_apart_at_the_first_byte_that_shows_it() {
    let rows: &[(&[u8], usize)] = &[
        (b"GET / HTTP/1.1\r\n", 1),
        (b"PRI * HTTP/2.0", 1),
        (b"SSH-2.0-x", 1),
        (&[0x80, 0x2e, 1, 0, 2], 1), // SSL 2
        (&[22, 1, 1, 0, 5], 2),      // no version of SSL 3 or TLS
        (&[22, 3, 9, 0, 5], 3),
        (&[22, 3, 1, 0, 0], 5),                // an empty record
        (&[22, 3, 1, 0xff, 0xff], 5),          // a record longer than any
        (&[22, 3, 1, 0, 5, 2, 0, 0, 1, 0], 6), // a ServerHello
        (&[22, 3, 1, 0, 1, 1, 21, 3], 7),      // an alert in the middle
    ];
    for (bytes, shown_at) in rows {
        for end in 0..*shown_at {
            assert_eq!(look(&bytes[..end]), Inspection::NeedMore, "{bytes:?} {end}");
        }
        assert_eq!(look(&bytes[..*shown_at]), Inspection::NotTls, "{bytes:?}");
    }
}

#[test]
fn a_client_hello_that_is_longer_than_it_may_be_is_told_by_its_length() {
    let bytes = real_hello("a.example", &[]);
    assert_eq!(inspect(&bytes[..9], 64), Inspection::TooLarge);
    assert_eq!(look(&[22, 3, 1, 0x40, 0, 1, 1, 0, 0]), Inspection::TooLarge);
}

#[test]
fn extensions_that_are_broken_make_it_no_client_hello() {
    let sni = |name: &[u8]| {
        let n = u8::try_from(name.len()).expect("short");
        [&[0, n + 3, 0, 0, n][..], name].concat()
    };
    let rows = [
        made(&[(0, sni(b""))]),
        made(&[(0, sni(b"a\"b\n"))]),
        made(&[(0, sni(&[0xff]))]),
        made(&[(0, vec![0, 9, 0, 0, 1, b'a'])]),
        made(&[(16, vec![0, 1, 0])]),
        made(&[(16, vec![0, 3, 5, b'h', b'2'])]),
        made(&[(16, vec![0, 0])]),
    ];
    for bytes in rows {
        assert_eq!(look(&bytes), Inspection::NotTls, "{bytes:?}");
    }
    assert_eq!(
        look(&made(&[(0, sni(b"A.b"))])),
        Inspection::Tls(hello("a.b", &[]))
    );
    assert_eq!(look(&made(&[])), Inspection::Tls(hello("", &[])));
}

/// Bytes near to a ClientHello: cut, with some bytes changed, in records of some size.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let sizes = prop::collection::vec(1_usize..300, 1..4);
    (changes, sizes, any::<prop::sample::Index>()).prop_map(|(changes, sizes, cut)| {
        let sni = vec![0, 6, 0, 0, 3, b'a', b'.', b'b'];
        let mut bytes = in_records(&made(&[(0, sni), (16, vec![0, 3, 2, b'h', b'2'])]), &sizes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_inspected_and_what_is_decided_stays_decided(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly()],
        limit in prop_oneof![Just(MAX_CLIENT_HELLO), 0..100_usize],
    ) {
        let mut decided = None;
        for end in 0..=bytes.len() {
            let found = inspect(&bytes[..end], limit);
            if let Some(decided) = &decided {
                prop_assert_eq!(&found, decided);
            } else if found != Inspection::NeedMore {
                decided = Some(found);
            }
        }
    }
}
