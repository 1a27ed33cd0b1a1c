//! Rules are proved beside a firewall of the pod: what it drops behind ours is none of our rules'
//! failures; what it takes before them is.

use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::verify::{Leg, Options, Proof, Report, verify};
use shunt_redirect::{Applied, Backend};

use crate::support::{INJECTOR, in_pod, nft, nft_file, output, policy};
use crate::verify::unhurried;

const BACKENDS: [BackendChoice; 3] = [
    BackendChoice::Nft,
    BackendChoice::IptablesNft,
    BackendChoice::IptablesLegacy,
];

const TPROXY: [&str; 8] = ["-m", "TPROXY", "-i", "*", "-b", "*", "-d", "15020"];

fn proved(applied: &Applied) -> Report {
    verify(&applied.plan, applied.backend, &unhurried()).unwrap()
}

fn proved_once(applied: &Applied) -> Report {
    let options = Options {
        attempts: 1,
        ..unhurried()
    };
    verify(&applied.plan, applied.backend, &options).unwrap()
}

/// Legs that are read back because of others' rules, and why.
fn hidden(report: &Report) -> Vec<(&Leg, &str)> {
    let legs = report.legs.iter();
    legs.filter_map(|leg| match &leg.proof {
        Proof::ReadBack { why } if why.contains("others' rules") => Some((leg, why.as_str())),
        _ => None,
    })
    .collect()
}

fn failures(report: &Report) -> Vec<String> {
    report.failed().map(ToString::to_string).collect()
}

/// What holds in each backend: nothing fails, and these legs name who dropped their packets.
fn check_hidden(rules: &str, who: &str, expected: &[&str]) {
    for choice in BACKENDS {
        in_pod(|| {
            nft_file(rules);
            let applied = backend::apply(&policy(&INJECTOR), choice).unwrap();
            let report = proved(&applied);
            let failures = failures(&report);
            assert!(failures.is_empty(), "{choice}: {failures:#?}");
            let hidden = hidden(&report);
            for key in expected {
                let why = hidden.iter().find(|(leg, _)| leg.key == *key);
                let (_, why) = why.unwrap_or_else(|| panic!("{choice}, {key}: {report:#?}"));
                assert!(why.contains(who), "{why}");
            }
        });
    }
}

#[test]
fn a_firewall_that_drops_what_nobody_asked_for_is_named_and_is_no_failure() {
    // As firewalld writes it: what is established and what is on lo passes, all else does not.
    check_hidden(
        "table inet firewalld {
            chain filter_INPUT {
                type filter hook input priority 10; policy drop;
                ct state established,related accept
                iifname \"lo\" accept
                ct state invalid drop
                reject with icmpx admin-prohibited
            }
        }",
        "chain filter_INPUT of table inet firewalld (filter, hook input, priority 10)",
        &[
            "inbound/capture",
            "inbound/tunnel-port",
            "inbound/exclude-ports",
        ],
    );
}

#[test]
fn a_chain_that_drops_by_the_name_of_the_link_is_named_and_is_no_failure() {
    check_hidden(
        "table inet cni {
            chain out { type filter hook output priority 0; oifname != { \"lo\", \"eth0\" } drop; }
            chain in { type filter hook input priority 0; iifname \"shunt-probe*\" drop; }
        }",
        "of table inet cni",
        &["inbound/capture", "outbound/proxy-uid"],
    );
}

#[test]
fn a_chain_that_drops_the_sources_of_probes_is_named_and_is_no_failure() {
    check_hidden(
        "table ip source-guard {
            chain post { type filter hook postrouting priority 0; ip saddr 192.0.2.0/24 drop; }
        }
        table ip6 source-guard {
            chain post { type filter hook postrouting priority 0; ip6 saddr 2001:db8::/32 drop; }
        }",
        "chain post of table ip",
        &["outbound/capture", "outbound/proxy-uid"],
    );
}

#[test]
fn a_firewall_in_legacy_tables_is_named_too() {
    in_pod(|| {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            let words = "-t filter -A INPUT -i shunt-probe -j DROP";
            output(program, &words.split(' ').collect::<Vec<_>>());
        }
        for choice in BACKENDS {
            let applied = backend::apply(&policy(&INJECTOR), choice).unwrap();
            let report = proved(&applied);
            assert!(report.failed().next().is_none(), "{choice}: {report:#?}");
            let hidden = hidden(&report);
            let inbound = hidden
                .iter()
                .filter(|(leg, _)| leg.key == "inbound/capture");
            assert_eq!(inbound.clone().count(), 2, "{report:#?}");
            for (_, why) in inbound {
                assert!(
                    why.contains("chain INPUT of table filter of iptables-legacy"),
                    "{why}"
                );
            }
        }
    });
}

