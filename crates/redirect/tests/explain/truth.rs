//! What Istio's sidecar rules do to a flow, as seen in the kernel: tables that any backend's rules
//! must satisfy.

use shunt_redirect::explain::{Flow, Protocol};

use crate::support::{APP, POD, PROXY, arrives, from, opens, sends};

/// With the injector's defaults, REDIRECT.
pub(crate) fn redirect() -> Vec<(Flow, &'static str)> {
    vec![
        (opens(APP, "10.9.0.7", 80), "15001"),
        (opens(PROXY, "10.9.0.7", 80), "passes"),
        (arrives(POD, 8080), "15006"),
        (opens(APP, "127.0.0.1", 8080), "passes"),
        (opens(APP, POD, 8080), "passes"),
        (opens(PROXY, POD, 8080), "15006"),
        (opens(PROXY, "127.0.0.1", 8080), "passes"),
        (from(opens(PROXY, POD, 8080), "127.0.0.6"), "passes"),
        (opens(PROXY, POD, 15008), "passes"),
        (opens(APP, "127.0.0.2", 8080), "passes"),
        // Beside the table.
        (arrives(POD, 15008), "passes"),
        (arrives(POD, 15090), "passes"),
        (sends(Protocol::Udp, APP, "10.9.0.7", 443), "passes"),
        (sends(Protocol::Other(1), APP, "10.9.0.7", 0), "passes"),
        (opens(APP, "fd00:9::7", 80), "15001"),
        (arrives("fd00:9::2", 8080), "15006"),
        (opens(PROXY, "fd00:9::2", 8080), "15006"),
        (from(opens(PROXY, "fd00:9::2", 8080), "::6"), "passes"),
        (opens(APP, "::1", 8080), "passes"),
    ]
}

/// The same with TPROXY. The proxy's ids are a group's only: it runs as root.
pub(crate) fn tproxy() -> Vec<(Flow, &'static str)> {
    let proxy = (0, 1337);
    let marked = |mut flow: Flow| {
        flow.mark = 1337;
        flow
    };
    vec![
        (opens(APP, "10.9.0.7", 80), "15001"),
        (opens(proxy, "10.9.0.7", 80), "passes"),
        (arrives(POD, 8080), "tproxy 15006"),
        (arrives("fd00:9::2", 8080), "tproxy 15006"),
        (arrives(POD, 15090), "passes"),
        (opens(APP, POD, 8080), "passes"),
        (opens(APP, "127.0.0.1", 8080), "passes"),
        (opens(proxy, POD, 8080), "tproxy 15006"),
        (opens(proxy, "fd00:9::2", 8080), "tproxy 15006"),
        (from(opens(proxy, POD, 8080), "127.0.0.6"), "passes"),
        // The proxy calls the application from the client's address.
        (from(marked(opens(proxy, POD, 8080)), "10.9.0.7"), "passes"),
    ]
}
