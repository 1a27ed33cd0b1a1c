use super::{Inspection, Named, inspect};
use crate::model::ProxyProtocol;
use proptest::prelude::*;

const REQUIRED: ProxyProtocol = ProxyProtocol {
    optional: false,
    v1: true,
    v2: true,
};
const OPTIONAL: ProxyProtocol = ProxyProtocol {
    optional: true,
    ..REQUIRED
};
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn named(source: &str, destination: &str) -> Option<Named> {
    Some(Named {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    })
}

fn v2(fixed: [u8; 2], content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [SIGNATURE, &fixed, &length, content].concat()
}

/// Decided at its last byte and not before, whatever follows.
fn whole(header: &[u8], expected: Option<Named>) {
    for end in 0..header.len() {
        assert_eq!(
            inspect(&header[..end], &REQUIRED),
            Inspection::NeedMore,
            "{header:?} {end}"
        );
    }
    let found = Inspection::Header {
        length: header.len(),
        named: expected,
    };
    assert_eq!(inspect(header, &REQUIRED), found, "{header:?}");
    let followed = [header, b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(inspect(&followed, &OPTIONAL), found, "{header:?}");
}

#[test]
fn version_1_names_both_ends() {
    let v4 = named("192.0.2.1:56324", "198.51.100.1:443");
    whole(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", v4);
    let v6 = named("[2001:db8::1]:1", "[::1]:65535");
    whole(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", v6);
    whole(b"PROXY UNKNOWN\r\n", None);
    whole(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
}

#[test]
fn version_2_names_both_ends_and_what_it_carries_besides_is_skipped() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    let both = named("192.0.2.1:56324", "198.51.100.1:443");
    whole(&v2([0x21, 0x11], &v4), both);
    whole(
        &v2([0x21, 0x11], &[&v4[..], &[1, 0, 2, b'h', b'2']].concat()),
        both,
    );
    let mut v6 = [0; 36];
    (v6[0], v6[15], v6[31], v6[33], v6[35]) = (0x20, 1, 2, 80, 81);
    whole(&v2([0x21, 0x21], &v6), named("[2000::1]:80", "[::2]:81"));
    whole(&v2([0x20, 0x11], &v4), None);
    whole(&v2([0x20, 0x00], &[]), None);
    whole(&v2([0x21, 0x00], &[1, 2, 3]), None);
}

#[test]
fn what_is_no_header_is_invalid_or_absent() {
    let absent: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\r\n\r\nx",
        b"\x16\x03",
    ];
    for bytes in absent {
        assert_eq!(inspect(bytes, &OPTIONAL), Inspection::Absent, "{bytes:?}");
        let found = inspect(bytes, &REQUIRED);
        assert_eq!(found, Inspection::Invalid("no PROXY header"), "{bytes:?}");
    }
    let long = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    let invalid: &[&[u8]] = &[
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
        b"PROXY TCP4 192.0.2.1 ::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 x\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 +5 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 5 65536\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.1 5 6\r\n",
        &long,
        &v2([0x21, 0x12], &[0; 12]),
        &v2([0x22, 0x11], &[0; 12]),
        &v2([0x11, 0x11], &[0; 12]),
        &v2([0x21, 0x11], &[0; 11]),
        &v2([0x21, 0x21], &[0; 35]),
    ];
    for bytes in invalid {
        let found = inspect(bytes, &OPTIONAL);
        assert!(
            matches!(found, Inspection::Invalid(_)),
            "{bytes:?}: {found:?}"
        );
    }
}

#[test]
fn a_version_that_is_not_allowed_is_no_header() {
    let line = b"PROXY UNKNOWN\r\n";
    let config = ProxyProtocol {
        v1: false,
        ..OPTIONAL
    };
    assert_eq!(inspect(line, &config), Inspection::Absent);
    let config = ProxyProtocol {
        v1: false,
        ..REQUIRED
    };
    assert!(matches!(inspect(line, &config), Inspection::Invalid(_)));
}

const STARTS: &[&[u8]] = &[
    b"",
    b"PROXY ",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 ",
    SIGNATURE,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
];

proptest! {
    #[test]
    fn any_bytes_are_inspected_and_what_is_decided_stays_decided(
        start in prop::sample::select(STARTS),
        rest in prop::collection::vec(any::<u8>(), 0..150),
        optional in any::<bool>(),
        v1 in any::<bool>(),
        v2 in any::<bool>(),
    ) {
        let bytes = [start, &rest].concat();
        let config = ProxyProtocol { optional, v1, v2 };
        let mut decided = None;
        for end in 0..=bytes.len() {
            let found = inspect(&bytes[..end], &config);
            if let Inspection::Header { length, .. } = found {
                prop_assert!(length <= end);
            }
            if let Some(decided) = decided {
                prop_assert_eq!(found, decided);
            } else if found != Inspection::NeedMore {
                decided = Some(found);
            }
        }
    }
}
