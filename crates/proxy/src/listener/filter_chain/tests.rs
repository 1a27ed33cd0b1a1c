use super::{ConnectionFacts, FilterChains, Matters};
use crate::model::TransportProtocol::{RawBuffer, Tls};
use crate::model::{FilterChainMatch, IpRange, ServerNameMatch, SourceType, TransportProtocol};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const DEFAULT: usize = usize::MAX;

fn all() -> FilterChainMatch {
    FilterChainMatch::default()
}

/// What the tests of ports and protocols ask for.
fn row(
    port: Option<u16>,
    transport: Option<TransportProtocol>,
    protocols: &[&str],
) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: port,
        transport_protocol: transport,
        application_protocols: protocols.iter().map(|&p| p.into()).collect(),
        ..all()
    }
}

fn ranges(texts: &[&str]) -> Vec<IpRange> {
    let range = |text: &&str| {
        let (address, length) = text.split_once('/').expect("a range");
        IpRange::new(
            address.parse().expect("an address"),
            length.parse().expect("a length"),
        )
    };
    texts
        .iter()
        .map(|text| range(text).expect("a range"))
        .collect()
}

fn names(texts: &[&str]) -> Vec<ServerNameMatch> {
    let name = |text: &&str| match text.strip_prefix('*') {
        Some(suffix) => ServerNameMatch::Suffix(suffix.into()),
        None => ServerNameMatch::Exact((*text).into()),
    };
    texts.iter().map(name).collect()
}

/// Chains whose payload is their position, `usize::MAX` for the default chain.
fn compile(rows: &[FilterChainMatch]) -> FilterChains<usize> {
    let chains = rows.iter().cloned().zip(0..).collect();
    FilterChains::compile(chains, Some(DEFAULT)).expect("the chains do not overlap")
}

/// A connection from 10.9.9.9:40000 to a port of 10.0.0.1.
fn facts<'a>(
    port: u16,
    transport: TransportProtocol,
    application_protocols: &'a [&'a str],
) -> ConnectionFacts<'a> {
    ConnectionFacts {
        destination: SocketAddr::from(([10, 0, 0, 1], port)),
        server_name: "",
        transport,
        application_protocols,
        direct_source: IpAddr::from([10, 9, 9, 9]),
        source: SocketAddr::from(([10, 9, 9, 9], 40000)),
    }
}

fn find(
    chains: &FilterChains<usize>,
    port: u16,
    transport: TransportProtocol,
    protocols: &[&str],
) -> usize {
    *chains
        .find(&facts(port, transport, protocols))
        .expect("there is a default chain")
}

#[test]
fn the_inbound_listener_of_istio_finds_the_chain_for_each_connection() {
    let http: &[&str] = &["http/1.1", "h2c"];
    let mesh: &[&str] = &["istio", "istio-peer-exchange", "istio-h2"];
    let chains = compile(&[
        row(Some(15006), None, &[]),            // 0: loop guard
        row(None, Some(RawBuffer), http),       // 1: passthrough, HTTP
        row(None, Some(RawBuffer), &[]),        // 2: passthrough, TCP
        row(None, Some(Tls), &[]),              // 3: passthrough, TLS
        row(Some(9080), Some(RawBuffer), &[]),  // 4: declared HTTP
        row(Some(3306), None, &[]),             // 5: declared TCP
        row(Some(8080), Some(RawBuffer), http), // 6: sniffed, HTTP
        row(Some(8080), Some(RawBuffer), &[]),  // 7: sniffed, TCP
        row(Some(8080), Some(Tls), mesh),       // 8: of the mesh
        row(Some(8080), Some(Tls), &[]),        // 9: the application's own TLS
    ]);
    let rows: &[(u16, TransportProtocol, &[&str], usize)] = &[
        (15006, RawBuffer, &["http/1.1"], 0),
        (15006, Tls, &[], 0),
        (1234, RawBuffer, &["http/1.1"], 1),
        (1234, RawBuffer, &["h2c"], 1),
        (1234, RawBuffer, &["http/1.0"], 2),
        (1234, RawBuffer, &[], 2),
        (1234, Tls, &["h2"], 3),
        (9080, RawBuffer, &["http/1.1"], 4),
        (9080, RawBuffer, &[], 4),
        // The port is taken; its chains do not match: no way back to chain 3.
        (9080, Tls, &[], DEFAULT),
        (3306, Tls, &["h2"], 5),
        (8080, RawBuffer, &["h2c"], 6),
        (8080, RawBuffer, &["http/1.0"], 7),
        (8080, RawBuffer, &[], 7),
        (8080, Tls, &["istio-h2", "istio", "h2"], 8),
        (8080, Tls, &["h2", "http/1.1"], 9),
    ];
    for &(port, transport, protocols, expected) in rows {
        let found = find(&chains, port, transport, protocols);
        assert_eq!(found, expected, "{port} {transport:?} {protocols:?}");
    }
}

