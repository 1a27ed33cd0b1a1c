//! Applying twice, after tampering, beside others' rules, and removing without a trace.

use shunt_redirect::Change;
use shunt_redirect::remove;

use super::{FLAVOURS, applied, saved};
use crate::support::{INJECTOR, everything, in_pod, policy};

#[test]
fn a_second_run_changes_nothing_and_remove_leaves_nothing() {
    for flavour in FLAVOURS {
        in_pod(|| {
            let before = everything();
            let config = policy(&INJECTOR);
            assert_eq!(applied(&config, flavour).change, Change::Created);
            let state = (everything(), saved(flavour));
            assert_eq!(applied(&config, flavour).change, Change::Unchanged);
            assert_eq!((everything(), saved(flavour)), state);
            let removed = remove().unwrap();
            assert_eq!(removed.iptables, [flavour]);
            assert!(!saved(flavour).contains("SHUNT"), "{}", saved(flavour));
            assert_eq!(everything(), before);
        });
    }
}
