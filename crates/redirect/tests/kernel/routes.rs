//! TPROXY's policy routing: what is drift is healed, what is somebody else's is refused.

use shunt_redirect::error::Cause;
use shunt_redirect::{apply, remove};

use crate::cases::named;
use crate::support::{everything, in_pod, ip};

const POLICY: &str = "tproxy_with_everything";
const WANTED: &str = "local default dev lo";

#[test]
fn a_default_route_of_another_program_is_refused_and_nothing_is_changed() {
    in_pod(|| {
        ip("route add unreachable default table 133");
        let before = everything();
        let error = apply(&named(POLICY)).unwrap_err();
        assert_eq!(error.cause(), Cause::Conflict, "{error}");
        assert!(
            error.to_string().contains("table that nobody uses"),
            "{error}"
        );
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_route_of_ours_that_was_replaced_is_put_right() {
    in_pod(|| {
        apply(&named(POLICY)).unwrap();
        for family in ["", "-6 "] {
            ip(&format!("{family}route del local default dev lo table 133"));
            ip(&format!(
                "{family}route add blackhole default table 133 metric 1024"
            ));
        }
        apply(&named(POLICY)).unwrap();
        for family in ["", "-6 "] {
            let routes = ip(&format!("{family}route show table 133"));
            assert!(routes.contains(WANTED), "{routes}");
        }
        remove().unwrap();
        for family in ["", "-6 "] {
            let routes = ip(&format!("{family}route show table all"));
            assert!(!routes.contains("table 133 proto 83"), "{routes}");
        }
    });
}
