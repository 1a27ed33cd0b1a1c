//! Each warning where it is due, and none where it is not.

use std::net::IpAddr;

use super::{Container, Warning, warnings};
use crate::capture::{CaptureConfig, Ipv6Mode};
use crate::facts::PodFacts;
use crate::field::{Field, Flagged, Vocabulary};
use crate::policy;
use crate::routing::{PodAddress, PodAddresses};

fn pod(addresses: &[&str]) -> PodFacts {
    let addresses = addresses.iter().map(|address| PodAddress {
        interface: 2,
        address: address.parse().unwrap(),
    });
    PodFacts {
        nameservers: vec!["10.96.0.10".parse().unwrap()],
        ..PodFacts::with_addresses(PodAddresses::new(addresses.collect()))
    }
}

/// With these network interfaces.
fn with_interfaces(names: &[&str]) -> PodFacts {
    PodFacts {
        interfaces: names.iter().map(|name| (*name).to_owned()).collect(),
        ..pod(&["10.0.0.2", "fd00::2"])
    }
}

fn config(spec: &str) -> CaptureConfig {
    let text = format!("apiVersion: shunt.dev/v1\nkind: CapturePolicy\nspec: {{{spec}}}\n");
    policy::read(&text).unwrap()
}

fn texts(config: &CaptureConfig, pod: &PodFacts, vocabulary: Vocabulary) -> Vec<String> {
    warnings(config, pod, &[])
        .iter()
        .map(|warning| warning.text(vocabulary))
        .collect()
}

#[test]
fn what_is_usual_is_not_warned_of() {
    let both = pod(&["10.0.0.2", "fd00::2"]);
    for spec in [
        "",
        "inbound: {tproxy: {}}",
        "dns: {}",
        "dns: {servers: all}",
        "inbound: {capture: [80]}",
        "inbound: {capture: [80-90], excludePorts: [85]}",
        "outbound: {capture: [10.0.0.0/8], excludeCidrs: [10.1.0.0/16]}",
        "outbound: {capture: [10.1.0.0/16], includePorts: [80], excludeCidrs: [10.0.0.0/8]}",
        "outbound: {capture: none, includePorts: [80-90], excludePorts: [90-99]}",
        "outbound: {excludeCidrs: ['fd00::/8']}",
        "outbound: {excludePorts: [53]}",
        "interfaces: {exclude: [eth1], reroute: [vnet0]}",
    ] {
        let found = texts(&config(spec), &both, Vocabulary::Policy);
        // In the last but eight, the block that is captured lies in the one that is excluded.
        let expected = usize::from(spec.contains("excludeCidrs: [10.0.0.0/8]"));
        assert_eq!(found.len(), expected, "{spec}: {found:?}");
    }
    let ipv4 = pod(&["10.0.0.2"]);
    assert_eq!(warnings(&config("ipv6: never"), &ipv4, &[]), []);
}

