//! Rules that are proved by packets.

use shunt_redirect::apply;
use shunt_redirect::verify::{Options, Proof, verify};

use crate::support::{INJECTOR, everything, in_pod, policy};

/// Legs that are not proved live, by key.
fn not_live(report: &shunt_redirect::verify::Report) -> Vec<String> {
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
        let report = verify(&applied.plan, &Options::default()).unwrap();
        // Whatever goes to a loopback address leaves by lo, which another rule is for.
        let expected = [
            "read back  loopback addresses pass IPv4 (outbound/loopback-v4): no packet of a probe \
             is decided on by it: other rules come first",
            "read back  loopback addresses pass IPv6 (outbound/loopback-v6): no packet of a probe \
             is decided on by it: other rules come first",
        ];
        assert_eq!(not_live(&report), expected);
        assert_eq!(report.count(), [22, 2, 0, 0]);
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