#[test]
fn the_transport_is_taken_before_the_application_protocol_and_not_left_again() {
    let chains = compile(&[
        row(None, Some(RawBuffer), &["h2c"]),
        row(None, None, &["http/1.1"]),
    ]);
    assert_eq!(find(&chains, 80, RawBuffer, &["h2c"]), 0);
    assert_eq!(find(&chains, 80, RawBuffer, &["http/1.1"]), DEFAULT);
    assert_eq!(find(&chains, 80, Tls, &["http/1.1"]), 1);
}

#[test]
fn the_first_application_protocol_of_the_connection_that_a_chain_names_decides() {
    let chains = compile(&[
        row(None, None, &["b"]),
        row(None, None, &["a", "c"]),
        row(None, None, &[]),
    ]);
    assert_eq!(find(&chains, 80, Tls, &["x", "b", "a"]), 0);
    assert_eq!(find(&chains, 80, Tls, &["c", "b"]), 1);
    assert_eq!(find(&chains, 80, Tls, &["x"]), 2);
}

#[test]
fn the_longest_prefix_of_the_destination_counts_in_its_own_family() {
    let to = |texts: &[&str]| FilterChainMatch {
        prefix_ranges: ranges(texts),
        ..all()
    };
    let chains = compile(&[
        to(&["10.0.0.0/8", "fd00::/8"]),
        to(&["10.1.0.0/16"]),
        to(&["10.1.2.3/32"]),
        to(&["::/0"]),
        all(),
    ]);
    let rows = [
        ("10.1.2.3", 2),
        ("10.1.2.4", 1),
        ("10.2.0.0", 0),
        ("11.0.0.0", 4),
        ("fd00::1", 0),
        ("2001:db8::1", 3),
    ];
    for (address, expected) in rows {
        let mut facts = facts(80, RawBuffer, &[]);
        facts
            .destination
            .set_ip(address.parse().expect("an address"));
        assert_eq!(chains.find(&facts), Some(&expected), "{address}");
    }
}

#[test]
fn a_server_name_is_found_exactly_then_by_its_longest_suffix_then_by_none() {
    let of = |texts: &[&str]| FilterChainMatch {
        server_names: names(texts),
        ..all()
    };
    let chains = compile(&[
        of(&["www.example.com"]),
        of(&["*.example.com"]),
        of(&["*.com", "example.com"]),
        all(),
    ]);
    let rows = [
        ("www.example.com", 0),
        ("api.example.com", 1),
        ("a.b.example.com", 1),
        ("example.com", 2),
        ("other.com", 2),
        (".com", 3),
        ("com", 3),
        ("www.example.org", 3),
        ("", 3),
    ];
    for (server_name, expected) in rows {
        let facts = ConnectionFacts {
            server_name,
            ..facts(443, Tls, &[])
        };
        assert_eq!(chains.find(&facts), Some(&expected), "{server_name:?}");
    }
}