#[test]
fn what_never_applies_is_warned_of_once_and_with_a_remedy() {
    let both = pod(&["10.0.0.2", "fd00::2"]);
    let without = PodFacts {
        nameservers: Vec::new(),
        ..both.clone()
    };
    for (spec, pod, warning) in [
        (
            "outbound: {capture: none}",
            &both,
            "captures nothing outbound (no outbound.capture, no outbound.includePorts): every \
             connection that the pod opens passes the proxy by; `outbound.capture: all` captures",
        ),
        (
            "outbound: {ownerGroups: {only: []}}",
            &both,
            "captures nothing outbound",
        ),
        (
            "inbound: {capture: none}",
            &both,
            "captures nothing inbound (no inbound.capture)",
        ),
        (
            "outbound: {includePorts: [80]}",
            &both,
            "outbound.includePorts captures nothing more: all destinations are captured already",
        ),
        (
            "outbound: {capture: [10.0.0.0/8], excludeCidrs: [192.168.0.0/16]}",
            &both,
            "outbound.excludeCidrs 192.168.0.0/16 never matches: nothing of it is among what \
             outbound.capture captures",
        ),
        (
            "outbound: {capture: [10.0.0.0/8], excludeCidrs: ['::/0']}",
            &both,
            "outbound.excludeCidrs ::/0 never matches",
        ),
        (
            "outbound: {capture: [10.0.0.0/8, 172.16.0.0/12], excludeCidrs: [10.0.0.0/8]}",
            &both,
            "outbound.capture 10.0.0.0/8 is never captured: all of it is excluded by \
             outbound.excludeCidrs",
        ),
        (
            "outbound: {capture: none, includePorts: [80], excludePorts: [90-99]}",
            &both,
            "outbound.excludePorts 90-99 never matches",
        ),
        (
            "outbound: {capture: none, includePorts: [80, 90], excludePorts: [85-99]}",
            &both,
            "outbound.includePorts 90 is never captured",
        ),
        (
            "inbound: {capture: [80], excludePorts: [90]}",
            &both,
            "inbound.excludePorts 90 never matches",
        ),
        (
            "inbound: {capture: [80, 90], excludePorts: [90]}",
            &both,
            "inbound.capture 90 is never captured: all of it is excluded by inbound.excludePorts",
        ),
        (
            "ipv6: never",
            &both,
            "the pod has an IPv6 address, but IPv6 is not captured: every IPv6 connection passes",
        ),
        (
            "dns: {}, outbound: {excludePorts: [50-60]}",
            &both,
            "DNS is not captured: outbound.excludePorts lets port 53 pass",
        ),
        (
            "dns: {}",
            &without,
            "DNS is not captured: no server is known",
        ),
        (
            "dns: {servers: []}",
            &both,
            "DNS is not captured: no server is known",
        ),
        (
            "interfaces: {exclude: [eth1], reroute: [eth1]}",
            &both,
            "interfaces.exclude eth1 never matches: what arrives by it counts as outbound",
        ),
        (
            "proxy: {uids: [0, 1337]}",
            &both,
            "proxy.uids 0 is the proxy: every process of root's passes",
        ),
        ("proxy: {gids: [0]}", &both, "proxy.gids 0 is the proxy"),
    ] {
        let found = texts(&config(spec), pod, Vocabulary::Policy);
        assert!(
            matches!(&found[..], [one] if one.contains(warning)),
            "{spec}: {found:?}"
        );
    }
}

