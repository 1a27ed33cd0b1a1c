//! Looking changes nothing, not even the generation of the rules.

use shunt_redirect::apply;
use shunt_redirect::preflight::{Preflight, State, preflight};

use crate::support::{INJECTOR, everything, generation, in_pod, nft, policy};

#[test]
fn a_table_that_was_put_to_sleep_or_changed_is_not_good() {
    for (drift, words) in [
        (
            "add table inet shunt { flags dormant; }",
            "the table is dormant",
        ),
        (
            "add rule inet shunt nat_output accept",
            "a match that Shunt does not write",
        ),
    ] {
        in_pod(|| {
            apply(&policy(&INJECTOR)).unwrap();
            nft(drift);
            let found = preflight();
            let of_table = |found: &Preflight| {
                let finding = found.findings.iter();
                let finding = finding
                    .into_iter()
                    .find(|of| of.check == "table inet shunt");
                let finding = finding.unwrap();
                (finding.state, finding.text.clone())
            };
            let (state, text) = of_table(&found);
            assert_eq!((state, found.cause()), (State::Note, None), "{text}");
            assert!(text.contains(words), "{text}");
            assert!(text.contains("a run puts it right"), "{text}");
            apply(&policy(&INJECTOR)).unwrap();
            assert_eq!(of_table(&preflight()).0, State::Good);
        });
    }
}

#[test]
fn a_rehearsal_leaves_the_rules_of_their_generation() {
    in_pod(|| {
        for ours in [false, true] {
            if ours {
                apply(&policy(&INJECTOR)).unwrap();
            }
            let (before, state) = (generation(), everything());
            let found = preflight();
            assert_eq!(found.cause(), None, "{found:#?}");
            assert_eq!((generation(), everything()), (before, state));
        }
    });
}
