//! Applying twice, after tampering, beside other tables, and removing without a trace.

use shunt_abi::rule;
use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::error::{ApplyError, Cause, Conflict, RemoveError};
use shunt_redirect::nft as kernel;
use shunt_redirect::routing::InboundSource;
use shunt_redirect::{Change, apply, remove};

use crate::support::{
    INJECTOR, everything, generation, in_namespace, in_pod, ip, listed, nft, output, policy,
};

#[test]
fn a_second_run_changes_nothing() {
    in_pod(|| {
        let config = policy(&[
            "-i",
            "10.0.0.0/8,fd00::/8",
            "-b",
            "80",
            "-o",
            "53",
            "-u",
            "1,2",
        ]);
        let first = apply(&config).unwrap();
        assert_eq!(first.change, Change::Created);
        assert_eq!(first.ipv6, Some(InboundSource::Added));
        let (before, state) = (generation(), everything());
        let second = apply(&config).unwrap();
        assert_eq!(second.change, Change::Unchanged);
        assert_eq!(second.ipv6, Some(InboundSource::Present));
        assert_eq!(second.plan, first.plan);
        assert_eq!(generation(), before, "nothing was written");
        assert_eq!(everything(), state);
    });
}

#[test]
fn another_policy_replaces_the_first_in_one_transaction() {
    in_pod(|| {
        apply(&policy(&INJECTOR)).unwrap();
        let before = generation();
        let other = apply(&policy(&["-i", "10.0.0.0/8", "-b", "80"])).unwrap();
        assert!(matches!(other.change, Change::Replaced { .. }), "{other:?}");
        assert_eq!(generation(), before + 1);
    });
}

#[test]
fn whatever_was_tampered_with_is_healed() {
    in_pod(|| {
        let config = policy(&[
            "-i",
            "10.0.0.0/8,fd00::/8",
            "-b",
            "*",
            "-d",
            "15020,15090",
            "-o",
            "53",
        ]);
        apply(&config).unwrap();
        let intact = listed();
        for (tampering, expected) in [
            (
                "flush chain inet shunt nat_output",
                "outbound/exclude-ports-tcp is missing",
            ),
            ("insert rule inet shunt nat_output accept", "holds"),
            (
                "insert rule inet shunt nat_output counter return",
                "outbound/exclude-ports-tcp differs",
            ),
            (
                "add rule inet shunt nat_output counter return",
                "more rules",
            ),
            (
                "add rule inet shunt nat_prerouting ct state new counter return",
                "prerouting holds",
            ),
            ("add element inet shunt proxy_uids { 1000 }", "sets differ"),
            (
                "delete element inet shunt inbound_exclude_ports { 15090 }",
                "sets differ",
            ),
            (
                "add chain inet shunt mine",
                "chain that Shunt does not write: mine",
            ),
            ("add set inet shunt mine { type mark; }", "set mine"),
            (
                "add counter inet shunt mine",
                "an object that Shunt does not write: mine",
            ),
            (
                "add quota inet shunt much { over 1 mbytes }",
                "an object that Shunt does not write: much",
            ),
            (
                "add map inet shunt way { type ipv4_addr : verdict; }",
                "set way",
            ),
            (
                "add chain inet shunt mangle_output { type route hook output priority -150; }",
                "a chain mangle_output without a rule",
            ),
            ("add table inet shunt { flags dormant; }", "dormant"),
            ("chain inet shunt nat_output { policy drop; }", "nat_output"),
        ] {
            nft(tampering);
            assert_ne!(listed(), intact, "{tampering} has an effect");
            let healed = apply(&config).unwrap();
            assert_eq!(listed(), intact, "{tampering} is healed");
            match healed.change {
                Change::Replaced { difference } => {
                    assert!(difference.contains(expected), "{tampering}: {difference}");
                }
                other => panic!("{tampering}: {other:?}"),
            }
        }
    });
}

#[test]
fn rules_in_another_order_are_put_right() {
    in_pod(|| {
        apply(&policy(&INJECTOR)).unwrap();
        let intact = listed();
        let lines = output(
            "nft",
            &["-a", "list", "chain", "inet", "shunt", "nat_prerouting"],
        );
        let first = lines
            .lines()
            .find(|line| line.contains(rule::INBOUND_TUNNEL))
            .unwrap();
        let handle = first.rsplit(' ').next().unwrap();
        nft(&format!(
            "delete rule inet shunt nat_prerouting handle {handle}"
        ));
        nft(&format!(
            "add rule inet shunt nat_prerouting tcp dport 15008 counter return comment \"{}\"",
            rule::INBOUND_TUNNEL
        ));
        assert_ne!(listed(), intact);
        apply(&policy(&INJECTOR)).unwrap();
        assert_eq!(listed(), intact);
    });
}