#[test]
fn sources_are_told_apart_by_where_they_connect_from_and_by_whom_a_proxy_names() {
    let chains = compile(&[
        FilterChainMatch {
            direct_source_prefix_ranges: ranges(&["10.9.0.0/16"]),
            source_type: Some(SourceType::External),
            source_prefix_ranges: ranges(&["192.0.2.0/24"]),
            source_ports: vec![1, 2],
            ..all()
        },
        FilterChainMatch {
            direct_source_prefix_ranges: ranges(&["10.9.0.0/16"]),
            source_type: Some(SourceType::Local),
            ..all()
        },
        FilterChainMatch {
            source_prefix_ranges: ranges(&["192.0.2.0/24"]),
            ..all()
        },
    ]);
    let rows = [
        ("10.9.9.9", "192.0.2.1:1", 0),
        ("10.9.9.9", "192.0.2.1:3", DEFAULT),
        ("10.9.9.9", "127.0.0.1:1", 1),
        ("10.9.9.9", "10.0.0.1:1", 1),
        ("10.9.9.9", "203.0.113.1:1", DEFAULT),
        ("10.8.0.1", "192.0.2.1:3", 2),
        ("10.8.0.1", "203.0.113.1:1", DEFAULT),
    ];
    for (direct, source, expected) in rows {
        let facts = ConnectionFacts {
            direct_source: direct.parse().expect("an address"),
            source: source.parse().expect("an address"),
            ..facts(80, RawBuffer, &[])
        };
        assert_eq!(chains.find(&facts), Some(&expected), "{direct} {source}");
    }
}

#[test]
fn without_a_default_chain_a_connection_may_find_none() {
    let chains = vec![(row(Some(80), None, &[]), "the chain")];
    let chains = FilterChains::compile(chains, None).expect("one chain");
    assert_eq!(chains.find(&facts(80, RawBuffer, &[])), Some(&"the chain"));
    assert_eq!(chains.find(&facts(81, RawBuffer, &[])), None);
}

#[test]
fn chains_for_the_same_connections_are_refused_by_position() {
    let named = |range: &[&str], name: &[&str]| FilterChainMatch {
        prefix_ranges: ranges(range),
        server_names: names(name),
        ..all()
    };
    let rows: &[(&[FilterChainMatch], &str)] = &[
        (
            &[all(), row(Some(1), None, &[]), all()],
            "filter_chains[0] and filter_chains[2] match the same connections (all that no other \
             chain matches); remove one or give it a match of its own",
        ),
        (
            // They differ, but not for h2c.
            &[
                row(Some(1), Some(Tls), &["a", "h2c"]),
                row(Some(1), Some(Tls), &["h2c"]),
            ],
            "filter_chains[0] and filter_chains[1] match the same connections (destination port \
             1, transport protocol tls, application protocol h2c); remove one or give it a match \
             of its own",
        ),
        (
            &[
                named(&["10.0.0.0/8"], &["*.a.b", "c.d"]),
                named(&["10.0.0.0/8", "10.1.0.0/16"], &["c.d"]),
            ],
            "filter_chains[0] and filter_chains[1] match the same connections (destination \
             10.0.0.0/8, server name c.d); remove one or give it a match of its own",
        ),
        (
            &[
                row(None, Some(RawBuffer), &["a"]),
                row(None, Some(RawBuffer), &["b", ""]),
            ],
            "filter_chains[1] names an empty application protocol; leave application_protocols \
             out to match any",
        ),
    ];
    for (chains, message) in rows {
        let chains = chains.iter().map(|row| (row.clone(), ())).collect();
        let error = FilterChains::compile(chains, None).expect_err(message);
        assert_eq!(error.to_string(), *message);
    }
}

#[test]
fn only_ports_whose_chains_ask_for_it_wait_for_what_the_client_says() {
    let chains = compile(&[
        all(),
        row(Some(80), Some(RawBuffer), &["h2c"]),
        row(Some(443), Some(Tls), &[]),
        row(Some(3306), None, &[]),
    ]);
    let matters = |tls, application_protocols| Matters {
        tls,
        application_protocols,
    };
    assert_eq!(chains.what_matters(80), matters(true, true));
    assert_eq!(chains.what_matters(443), matters(true, false));
    assert_eq!(chains.what_matters(3306), matters(false, false));
    assert_eq!(
        chains.what_matters(9999),
        matters(false, false),
        "no port named"
    );
    let catch_all = compile(&[row(None, None, &["h2c"]), row(Some(3306), None, &[])]);
    assert_eq!(catch_all.what_matters(9999), matters(true, true));
    assert_eq!(catch_all.what_matters(3306), matters(false, false));
}

/// The values that a chain asks for at one step, or the one that stands for "any".
fn asked<V: Clone>(values: &[V]) -> Vec<Option<V>> {
    match values {
        [] => vec![None],
        values => values.iter().cloned().map(Some).collect(),
    }
}

