//! Looking changes nothing, not even the generation of the rules.

use shunt_redirect::apply;
use shunt_redirect::preflight::preflight;

use crate::support::{INJECTOR, everything, generation, in_pod, policy};

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
