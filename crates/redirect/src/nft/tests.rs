//! What is written reads back the same, and nothing that is read can break the reader.

use std::net::IpAddr;

use proptest::prelude::*;

use super::attr::{Attributes, Writer};
use super::decode;
use super::encode::expressions;
use super::expr::Expr;
use super::uapi::rule as rule_abi;
use super::{Nft, Table};
use crate::capture::{InterfaceName, Port};
use crate::error::{Cause, KernelError};
use crate::ruleset::{
    AddressTest, Chain, Family, Hook, Match, PortTest, Protocol, Rule, Ruleset, Verdict,
};

fn set_name() -> impl Strategy<Value = String> {
    "[a-z_]{1,30}"
}

fn address_test() -> impl Strategy<Value = AddressTest> {
    prop_oneof![
        any::<IpAddr>().prop_map(AddressTest::Is),
        any::<IpAddr>().prop_map(AddressTest::IsNot),
        (family(), set_name()).prop_map(|(family, set)| AddressTest::In(family, set)),
        (family(), set_name()).prop_map(|(family, set)| AddressTest::NotIn(family, set)),
    ]
}

fn port_test() -> impl Strategy<Value = PortTest> {
    prop_oneof![
        any::<u16>().prop_map(PortTest::Is),
        any::<u16>().prop_map(PortTest::IsNot),
        set_name().prop_map(PortTest::In),
        set_name().prop_map(PortTest::NotIn),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn interface() -> impl Strategy<Value = InterfaceName> {
    "[a-z0-9._@-]{1,14}[a-z0-9+]".prop_filter_map("a name", |name| InterfaceName::new(&name))
}

fn condition() -> impl Strategy<Value = Match> {
    prop_oneof![
        family().prop_map(Match::Family),
        Just(Match::InLoopback),
        Just(Match::OutLoopback),
        interface().prop_map(Match::InInterface),
        interface().prop_map(Match::OutInterface),
        protocol().prop_map(Match::Protocol),
        address_test().prop_map(Match::Source),
        address_test().prop_map(Match::Destination),
        (protocol(), port_test())
            .prop_map(|(protocol, test)| Match::DestinationPort(protocol, test)),
        (protocol(), port_test()).prop_map(|(protocol, test)| Match::SourcePort(protocol, test)),
        set_name().prop_map(Match::OwnerUid),
        set_name().prop_map(Match::OwnerGid),
        set_name().prop_map(Match::NotOwnerGid),
        any::<u32>().prop_map(Match::Mark),
        any::<u32>().prop_map(Match::NotMark),
        any::<u32>().prop_map(Match::ConnectionMark),
        any::<u32>().prop_map(Match::NotConnectionMark),
        Just(Match::Original),
        Just(Match::Established),
        Just(Match::Invalid),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let verdict = prop_oneof![
        Just(Verdict::Return),
        Just(Verdict::Drop),
        (1u16..).prop_map(|port| Verdict::Redirect(Port::new(port).unwrap())),
        (1u16.., any::<u32>()).prop_map(|(port, mark)| Verdict::Tproxy {
            port: Port::new(port).unwrap(),
            mark,
        }),
        any::<u32>().prop_map(Verdict::SetMark),
        Just(Verdict::RestoreMark),
        Just(Verdict::SaveMark),
        any::<u16>().prop_map(Verdict::Zone),
    ];
    (
        "[a-z0-9/-]{1,127}",
        prop::collection::vec(condition(), 0..6),
        verdict,
    )
        .prop_map(|(key, matches, verdict)| Rule {
            key,
            matches,
            verdict,
        })
}

/// Runs `test` in a fresh network namespace, which ends with it.
fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("a network namespace needs root");
            test()
        });
        inside.join().unwrap()
    })
}

/// A table of one rule.
fn table_of(rule: Rule) -> Ruleset {
    Ruleset {
        sets: Vec::new(),
        chains: vec![Chain {
            hook: Hook::NatOutput,
            rules: vec![rule],
        }],
    }
}

#[test]
fn a_refused_message_is_named_and_nothing_of_its_batch_is_done() {
    let error = in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let before = nft.read().unwrap();
        let broken = table_of(Rule {
            key: "my/key".to_owned(),
            matches: vec![Match::OwnerUid("no_such_set".to_owned())],
            verdict: Verdict::Return,
        });
        let error = nft.replace(&before, &broken, broken.mark()).unwrap_err();
        let after = nft.read().unwrap();
        assert!(matches!(after.table, Table::Absent));
        assert_eq!(after.generation, before.generation);
        error
    });
    assert!(matches!(error, KernelError::Refused { .. }));
    assert_eq!(error.cause(), Cause::KernelLacks);
    let text = error.to_string();
    let named = "cannot add rule my/key to chain nat_output of table inet shunt: ENOENT";
    assert!(text.starts_with(named), "{text}");
    assert!(text.contains("modprobe"), "{text}");
}

#[test]
fn a_batch_for_an_older_generation_does_nothing() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let old = nft.read().unwrap();
        let empty = Ruleset::default();
        assert!(nft.replace(&old, &empty, empty.mark()).unwrap());
        let new = nft.read().unwrap();
        assert!(!nft.replace(&old, &empty, empty.mark()).unwrap());
        assert!(!nft.delete(&old).unwrap());
        assert_eq!(nft.read().unwrap().generation, new.generation);
        assert!(nft.delete(&new).unwrap());
    });
}

/// A rule's attributes as they cross netlink.
fn wire(rule: &Rule) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.string(rule_abi::CHAIN, "nat_output");
    writer.nest(rule_abi::EXPRESSIONS, |list| {
        for expression in expressions(rule) {
            expression.write(list);
        }
    });
    writer.comment(rule_abi::USERDATA, &rule.key);
    writer.into_bytes()
}

proptest! {
    #[test]
    fn every_rule_reads_back_as_written(rule in any_rule()) {
        let listed = decode::rule(Attributes::new(&wire(&rule))).unwrap();
        prop_assert_eq!(listed.key, rule.key.clone());
        prop_assert_eq!(listed.rule, Ok(rule));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _rule = decode::rule(Attributes::new(&bytes));
        let _chain = decode::chain(Attributes::new(&bytes));
        let _set = decode::set(Attributes::new(&bytes));
        let _elements = decode::set_elements(Attributes::new(&bytes), &mut Vec::new());
    }

    #[test]
    fn any_expressions_in_any_order_are_judged_without_panic(
        rules in prop::collection::vec(any_rule(), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let pool: Vec<Expr> = rules.iter().flat_map(expressions).collect();
        let list: Vec<Expr> = order.iter().map(|index| pool[index.index(pool.len())].clone()).collect();
        if let Ok(rule) = decode::meaning("key", &list) {
            // What is understood is understood right: it encodes to the same expressions.
            prop_assert_eq!(expressions(&rule), list);
        }
    }
}