/// The same by narrowing the list of chains down, one part of the match after the other, as
/// Envoy's documentation of `FilterChainMatch` tells it: keep the chains with the most specific
/// value that fits, else those that do not ask.
fn narrow_down(chains: &[FilterChainMatch], facts: &ConnectionFacts<'_>) -> usize {
    fn step<V: PartialEq + Clone>(
        left: Vec<usize>,
        of: impl Fn(usize) -> Vec<Option<V>>,
        best_first: impl IntoIterator<Item = V>,
    ) -> Vec<usize> {
        let with = |value: Option<V>| -> Vec<usize> {
            let has = |i: &&usize| of(**i).contains(&value);
            left.iter().filter(has).copied().collect()
        };
        let fits = best_first.into_iter().map(|v| with(Some(v)));
        fits.into_iter()
            .find(|kept| !kept.is_empty())
            .unwrap_or_else(|| with(None))
    }
    let around = |address: IpAddr| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (0..=bits)
            .rev()
            .map(move |length| IpRange::around(address, length))
    };
    let mut sought = names(&[facts.server_name]);
    let mut rest = facts.server_name;
    while let Some((_, behind)) = rest.split_once('.') {
        sought.push(ServerNameMatch::Suffix(format!(".{behind}").into()));
        rest = behind;
    }
    let local = facts.source.ip().is_loopback() || facts.source.ip() == facts.destination.ip();
    let source_type = if local {
        SourceType::Local
    } else {
        SourceType::External
    };

    let left = (0..chains.len()).collect();
    let port = facts.destination.port();
    let left = step(left, |i| vec![chains[i].destination_port], [port]);
    let destination = around(facts.destination.ip());
    let left = step(left, |i| asked(&chains[i].prefix_ranges), destination);
    let left = step(left, |i| asked(&chains[i].server_names), sought);
    let left = step(
        left,
        |i| vec![chains[i].transport_protocol],
        [facts.transport],
    );
    let protocols = facts.application_protocols.iter().map(|&p| p.into());
    let left = step(left, |i| asked(&chains[i].application_protocols), protocols);
    let direct = around(facts.direct_source);
    let left = step(
        left,
        |i| asked(&chains[i].direct_source_prefix_ranges),
        direct,
    );
    let left = step(left, |i| vec![chains[i].source_type], [source_type]);
    let source = around(facts.source.ip());
    let left = step(left, |i| asked(&chains[i].source_prefix_ranges), source);
    let left = step(
        left,
        |i| asked(&chains[i].source_ports),
        [facts.source.port()],
    );
    assert!(left.len() <= 1, "chains {left:?} overlap");
    left.first().copied().unwrap_or(DEFAULT)
}

fn overlap(a: &FilterChainMatch, b: &FilterChainMatch) -> bool {
    fn meet<V: PartialEq>(a: &[V], b: &[V]) -> bool {
        (a.is_empty() && b.is_empty()) || a.iter().any(|v| b.contains(v))
    }
    a.destination_port == b.destination_port
        && meet(&a.prefix_ranges, &b.prefix_ranges)
        && meet(&a.server_names, &b.server_names)
        && a.transport_protocol == b.transport_protocol
        && meet(&a.application_protocols, &b.application_protocols)
        && meet(
            &a.direct_source_prefix_ranges,
            &b.direct_source_prefix_ranges,
        )
        && a.source_type == b.source_type
        && meet(&a.source_prefix_ranges, &b.source_prefix_ranges)
        && meet(&a.source_ports, &b.source_ports)
}

const RANGES: [&str; 7] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "0.0.0.0/0",
    "::/0",
    "fd00::/8",
    "127.0.0.0/8",
];
const ADDRESSES: [&str; 5] = ["10.1.2.3", "10.1.9.9", "10.7.7.7", "127.0.0.1", "fd00::1"];
const NAMES: [&str; 4] = ["a.b.c", "*.b.c", "*.c", "b.c"];
const PROTOCOLS: [&str; 3] = ["a", "b", "c"];

fn some_ranges() -> impl Strategy<Value = Vec<IpRange>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::sample::subsequence(&RANGES, 1..=2).prop_map(|texts| ranges(&texts)),
    ]
}