/// Tables of other programs, with things that Shunt does not know.
fn foreign_tables() {
    nft("add table inet other { comment \"not ours\"; }");
    nft("add map inet other m { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept }; }");
    nft("add chain inet other c { type filter hook output priority 0; }");
    nft("add rule inet other c ct state established limit rate 5/second log accept");
    nft("add table ip shunt");
    let iptables =
        "-t nat -A OUTPUT -p tcp -m owner --uid-owner 7 -m comment --comment x -j RETURN";
    output("iptables-nft", &iptables.split(' ').collect::<Vec<_>>());
    let iptables = "-t mangle -A PREROUTING -p tcp -m socket -j MARK --set-mark 1";
    output("iptables-nft", &iptables.split(' ').collect::<Vec<_>>());
}

#[test]
fn remove_leaves_everything_as_it_was_beside_foreign_tables() {
    in_pod(|| {
        foreign_tables();
        ip("rule add fwmark 7 table 77");
        let before = everything();
        apply(&policy(&INJECTOR)).unwrap();
        assert_eq!(apply(&policy(&INJECTOR)).unwrap().change, Change::Unchanged);
        assert_ne!(everything(), before);
        let removed = remove().unwrap();
        assert!(removed.table && removed.inbound_source);
        assert_eq!(everything(), before);
        let again = remove().unwrap();
        assert!(!again.table && !again.inbound_source);
        assert_eq!(everything(), before);
    });
}