#[test]
fn the_conversations_of_tproxy_are_read_back_behind_a_firewall() {
    for choice in BACKENDS {
        in_pod(|| {
            nft_file(
                "table inet firewalld { chain filter_INPUT {
                    type filter hook input priority 10; iifname \"shunt-probe*\" drop;
                    ip saddr { 192.0.2.0/24, 203.0.113.0/24 } drop;
                    ip6 saddr 2001:db8::/32 drop; }; }",
            );
            let applied = backend::apply(&policy(&TPROXY), choice).unwrap();
            let report = proved(&applied);
            let failures = failures(&report);
            assert!(failures.is_empty(), "{choice}: {failures:#?}");
            let hidden = hidden(&report);
            for key in [
                "tproxy/capture",
                "tproxy/captured",
                "tproxy/established",
                "tproxy/app-to-proxy",
            ] {
                let legs = hidden.iter().filter(|(leg, _)| leg.key == key);
                assert_eq!(legs.count(), 2, "{choice}, {key}: {report:#?}");
            }
        });
    }
}

#[test]
fn what_others_drop_before_our_rules_fails_and_names_them() {
    for choice in BACKENDS {
        in_pod(|| {
            nft_file(
                "table inet early {
                    chain pre { type filter hook prerouting priority -310; iifname \"shunt-probe\" drop; }
                    chain out { type filter hook output priority -310; ip daddr 198.51.100.0/24 drop; }
                }",
            );
            let applied = backend::apply(&policy(&INJECTOR), choice).unwrap();
            let report = proved_once(&applied);
            for (key, who) in [
                (
                    "inbound/capture",
                    "chain pre of table inet early (filter, hook prerouting",
                ),
                (
                    "outbound/capture",
                    "chain out of table inet early (filter, hook output",
                ),
            ] {
                let leg = report.failed().find(|leg| leg.key == key);
                let leg = leg
                    .unwrap_or_else(|| panic!("{choice}: {report:#?}"))
                    .to_string();
                assert!(
                    leg.contains(&format!("rule {key} did not count it")),
                    "{leg}"
                );
                assert!(leg.contains(who), "{leg}");
            }
        });
    }
}

#[test]
fn what_others_redirect_before_our_rules_fails_and_names_them() {
    for choice in BACKENDS {
        in_pod(|| {
            nft_file(
                "table ip thief { chain c { type nat hook output priority -150; \
                 ip daddr 198.51.100.0/24 tcp dport != 15001 redirect to :9; }; }",
            );
            let applied = backend::apply(&policy(&INJECTOR), choice).unwrap();
            let report = proved_once(&applied);
            let leg = report.failed().find(|leg| leg.key == "outbound/capture");
            let leg = leg
                .unwrap_or_else(|| panic!("{choice}: {report:#?}"))
                .to_string();
            assert!(leg.contains("it went to port 9"), "{leg}");
            assert!(
                leg.contains("chain c of table ip thief (nat, hook output, priority -150)"),
                "{leg}"
            );
        });
    }
}

#[test]
fn a_firewall_excuses_no_rule_that_is_missing() {
    in_pod(|| {
        nft_file(
            "table inet firewalld { chain filter_INPUT {
                type filter hook input priority 10; policy drop; }; }",
        );
        let applied = backend::apply(&policy(&INJECTOR), BackendChoice::Nft).unwrap();
        assert_eq!(applied.backend, Backend::Nft);
        nft("flush chain inet shunt nat_output");
        let failures = failures(&proved_once(&applied));
        let named = |key: &str| failures.iter().any(|leg| leg.contains(key));
        assert!(named("(outbound/capture)"), "{failures:#?}");
        let seen = failures
            .iter()
            .find(|leg| leg.contains("(outbound/capture)"));
        assert!(seen.unwrap().contains("did not count it"), "{failures:#?}");
    });
}