/// Each leaves a way past the proxy for everything on a side, and each is told once.
#[test]
fn excludes_that_leave_nothing_are_warned_of() {
    let both = pod(&["10.0.0.2", "fd00::2"]);
    let ipv4 = pod(&["10.0.0.2"]);
    let halves = "[0.0.0.0/1, 128.0.0.0/1]";
    for (spec, pod, warning) in [
        (
            "outbound: {excludeCidrs: [0.0.0.0/0]}",
            &both,
            "outbound.excludeCidrs excludes every IPv4 address: every IPv4 connection that the pod \
             opens passes the proxy by; take out what is to be captured",
        ),
        (
            &format!("outbound: {{excludeCidrs: {halves}}}"),
            &both,
            "outbound.excludeCidrs excludes every IPv4 address",
        ),
        (
            "outbound: {excludeCidrs: ['8000::/1', '::/2', '4000::/2']}",
            &both,
            "outbound.excludeCidrs excludes every IPv6 address",
        ),
        (
            "outbound: {capture: none, includePorts: [80], excludeCidrs: [0.0.0.0/0]}",
            &both,
            "outbound.excludeCidrs excludes every IPv4 address",
        ),
        (
            "outbound: {capture: [10.0.0.0/8], excludeCidrs: [10.0.0.0/9, 10.128.0.0/9]}",
            &both,
            "outbound.excludeCidrs excludes all that outbound.capture captures: every connection",
        ),
        (
            "outbound: {capture: [10.0.0.0/8, 172.16.0.0/12], excludeCidrs: [0.0.0.0/0]}",
            &both,
            "outbound.excludeCidrs excludes all that outbound.capture captures",
        ),
        (
            "outbound: {excludePorts: [1-65535]}",
            &both,
            "outbound.excludePorts excludes every port: every connection that the pod opens passes",
        ),
        (
            "dns: {}, outbound: {excludePorts: [1-52, 53-60000, 60001-65535]}",
            &both,
            "outbound.excludePorts excludes every port",
        ),
        (
            "outbound: {capture: none, includePorts: [80, 90], excludePorts: [1-100]}",
            &both,
            "outbound.excludePorts excludes all that outbound.includePorts captures",
        ),
        (
            "outbound: {ownerGroups: {only: []}}",
            &both,
            "captures nothing outbound (outbound.ownerGroups.only names no group)",
        ),
        (
            "outbound: {ownerGroups: {only: [1337]}}",
            &both,
            "outbound.ownerGroups.only names no group but the proxy's own (proxy.gids)",
        ),
        (
            "inbound: {excludePorts: [1-40000, 40001-65535]}",
            &both,
            "inbound.excludePorts excludes every port: every connection that arrives passes",
        ),
        (
            "inbound: {capture: [80, 443], excludePorts: [80, 400-500]}",
            &both,
            "inbound.excludePorts excludes all that inbound.capture captures: every connection \
             that arrives",
        ),
        (
            "inbound: {excludeSources: [0.0.0.0/0]}",
            &ipv4,
            "inbound.excludeSources excludes every IPv4 address: every IPv4 connection that arrives",
        ),
        (
            "inbound: {excludeSources: ['::/0']}",
            &both,
            "inbound.excludeSources excludes every IPv6 address",
        ),
        (
            "interfaces: {exclude: [eth0]}",
            &with_interfaces(&["eth0"]),
            "interfaces.exclude names every interface of the pod that has an address (eth0): every \
             connection to and from other machines passes",
        ),
        (
            "interfaces: {exclude: [e+]}",
            &with_interfaces(&["eth0", "ens1"]),
            "interfaces.exclude names every interface of the pod that has an address (eth0, ens1)",
        ),
        (
            "interfaces: {exclude: [eth+, net1]}",
            &with_interfaces(&["eth0", "net1"]),
            "interfaces.exclude names every interface",
        ),
        (
            "interfaces: {reroute: [eth0]}",
            &with_interfaces(&["eth0"]),
            "interfaces.reroute names every interface of the pod that has an address (eth0): what \
             arrives counts as outbound",
        ),
    ] {
        let found = texts(&config(spec), pod, Vocabulary::Policy);
        assert!(
            matches!(&found[..], [one] if one.contains(warning)),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn an_exclude_that_leaves_something_is_not_warned_of() {
    let both = pod(&["10.0.0.2", "fd00::2"]);
    for (spec, pod) in [
        ("outbound: {excludeCidrs: [0.0.0.0/1]}", &both),
        ("outbound: {excludeCidrs: [0.0.0.0/1, 128.0.0.0/2]}", &both),
        ("outbound: {excludePorts: [2-65535]}", &both),
        ("inbound: {excludePorts: [1-65534]}", &both),
        ("inbound: {capture: none, excludePorts: [1-65535]}", &both),
        ("outbound: {ownerGroups: {only: [1337, 3000]}}", &both),
        ("interfaces: {exclude: [eth0]}", &both),
        (
            "interfaces: {exclude: [eth1, net+]}",
            &with_interfaces(&["eth0", "eth1"]),
        ),
    ] {
        let found = texts(&config(spec), pod, Vocabulary::Policy);
        let found: Vec<_> = found
            .iter()
            .filter(|text| !text.starts_with("captures nothing inbound"))
            .collect();
        assert_eq!(found, [""; 0], "{spec}");
    }
}

#[test]
fn what_another_rule_decides_before_is_warned_of() {
    let both = pod(&["10.0.0.2", "fd00::2"]);
    for (spec, warning) in [
        (
            "dns: {}, outbound: {excludeCidrs: [10.96.0.10]}",
            "outbound.excludeCidrs 10.96.0.10 does not let DNS queries to it pass: dns captures",
        ),
        (
            "dns: {servers: ['fd00::a']}, outbound: {excludeCidrs: ['fd00::a']}",
            "outbound.excludeCidrs fd00::a does not let DNS queries to it pass",
        ),
        (
            "inbound: {capture: [80, 15008]}",
            "inbound.capture 15008 is never captured: all of it is excluded by inbound.tunnelPort",
        ),
        (
            "inbound: {excludeSources: [127.0.0.0/8]}",
            "inbound.excludeSources 127.0.0.0/8 never matches: inbound are connections from other",
        ),
        (
            "outbound: {ownerGroups: {except: [1337]}}",
            "outbound.ownerGroups.except 1337 never matches: it is the proxy's own group",
        ),
        (
            "outbound: {ownerGroups: {except: [0]}}",
            "outbound.ownerGroups.except 0 is root's group, under which most containers run",
        ),
    ] {
        let found = texts(&config(spec), &both, Vocabulary::Policy);
        assert!(
            matches!(&found[..], [one] if one.contains(warning)),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn blocks_of_ipv6_are_useless_while_it_is_off() {
    let pod = pod(&["10.0.0.2"]);
    for (spec, field) in [
        (
            "outbound: {excludeCidrs: ['fd00::/8']}",
            "outbound.excludeCidrs",
        ),
        (
            "outbound: {capture: [10.0.0.0/8, 'fd00::/8']}",
            "outbound.capture",
        ),
        (
            "inbound: {excludeSources: ['fd00::/8']}",
            "inbound.excludeSources",
        ),
    ] {
        let found = texts(&config(spec), &pod, Vocabulary::Policy);
        let expected = format!("{field} fd00::/8 never matches: IPv6 is not captured in this pod");
        assert!(
            matches!(&found[..], [one] if one.contains(&expected)),
            "{spec}: {found:?}"
        );
    }
    let v6: IpAddr = "fd00::a".parse().unwrap();
    let mut only_v6 = pod.clone();
    only_v6.nameservers = vec![v6];
    assert_eq!(
        warnings(&config("dns: {}"), &only_v6, &[]),
        [Warning::DnsWithoutServers]
    );
}

#[test]
fn a_container_under_the_proxys_id_is_named() {
    let container = |name: &str, uid, gid| Container {
        name: name.to_owned(),
        uid,
        gid,
    };
    let containers = [
        container("app", Some(1337), None),
        container("helper", Some(1000), Some(1337)),
        container("other", Some(1000), Some(1000)),
        container("unknown", None, None),
    ];
    let found: Vec<_> = warnings(&config(""), &pod(&["10.0.0.2"]), &containers)
        .iter()
        .map(|warning| warning.text(Vocabulary::Istio))
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("app runs under the proxy's user id 1337: all that it sends"));
    assert!(found[1].starts_with("helper runs under the proxy's group id 1337"));
}

#[test]
fn the_remedy_is_in_the_words_that_were_used() {
    let mut config = config("outbound: {capture: none}, inbound: {capture: none}");
    for (vocabulary, words) in [
        (
            Vocabulary::Istio,
            ["(no -i, no -q)", "`-b '*'` captures all"],
        ),
        (
            Vocabulary::IstioAnnotations,
            [
                "`traffic.sidecar.istio.io/includeOutboundIPRanges: \"*\"`",
                "no traffic.sidecar.istio.io/includeInboundPorts",
            ],
        ),
        (
            Vocabulary::Policy,
            ["`outbound.capture: all`", "`inbound.capture: all`"],
        ),
        (
            Vocabulary::Flags(Flagged::ALL),
            [
                "(no --capture-outbound-cidrs, no --include-outbound-ports)",
                "`--capture-inbound-ports all`",
            ],
        ),
        (
            Vocabulary::Flags(Flagged::default().with(Field::InboundPorts)),
            ["`outbound.capture: all`", "(no --capture-inbound-ports)"],
        ),
    ] {
        let found = texts(&config, &pod(&["10.0.0.2"]), vocabulary).join("\n");
        assert!(words.iter().all(|word| found.contains(word)), "{found}");
    }
    config = CaptureConfig {
        ipv6: Ipv6Mode::Off,
        ..CaptureConfig::default()
    };
    let found = texts(&config, &pod(&["fd00::2"]), Vocabulary::Linkerd);
    assert!(found[0].contains("--ipv6=true"), "{found:?}");
}