#[test]
fn an_inbound_source_that_was_there_stays() {
    in_pod(|| {
        // Else it is tentative for a while, and shown so.
        ip("addr add ::6/128 dev lo nodad");
        let before = everything();
        assert_eq!(
            apply(&policy(&INJECTOR)).unwrap().ipv6,
            Some(InboundSource::Present)
        );
        assert!(!remove().unwrap().inbound_source);
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_run_that_died_between_address_and_rules_is_continued_and_leaves_no_trace() {
    in_pod(|| {
        let before = everything();
        for finish_by_apply in [true, false] {
            apply(&policy(&INJECTOR)).unwrap();
            nft("delete table inet shunt");
            assert!(ip("-6 addr show dev lo").contains("::6/128"));
            if finish_by_apply {
                let applied = apply(&policy(&INJECTOR)).unwrap();
                assert_eq!(applied.ipv6, Some(InboundSource::Present));
            }
            assert!(remove().unwrap().inbound_source);
            assert_eq!(everything(), before);
        }
    });
}

#[test]
fn switching_ipv6_off_takes_the_inbound_source_away() {
    in_pod(|| {
        apply(&policy(&INJECTOR)).unwrap();
        let off = [&INJECTOR[..], &["--ipv6", "never"]].concat();
        let applied = apply(&policy(&off)).unwrap();
        assert_eq!(applied.ipv6, None);
        assert!(!ip("-6 addr show dev lo").contains("::6/128"));
        assert!(listed().contains(rule::OUTBOUND_IPV6_OFF));
    });
}

#[test]
fn a_table_of_the_same_name_that_is_not_ours_is_refused_and_left_alone() {
    for (made, newer) in [
        ("add table inet shunt", false),
        ("add table inet shunt { comment \"mine\"; }", false),
        (
            "add table inet shunt { comment \"shunt schema=2 digest=00\"; }",
            true,
        ),
    ] {
        in_pod(|| {
            nft(made);
            nft("add chain inet shunt c { type filter hook output priority 0; }");
            let before = everything();
            let refused = apply(&policy(&INJECTOR)).unwrap_err();
            assert_eq!(refused.cause(), Cause::Conflict);
            match refused {
                ApplyError::Conflict(Conflict::Newer { found: 2 }) => assert!(newer),
                ApplyError::Conflict(Conflict::Foreign { .. }) => assert!(!newer),
                other => panic!("{made}: {other}"),
            }
            let refused = remove().unwrap_err();
            assert!(matches!(refused, RemoveError::Conflict(_)), "{refused}");
            assert_eq!(kernel::list().unwrap_err().cause(), Cause::Conflict);
            assert_eq!(everything(), before);
        });
    }
}

#[test]
fn a_pod_with_ipv6_disabled_is_no_error() {
    in_pod(|| {
        output("sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
        let before = everything();
        let applied = apply(&policy(&INJECTOR)).unwrap();
        assert_eq!(applied.ipv6, None);
        remove().unwrap();
        assert_eq!(everything(), before);
    });
}

#[test]
fn ipv6_disabled_on_lo_alone_is_told_and_the_rest_is_captured() {
    in_pod(|| {
        output("sysctl", &["-qw", "net.ipv6.conf.lo.disable_ipv6=1"]);
        let applied = apply(&policy(&INJECTOR)).unwrap();
        assert_eq!(applied.ipv6, Some(InboundSource::Ipv6DisabledOnLo));
        assert!(!listed().contains(rule::OUTBOUND_IPV6_OFF));
    });
}

#[test]
fn a_namespace_without_any_table_lists_nothing() {
    in_namespace(|| {
        assert_eq!(kernel::list().unwrap(), None);
        let removed = remove().unwrap();
        assert!(!removed.table && !removed.inbound_source);
    });
}

#[test]
fn counters_are_read_by_key() {
    in_namespace(|| {
        apply(&policy(&["-i", "*", "-b", "*"])).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        }
        let installed = kernel::list().unwrap().unwrap();
        let passed = installed.rule(rule::LOOPBACK_INTERFACE).unwrap();
        assert_eq!((passed.chain.as_str(), passed.packets), ("nat_output", 3));
        assert!(passed.bytes >= 3 * 40);
        assert_eq!(installed.rule(rule::OUTBOUND_CAPTURE).unwrap().packets, 0);
        assert_eq!(installed.rule("no such rule"), None);
    });
}

#[test]
fn ten_thousand_blocks_go_in_one_transaction_and_are_recognised() {
    in_pod(|| {
        let blocks: Vec<_> = (0..10_000u32)
            .map(|n| {
                format!(
                    "{}/30,fd00:{:x}::/64",
                    std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 8),
                    n * 2
                )
            })
            .collect();
        let config = policy(&["-i", "*", "-b", "*", "-x", &blocks.join(",")]);
        let before = generation();
        assert_eq!(apply(&config).unwrap().change, Change::Created);
        assert_eq!(generation(), before + 1);
        assert_eq!(apply(&config).unwrap().change, Change::Unchanged);
    });
}

#[test]
fn writers_at_the_same_time_end_in_one_of_their_policies() {
    in_pod(|| {
        let policies = [policy(&INJECTOR), policy(&["-i", "10.0.0.0/8", "-b", "80"])];
        std::thread::scope(|scope| {
            for config in &policies {
                // A thread starts in the namespace of the one that made it.
                scope.spawn(move || {
                    for _ in 0..30 {
                        apply(config).unwrap();
                    }
                });
            }
        });
        let left = kernel::list().unwrap().unwrap();
        let plans = policies.map(|config| apply(&config).unwrap().plan.ruleset);
        assert!(plans.iter().any(|plan| plan.mark() == left.mark));
        assert!(
            plans
                .iter()
                .any(|plan| plan.rule_count() == left.rules.len())
        );
    });
}

#[test]
fn a_policy_that_contradicts_itself_is_refused_by_every_backend_and_changes_nothing() {
    in_pod(|| {
        let before = everything();
        for (choice, _) in BackendChoice::ALL {
            let mut config = policy(&INJECTOR);
            config.inbound.port = config.outbound.port;
            let refused = backend::apply(&config, choice).unwrap_err();
            assert_eq!(refused.cause(), Cause::Invalid, "{choice}: {refused}");
            let text = refused.to_string();
            assert!(text.contains("inbound.port"), "{text}");
            assert!(text.contains("needs a port of its own"), "{text}");
        }
        assert_eq!(everything(), before);
    });
}

#[test]
fn of_a_set_that_differs_in_much_only_a_little_is_told() {
    in_pod(|| {
        let blocks = |net: u8| -> String {
            let blocks: Vec<_> = (0..40).map(|n| format!("10.{net}.{n}.0/28")).collect();
            blocks.join(",")
        };
        apply(&policy(&["-i", "*", "-b", "*", "-x", &blocks(1)])).unwrap();
        let replaced = apply(&policy(&["-i", "*", "-b", "*", "-x", &blocks(2)])).unwrap();
        assert_eq!(
            replaced.change,
            Change::Replaced {
                difference: "the sets differ: set outbound_exclude_v4 lacks 10.2.0.0/28 and 39 \
                             more, and has 10.1.0.0/28 and 39 more"
                    .to_owned()
            }
        );
    });
}