prop_compose! {
    fn matcher()(
        destination_port in prop::option::of(1_u16..3),
        prefix_ranges in some_ranges(),
        server_names in prop::sample::subsequence(&NAMES, 0..=2),
        transport_protocol in prop::option::of(prop::sample::select(&[RawBuffer, Tls])),
        protocols in prop::sample::subsequence(&PROTOCOLS, 0..=2),
        direct_source_prefix_ranges in some_ranges(),
        source_type in prop::option::weighted(
            0.3, prop::sample::select(&[SourceType::Local, SourceType::External])),
        source_prefix_ranges in some_ranges(),
        source_ports in prop::sample::subsequence(&[1_u16, 2], 0..=1),
    ) -> FilterChainMatch {
        FilterChainMatch {
            destination_port,
            prefix_ranges,
            server_names: names(&server_names),
            transport_protocol,
            application_protocols: protocols.iter().map(|&p| p.into()).collect(),
            direct_source_prefix_ranges,
            source_type,
            source_prefix_ranges,
            source_ports,
        }
    }
}

/// Some chains that do not overlap: of those that would, the first stays. Half of them differ from
/// another in one part alone, so that the steps behind it are reached.
fn matchers() -> impl Strategy<Value = Vec<FilterChainMatch>> {
    prop::collection::vec((matcher(), any::<prop::sample::Index>(), 0..14_u8), 0..24).prop_map(
        |drawn| {
            let mut rows: Vec<FilterChainMatch> = Vec::new();
            for (mut row, other, part) in drawn {
                if !rows.is_empty() && part < 9 {
                    let drawn = row;
                    row = rows[other.index(rows.len())].clone();
                    match part {
                        0 => row.destination_port = drawn.destination_port,
                        1 => row.prefix_ranges = drawn.prefix_ranges,
                        2 => row.server_names = drawn.server_names,
                        3 => row.transport_protocol = drawn.transport_protocol,
                        4 => row.application_protocols = drawn.application_protocols,
                        5 => row.direct_source_prefix_ranges = drawn.direct_source_prefix_ranges,
                        6 => row.source_type = drawn.source_type,
                        7 => row.source_prefix_ranges = drawn.source_prefix_ranges,
                        _ => row.source_ports = drawn.source_ports,
                    }
                }
                if !rows.iter().any(|earlier| overlap(earlier, &row)) {
                    rows.push(row);
                }
            }
            rows
        },
    )
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(&ADDRESSES).prop_map(|text| text.parse().expect("an address"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn chains_are_found_as_by_narrowing_the_list_down(
        rows in matchers(),
        destination in address(),
        port in 1_u16..4,
        server_name in prop::sample::select(&["", "a.b.c", "x.b.c", "b.c", "y.x.c", "c", "z"]),
        transport in prop::sample::select(&[RawBuffer, Tls]),
        application_protocols in prop::collection::vec(
            prop::sample::select(&["a", "b", "c", "d"]), 0..3),
        direct_source in address(),
        source in address(),
        source_port in 1_u16..4,
    ) {
        let facts = ConnectionFacts {
            destination: SocketAddr::new(destination, port),
            server_name,
            transport,
            application_protocols: &application_protocols,
            direct_source,
            source: SocketAddr::new(source, source_port),
        };
        let chains = compile(&rows);
        let found = *chains.find(&facts).expect("there is a default chain");
        prop_assert_eq!(found, narrow_down(&rows, &facts));

        // Where something is said not to matter, it does not.
        let matters = chains.what_matters(port);
        let blind = ConnectionFacts {
            server_name: if matters.tls { server_name } else { "" },
            transport: if matters.tls { transport } else { RawBuffer },
            application_protocols:
                if matters.application_protocols { &application_protocols } else { &[] },
            ..facts
        };
        prop_assert_eq!(chains.find(&blind), Some(&found));
    }

    #[test]
    fn a_chain_beside_one_that_matches_the_same_is_always_refused(
        rows in matchers(),
        another in matcher(),
    ) {
        let refused = rows.iter().any(|row| overlap(row, &another));
        let mut rows = rows;
        rows.push(another);
        let chains = rows.into_iter().map(|row| (row, ())).collect();
        prop_assert_eq!(FilterChains::compile(chains, None).is_err(), refused);
    }
}
