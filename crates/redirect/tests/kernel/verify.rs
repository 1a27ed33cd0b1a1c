//! Rules that are proved by packets.

use std::time::Duration;

use shunt_redirect::verify::{Options, Proof, verify};
use shunt_redirect::{Backend, apply};

use crate::support::{INJECTOR, everything, in_pod, nft, policy};

/// A machine that is busy with other tests shall not decide.
pub(crate) fn unhurried() -> Options {
    Options {
        timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

/// Legs that are not proved live, by key.
pub(crate) fn not_live(report: &shunt_redirect::verify::Report) -> Vec<String> {
    let legs = report.legs.iter();
    legs.filter(|leg| leg.proof != Proof::Live)
        .map(|leg| format!("{leg}"))
        .collect()
}

#[test]
fn the_default_policy_is_proved_by_packets_and_nothing_is_left() {
    in_pod(|| {
        let applied = apply(&policy(&INJECTOR)).unwrap();
        let before = everything();
        let report = verify(&applied.plan, Backend::Nft, &unhurried()).unwrap();
        // Whatever goes to a loopback address leaves by lo, which another rule is for.
        let expected = [
            "read back  loopback addresses pass IPv4 (outbound/loopback-v4): no packet of a probe \
             is decided on by it: other rules come first",
            "read back  loopback addresses pass IPv6 (outbound/loopback-v6): no packet of a probe \
             is decided on by it: other rules come first",
        ];
        assert_eq!(not_live(&report), expected);
        assert_eq!(report.count(), [23, 2, 0, 0]);
        let counters = without_counts(&everything());
        assert_eq!(counters, without_counts(&before));
    });
}

/// Without the counters' values.
fn without_counts(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let counted = |index: usize| index > 0 && matches!(words[index - 1], "packets" | "bytes");
    let kept = words.iter().enumerate();
    let kept: Vec<&str> = kept
        .filter(|(index, _)| !counted(*index))
        .map(|(_, word)| *word)
        .collect();
    kept.join(" ")
}

/// How many legs are live, and the keys of those that are read back.
fn proved(arguments: &[&str]) -> (usize, Vec<String>) {
    let applied = apply(&policy(arguments)).unwrap();
    let report = verify(&applied.plan, Backend::Nft, &unhurried()).unwrap();
    let [live, _, not_proved, failed] = report.count();
    assert_eq!((not_proved, failed), (0, 0), "{:#?}", not_live(&report));
    let legs = report.legs.iter();
    let read_back = legs.filter(|leg| matches!(leg.proof, Proof::ReadBack { .. }));
    (live, read_back.map(|leg| leg.key.clone()).collect())
}

#[test]
fn every_rule_of_tproxy_dns_and_drop_invalid_is_proved_by_packets() {
    in_pod(|| {
        let arguments = [
            "-m",
            "TPROXY",
            "-i",
            "*",
            "-b",
            "*",
            "-d",
            "15090,15021,15020",
            "--drop-invalid",
            "--redirect-dns",
            "--capture-all-dns",
        ];
        assert_eq!(proved(&arguments), (63, vec!["policy-routing".to_owned()]));
    });
}

#[test]
fn rules_for_interfaces_are_read_back_and_all_others_proved_by_packets() {
    in_pod(|| {
        let arguments = [
            "-i",
            "10.96.0.0/12,fd00:96::/108",
            "-b",
            "*",
            "-x",
            "10.97.0.0/16",
            "-q",
            "25",
            "-o",
            "9000:9010,443",
            "-c",
            "eth1",
            "-k",
            "vnet0",
        ];
        let (live, mut read_back) = proved(&arguments);
        read_back.dedup();
        let expected = [
            "reroute/include-cidrs-v4:vnet0",
            "reroute/include-cidrs-v6:vnet0",
            "reroute/interface:vnet0",
            "inbound/exclude-interface:eth1",
            "outbound/exclude-interface:eth1",
            "outbound/loopback-v4",
            "outbound/loopback-v6",
        ];
        assert_eq!(
            (live, &read_back[..]),
            (28, &expected.map(str::to_owned)[..])
        );
    });
}

#[test]
fn ipv6_that_is_switched_off_is_proved_to_pass() {
    in_pod(|| {
        let (live, read_back) = proved(&["-i", "*", "-b", "*", "--ipv6", "never"]);
        assert_eq!(
            (live, read_back),
            (12, vec!["outbound/loopback-v4".to_owned()])
        );
    });
}

#[test]
fn whatever_else_is_in_our_table_is_no_part_of_the_plan() {
    for (added, told) in [
        (
            "add counter inet shunt mine",
            "an object that Shunt does not write: mine",
        ),
        (
            "add chain inet shunt mine",
            "a chain that Shunt does not write: mine",
        ),
        ("add set inet shunt mine { type mark; }", "set mine"),
    ] {
        in_pod(|| {
            let applied = apply(&policy(&INJECTOR)).unwrap();
            nft(added);
            let report = verify(&applied.plan, Backend::Nft, &unhurried()).unwrap();
            let failed: Vec<_> = report.failed().map(ToString::to_string).collect();
            assert_eq!(failed.len(), 1, "{failed:#?}");
            assert!(failed[0].contains("(no-other-rule)"), "{failed:#?}");
            assert!(failed[0].contains(told), "{failed:#?}");
        });
    }
}
