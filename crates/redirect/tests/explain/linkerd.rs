//! Linkerd's rules, written down by hand from what `proxy-init` is known to do.

use shunt_redirect::explain::{Flow, Protocol, Rules};

use crate::support::{APP, POD, arrives, fate, from, holds, opens, sends};

const PROXY: (u32, u32) = (2102, 2102);

fn rules() -> Rules {
    let nat = r#"*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
-A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "proxy-init/ignore-proxy-user-id" -j RETURN
-A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 4567:4568 -m comment --comment "proxy-init/ignore-port-4567:4568" -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port" -j REDIRECT --to-ports 4140
-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,4567:4568 -m comment --comment "proxy-init/ignore-port-4190,4191" -j RETURN
-A PROXY_INIT_REDIRECT -s 10.200.0.0/16 -m comment --comment "proxy-init/ignore-subnet-10.200.0.0/16" -j RETURN
-A PROXY_INIT_REDIRECT -p tcp -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port" -j REDIRECT --to-ports 4143
COMMIT
"#;
    Rules::from_iptables_save(nat, None).unwrap()
}

#[test]
fn linkerd_captures_both_ways_but_nothing_on_lo() {
    let table: [(Flow, &str); 13] = [
        (opens(APP, "10.9.0.7", 80), "4140"),
        (opens(PROXY, "10.9.0.7", 80), "passes"),
        (opens(APP, "10.9.0.7", 4567), "passes"),
        (opens(APP, "10.9.0.7", 4568), "passes"),
        (opens(APP, "10.9.0.7", 4569), "4140"),
        (opens(PROXY, POD, 8080), "passes"),
        (opens(APP, POD, 8080), "passes"),
        (opens(APP, "127.0.0.1", 8080), "passes"),
        (sends(Protocol::Udp, APP, "10.9.0.53", 53), "passes"),
        (arrives(POD, 8080), "4143"),
        (arrives(POD, 4191), "passes"),
        (from(arrives(POD, 8080), "10.200.3.4"), "passes"),
        (from(arrives(POD, 8080), "10.201.3.4"), "4143"),
    ];
    holds(&rules(), &table);
    assert_eq!(fate(&rules(), &opens(APP, "fd00:9::7", 80)), "?");
}
