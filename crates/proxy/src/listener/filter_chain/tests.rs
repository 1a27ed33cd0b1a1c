use super::{ConnectionFacts, FilterChains};
use crate::model::TransportProtocol::{RawBuffer, Tls};
use crate::model::{FilterChainMatch, TransportProtocol};
use proptest::prelude::*;

/// What a chain matches: port, transport, application protocols.
type Row<'a> = (Option<u16>, Option<TransportProtocol>, &'a [&'a str]);

fn matcher((port, transport, protocols): Row<'_>) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: port,
        transport_protocol: transport,
        application_protocols: protocols.iter().map(|&p| p.into()).collect(),
    }
}

/// Chains whose payload is their position, `usize::MAX` for the default chain.
fn compile(rows: &[Row<'_>]) -> FilterChains<usize> {
    let chains = rows.iter().map(|&row| matcher(row)).zip(0..).collect();
    FilterChains::compile(chains, Some(DEFAULT)).expect("the chains do not overlap")
}

const DEFAULT: usize = usize::MAX;

fn find(
    chains: &FilterChains<usize>,
    destination_port: u16,
    transport: TransportProtocol,
    application_protocols: &[&str],
) -> usize {
    let facts = ConnectionFacts {
        destination_port,
        transport,
        application_protocols,
    };
    *chains.find(&facts).expect("there is a default chain")
}

#[test]
fn the_inbound_listener_of_istio_finds_the_chain_for_each_connection() {
    let http: &[&str] = &["http/1.1", "h2c"];
    let chains = compile(&[
        (Some(15006), None, &[]),            // 0: loop guard
        (None, Some(RawBuffer), http),       // 1: passthrough, HTTP
        (None, Some(RawBuffer), &[]),        // 2: passthrough, TCP
        (None, Some(Tls), &[]),              // 3: passthrough, TLS
        (Some(9080), Some(RawBuffer), &[]),  // 4: declared HTTP
        (Some(3306), None, &[]),             // 5: declared TCP
        (Some(8080), Some(RawBuffer), http), // 6: sniffed, HTTP
        (Some(8080), Some(RawBuffer), &[]),  // 7: sniffed, TCP
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
    ];
    for &(port, transport, protocols, expected) in rows {
        let found = find(&chains, port, transport, protocols);
        assert_eq!(found, expected, "{port} {transport:?} {protocols:?}");
    }
}

#[test]
fn the_transport_is_taken_before_the_application_protocol_and_not_left_again() {
    let chains = compile(&[
        (None, Some(RawBuffer), &["h2c"]),
        (None, None, &["http/1.1"]),
    ]);
    assert_eq!(find(&chains, 80, RawBuffer, &["h2c"]), 0);
    assert_eq!(find(&chains, 80, RawBuffer, &["http/1.1"]), DEFAULT);
    assert_eq!(find(&chains, 80, Tls, &["http/1.1"]), 1);
}

#[test]
fn the_first_application_protocol_of_the_connection_that_a_chain_names_decides() {
    let chains = compile(&[
        (None, None, &["b"]),
        (None, None, &["a", "c"]),
        (None, None, &[]),
    ]);
    assert_eq!(find(&chains, 80, Tls, &["x", "b", "a"]), 0);
    assert_eq!(find(&chains, 80, Tls, &["c", "b"]), 1);
    assert_eq!(find(&chains, 80, Tls, &["x"]), 2);
}

#[test]
fn without_a_default_chain_a_connection_may_find_none() {
    let chains = vec![(matcher((Some(80), None, &[])), "the chain")];
    let chains = FilterChains::compile(chains, None).expect("one chain");
    let facts = |destination_port| ConnectionFacts {
        destination_port,
        transport: RawBuffer,
        application_protocols: &[],
    };
    assert_eq!(chains.find(&facts(80)), Some(&"the chain"));
    assert_eq!(chains.find(&facts(81)), None);
}

#[test]
fn chains_for_the_same_connections_are_refused_by_position() {
    let rows: &[(&[Row<'_>], &str)] = &[
        (
            &[(None, None, &[]), (Some(1), None, &[]), (None, None, &[])],
            "filter_chains[0] and filter_chains[2] match the same connections (any destination \
             port, any transport protocol, any application protocol); remove one or give it a \
             match of its own",
        ),
        (
            // They differ, but not for h2c.
            &[
                (Some(1), Some(Tls), &["a", "h2c"]),
                (Some(1), Some(Tls), &["h2c"]),
            ],
            "filter_chains[0] and filter_chains[1] match the same connections (destination port \
             1, transport protocol tls, application protocol h2c); remove one or give it a match \
             of its own",
        ),
        (
            &[
                (None, Some(RawBuffer), &["a"]),
                (None, Some(RawBuffer), &["b", ""]),
            ],
            "filter_chains[1] names an empty application protocol; leave application_protocols \
             out to match any",
        ),
    ];
    for &(chains, message) in rows {
        let chains = chains.iter().map(|&row| (matcher(row), ())).collect();
        let error = FilterChains::compile(chains, None).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn only_ports_with_chains_for_application_protocols_may_use_them() {
    let chains = compile(&[
        (None, None, &[]),
        (Some(80), Some(RawBuffer), &["h2c"]),
        (Some(3306), None, &[]),
    ]);
    assert!(chains.may_use_application_protocol(80));
    assert!(!chains.may_use_application_protocol(3306));
    assert!(!chains.may_use_application_protocol(9999), "no port named");
    let catch_all = compile(&[(None, None, &["h2c"]), (Some(3306), None, &[])]);
    assert!(catch_all.may_use_application_protocol(9999));
    assert!(!catch_all.may_use_application_protocol(3306));
}

/// The same by narrowing the list of chains down, one part of the match after the other.
fn narrow_down(chains: &[Row<'_>], facts: &ConnectionFacts<'_>) -> usize {
    let step =
        |left: Vec<usize>, names: &dyn Fn(Row<'_>) -> bool, asks: &dyn Fn(Row<'_>) -> bool| {
            let named: Vec<_> = left.iter().copied().filter(|&i| names(chains[i])).collect();
            if named.is_empty() {
                left.into_iter().filter(|&i| !asks(chains[i])).collect()
            } else {
                named
            }
        };
    let left = (0..chains.len()).collect();
    let left = step(
        left,
        &|(port, _, _)| port == Some(facts.destination_port),
        &|(port, _, _)| port.is_some(),
    );
    let left: Vec<_> = step(
        left,
        &|(_, transport, _)| transport == Some(facts.transport),
        &|(_, transport, _)| transport.is_some(),
    );
    let first_named = facts
        .application_protocols
        .iter()
        .find(|p| left.iter().any(|&i| chains[i].2.contains(p)));
    let left = step(
        left,
        &|(_, _, protocols)| first_named.is_some_and(|p| protocols.contains(p)),
        &|(_, _, protocols)| !protocols.is_empty(),
    );
    assert!(left.len() <= 1, "chains {left:?} overlap");
    left.first().copied().unwrap_or(DEFAULT)
}

const PROTOCOLS: [&str; 3] = ["a", "b", "c"];

fn row() -> impl Strategy<Value = (Option<u16>, Option<TransportProtocol>, Vec<&'static str>)> {
    (
        prop::option::of(1_u16..3),
        prop::option::of(prop::sample::select(&[RawBuffer, Tls])),
        prop::sample::subsequence(&PROTOCOLS, 0..=2),
    )
}

/// Some chains that do not overlap: of those that would, the first stays.
fn rows() -> impl Strategy<Value = Vec<(Option<u16>, Option<TransportProtocol>, Vec<&'static str>)>>
{
    prop::collection::vec(row(), 0..12).prop_map(|mut rows| {
        let mut taken = std::collections::HashSet::new();
        rows.retain(|(port, transport, protocols)| {
            let any = [""];
            let protocols = if protocols.is_empty() {
                &any
            } else {
                &protocols[..]
            };
            let keys: Vec<_> = protocols.iter().map(|&p| (*port, *transport, p)).collect();
            let free = keys.iter().all(|key| !taken.contains(key));
            if free {
                taken.extend(keys);
            }
            free
        });
        rows
    })
}

fn borrowed<'a>(
    rows: &'a [(Option<u16>, Option<TransportProtocol>, Vec<&'static str>)],
) -> Vec<Row<'a>> {
    rows.iter().map(|(p, t, a)| (*p, *t, &a[..])).collect()
}

proptest! {
    #[test]
    fn chains_are_found_as_by_narrowing_the_list_down(
        rows in rows(),
        destination_port in 1_u16..4,
        transport in prop::sample::select(&[RawBuffer, Tls]),
        application_protocols in prop::collection::vec(
            prop::sample::select(&["a", "b", "c", "d"]), 0..3),
    ) {
        let rows = borrowed(&rows);
        let facts = ConnectionFacts {
            destination_port,
            transport,
            application_protocols: &application_protocols,
        };
        let found = find(&compile(&rows), destination_port, transport, &application_protocols);
        prop_assert_eq!(found, narrow_down(&rows, &facts));
    }

    #[test]
    fn where_application_protocols_are_said_not_to_matter_they_do_not(
        rows in rows(),
        port in 1_u16..4,
        transport in prop::sample::select(&[RawBuffer, Tls]),
        protocol in prop::sample::select(&PROTOCOLS),
    ) {
        let chains = compile(&borrowed(&rows));
        if !chains.may_use_application_protocol(port) {
            prop_assert_eq!(
                find(&chains, port, transport, &[protocol]),
                find(&chains, port, transport, &[])
            );
        }
    }

    #[test]
    fn a_chain_beside_one_that_matches_the_same_is_always_refused(
        rows in rows().prop_filter("at least one chain", |rows| !rows.is_empty()),
        again in any::<prop::sample::Index>(),
    ) {
        let mut rows = borrowed(&rows);
        rows.push(rows[again.index(rows.len())]);
        let chains = rows.iter().map(|&row| (matcher(row), ())).collect();
        prop_assert!(FilterChains::compile(chains, None).is_err());
    }
}
