//! Our own plans, on paper.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_abi::rule;
use shunt_redirect::capture::{
    CaptureConfig, Dns, DnsServers, InboundMode, InterfaceName, Mark, OutboundCapture, OwnerGroups,
    Port,
};
use shunt_redirect::explain::{
    Fate, Flow, Matched, NatNotAsked, Options, Protocol, RedirectedTo, Rules, Sender, Side, State,
    Step, explain, explain_with,
};

use crate::support::{
    APP, POD, PROXY, arrives, deciding, fate, from, holds, opens, planned, sends, word,
};
use crate::truth;

fn rules(change: impl FnOnce(&mut CaptureConfig)) -> Rules {
    let mut config = CaptureConfig::default();
    change(&mut config);
    Rules::from_plan(&planned(&config))
}

fn tproxy(config: &mut CaptureConfig) {
    config.inbound.mode = InboundMode::Tproxy {
        mark: Mark::new(1337).unwrap(),
        table: 133,
    };
}

fn dns(servers: DnsServers) -> Option<Dns> {
    Some(Dns {
        port: Port::new(15053).unwrap(),
        servers,
    })
}

#[test]
fn redirect_decides_as_seen_in_the_kernel() {
    holds(&rules(|_| {}), &truth::redirect());
}

#[test]
fn tproxy_decides_as_seen_in_the_kernel() {
    let rules = rules(tproxy);
    holds(&rules, &truth::tproxy());
    // The tunnel passes, which Istio forgets.
    assert_eq!(fate(&rules, &arrives(POD, 15008)), "passes");
}

#[test]
fn redirect_goes_to_loopback_from_a_process_and_to_the_interface_from_elsewhere() {
    let rules = rules(|_| {});
    let redirected = |flow: &Flow| match explain(&rules, flow).verdict.certain() {
        Some(outcome) => outcome.fate.clone(),
        None => panic!("{flow}"),
    };
    let to_loopback = |address: &str, port| Fate::Redirected {
        port: Some(port),
        to: RedirectedTo::Loopback(address.parse::<IpAddr>().unwrap()),
    };
    assert_eq!(
        redirected(&opens(APP, "10.9.0.7", 80)),
        to_loopback("127.0.0.1", 15001)
    );
    assert_eq!(
        redirected(&opens(APP, "fd00:9::7", 80)),
        to_loopback("::1", 15001)
    );
    assert_eq!(
        redirected(&arrives(POD, 80)),
        Fate::Redirected {
            port: Some(15006),
            to: RedirectedTo::PrimaryAddressOf("eth0".to_owned())
        }
    );
}

#[test]
fn the_trace_names_the_rule_and_the_field_it_comes_from() {
    let rules = rules(|config| {
        config.outbound.exclude_cidrs = vec!["10.9.0.0/16".parse().unwrap()];
    });
    let explanation = explain(&rules, &opens(APP, "10.9.0.7", 80));
    assert_eq!(word(&explanation), "passes");
    let [Step::Rule(step)] = explanation.trace.as_slice() else {
        panic!("{explanation}")
    };
    assert_eq!(step.comment.as_deref(), Some(rule::OUTBOUND_EXCLUDE_V4));
    assert_eq!(
        (step.table.as_str(), step.chain.as_str()),
        ("inet shunt", "nat_output")
    );
    assert_eq!(step.field.unwrap().policy, "outbound.excludeCidrs");
    assert_eq!(step.matched, Matched::Yes);
    assert_eq!(
        explanation.to_string().lines().nth(1).unwrap().trim(),
        "inet shunt nat_output rule 12: ip daddr @outbound_exclude_v4 counter return comment \
         \"outbound/exclude-cidrs-v4\" [outbound.excludeCidrs, --istio-service-exclude-cidr, \
         traffic.sidecar.istio.io/excludeOutboundIPRanges]"
    );
}

#[test]
fn every_visited_rule_is_told_on_request() {
    let rules = rules(|_| {});
    let options = Options {
        all_rules: true,
        ..Options::default()
    };
    let flow = opens(APP, "10.9.0.7", 80);
    let explanation = explain_with(&rules, &flow, options);
    let (last, before) = explanation
        .trace
        .iter()
        .filter_map(|step| match step {
            Step::Rule(rule) => Some(rule),
            _ => None,
        })
        .collect::<Vec<_>>()
        .split_last()
        .map(|(last, before)| (last.matched, before.to_vec()))
        .unwrap();
    assert_eq!(last, Matched::Yes);
    assert!(before.len() > 8 && before.iter().all(|step| step.matched == Matched::No));
    assert_eq!(explanation.verdict, explain(&rules, &flow).verdict);
}

#[test]
fn nat_sees_the_first_packet_of_a_connection_only() {
    let rules = rules(|_| {});
    for (state, expected, why) in [
        (State::New, "15001", None),
        (State::Related, "15001", None),
        (State::Established, "passes", Some(NatNotAsked::NotFirst)),
        (State::Invalid, "passes", Some(NatNotAsked::NoConnection)),
        (State::Untracked, "passes", Some(NatNotAsked::NoConnection)),
    ] {
        let mut flow = opens(APP, "10.9.0.7", 80);
        flow.state = state;
        let explanation = explain(&rules, &flow);
        assert_eq!(word(&explanation), expected, "{flow}\n{explanation}");
        let told = explanation.trace.iter().find_map(|step| match step {
            Step::NatNotAsked(_, why) => Some(*why),
            _ => None,
        });
        assert_eq!(told, why, "{flow}");
    }
}

#[test]
fn nat_prerouting_never_applies_to_loopback() {
    let rules = rules(|_| {});
    let mut flow = arrives(POD, 8080);
    flow.side = Side::Arrives {
        interface: "lo".to_owned(),
        forwarded_by: None,
    };
    let explanation = explain(&rules, &flow);
    assert_eq!(word(&explanation), "passes");
    assert!(matches!(
        explanation.trace.as_slice(),
        [Step::NatNotAsked(_, NatNotAsked::DecidedWhenSent)]
    ));
    // The way over lo, seen from the sender: mangle PREROUTING does apply.
    let rules = self::rules(tproxy);
    let explanation = explain(&rules, &opens((0, 1337), POD, 8080));
    assert_eq!(word(&explanation), "tproxy 15006");
    assert!(explanation.trace.contains(&Step::ArrivesOnLoopback));
    assert_eq!(
        deciding(&explanation),
        [
            rule::TPROXY_SELF_CALL_GID_V4,
            rule::SELF_CALL_MARKED,
            rule::TPROXY_CAPTURE
        ]
    );
}

#[test]
fn tproxy_marks_assumes_a_listener_and_drops_without_one() {
    let rules = rules(tproxy);
    let flow = arrives(POD, 8080);
    let outcome = explain(&rules, &flow).verdict.certain().unwrap().clone();
    assert_eq!((outcome.mark, outcome.assumes_listener), (Some(1337), true));
    let options = Options {
        listener: false,
        ..Options::default()
    };
    let explanation = explain_with(&rules, &flow, options);
    assert_eq!(word(&explanation), "dropped");
    assert_eq!(
        deciding(&explanation).last(),
        Some(&rule::TPROXY_NO_LISTENER)
    );
    let passing = explain_with(&rules, &arrives(POD, 15090), options);
    assert_eq!(word(&passing), "passes");
}

#[test]
fn later_packets_of_a_tproxy_connection_and_the_answers_find_the_proxy_by_mark() {
    let rules = rules(tproxy);
    let mut later = arrives(POD, 8080);
    later.state = State::Established;
    let outcome = explain(&rules, &later).verdict.certain().unwrap().clone();
    assert_eq!((outcome.fate, outcome.mark), (Fate::Passes, Some(1337)));

    // The proxy's connection to the application, on lo: its connection keeps the mark.
    let mut to_app = from(opens((0, 1337), POD, 8080), "10.9.0.7");
    to_app.mark = 1337;
    let outcome = explain(&rules, &to_app).verdict.certain().unwrap().clone();
    assert_eq!(outcome.connection_mark, Some(1337));

    // The application's answer would leave for the client; the mark brings it back.
    let mut answer = opens(APP, "10.9.0.7", 40_000);
    answer.state = State::Established;
    answer.connection_mark = 1337;
    let explanation = explain(&rules, &answer);
    let outcome = explanation.verdict.certain().unwrap();
    assert_eq!(outcome.mark, Some(1337), "{explanation}");
    assert!(explanation.trace.contains(&Step::DeliveredByMark(1337)));
    assert!(explanation.trace.contains(&Step::ArrivesOnLoopback));
}

#[test]
fn packets_without_a_socket_match_no_owner() {
    let rules = rules(|config| {
        config.outbound.owners = OwnerGroups::Only(BTreeSet::from([7]));
    });
    let mut flow = opens((1000, 7), "10.9.0.7", 80);
    assert_eq!(fate(&rules, &flow), "15001");
    assert_eq!(fate(&rules, &opens((1000, 8), "10.9.0.7", 80)), "passes");
    let Side::Sent { sender, .. } = &mut flow.side else {
        unreachable!()
    };
    *sender = Sender::NoSocket;
    // `skgid != 7` ends the rule, as `skgid 7` would.
    assert_eq!(fate(&rules, &flow), "15001");
}

#[test]
fn what_is_not_said_of_the_sender_is_what_the_verdict_depends_on() {
    let rules = rules(|_| {});
    let mut flow = opens(APP, "10.9.0.7", 80);
    let Side::Sent { sender, .. } = &mut flow.side else {
        unreachable!()
    };
    *sender = Sender::Socket {
        uid: Some(1000),
        gid: None,
        cgroup: None,
    };
    let text = explain(&rules, &flow).verdict.to_string();
    assert!(text.contains("the sender's gid: inet shunt"), "{text}");
    assert!(
        text.contains("15001 of 127.0.0.1") && text.contains("passes"),
        "{text}"
    );
    // Where it makes no difference, the verdict is certain.
    let mut flow = from(opens(APP, "127.0.0.1", 80), "127.0.0.1");
    let Side::Sent { sender, .. } = &mut flow.side else {
        unreachable!()
    };
    *sender = Sender::Socket {
        uid: None,
        gid: None,
        cgroup: None,
    };
    assert_eq!(fate(&rules, &flow), "passes");
}

#[test]
fn the_proxy_is_known_by_its_cgroup_and_those_below() {
    use shunt_redirect::PodFacts;
    use shunt_redirect::capture::CgroupPath;
    use shunt_redirect::ruleset::Cgroup;
    let mut config = CaptureConfig::default();
    config.proxy.uids.clear();
    config.proxy.gids.clear();
    let path = CgroupPath::new("pods/proxy").unwrap();
    config.proxy.cgroup = Some(path.clone());
    let facts = PodFacts {
        cgroup: Some(Cgroup { path, id: 7 }),
        ..PodFacts::default()
    };
    let rules = Rules::from_plan(&shunt_redirect::plan(&config, &facts));
    for (cgroup, expected) in [
        (Some("pods/proxy"), "passes"),
        (Some("/pods/proxy/worker"), "passes"),
        (Some("pods/proxy2"), "15001"),
        (Some("pods"), "15001"),
        (Some(""), "15001"),
        (None, "?"),
    ] {
        let mut flow = opens(APP, "10.9.0.7", 80);
        let Side::Sent { sender, .. } = &mut flow.side else {
            unreachable!()
        };
        *sender = Sender::Socket {
            uid: Some(1000),
            gid: Some(1000),
            cgroup: cgroup.map(str::to_owned),
        };
        assert_eq!(fate(&rules, &flow), expected, "{flow}");
    }
}

#[test]
fn dns_goes_to_the_dns_proxy_and_each_asker_has_a_zone() {
    let rules = rules(|config| config.dns = dns(DnsServers::All));
    let zone = |flow: &Flow| explain(&rules, flow).verdict.certain().unwrap().zone;
    let query = |ids| sends(Protocol::Udp, ids, "10.9.0.53", 53);
    assert_eq!(fate(&rules, &query(APP)), "15053");
    assert_eq!(zone(&query(APP)), 2);
    assert_eq!(fate(&rules, &query(PROXY)), "passes");
    assert_eq!(zone(&query(PROXY)), 1);
    let tcp = opens(APP, "10.9.0.53", 53);
    assert_eq!((fate(&rules, &tcp).as_str(), zone(&tcp)), ("15053", 0));
    // A resolver on a loopback address too.
    assert_eq!(
        fate(&rules, &sends(Protocol::Udp, APP, "127.0.0.53", 53)),
        "15053"
    );
    let mut answer = arrives(POD, 40_000);
    answer.protocol = Protocol::Udp;
    answer.source.set_port(53);
    answer.state = State::Established;
    assert_eq!(zone(&answer), 1);
    let mut reply = sends(Protocol::Udp, PROXY, "127.0.0.1", 40_000);
    reply.source.set_port(15053);
    reply.state = State::Established;
    assert_eq!(zone(&reply), 2);
}

#[test]
fn only_the_listed_resolvers_are_captured() {
    let rules = rules(|config| {
        config.dns = dns(DnsServers::Only(vec![
            "10.9.0.53".parse().unwrap(),
            "fd00:9::53".parse().unwrap(),
        ]));
    });
    holds(
        &rules,
        &[
            (sends(Protocol::Udp, APP, "10.9.0.53", 53), "15053"),
            (sends(Protocol::Udp, APP, "10.9.0.54", 53), "passes"),
            (opens(APP, "10.9.0.54", 53), "15001"),
            (sends(Protocol::Udp, APP, "fd00:9::53", 53), "15053"),
            (sends(Protocol::Udp, APP, "fd00:9::54", 53), "passes"),
        ],
    );
}

#[test]
fn interfaces_excluded_and_rerouted() {
    for tproxy_too in [false, true] {
        let rules = rules(|config| {
            if tproxy_too {
                tproxy(config);
            }
            config.interfaces.exclude = BTreeSet::from([InterfaceName::new("net1").unwrap()]);
            config.interfaces.reroute = BTreeSet::from([InterfaceName::new("tap+").unwrap()]);
        });
        let by = |name: &str, mut flow: Flow| {
            match &mut flow.side {
                Side::Arrives { interface, .. } | Side::Sent { interface, .. } => {
                    name.clone_into(interface);
                }
            }
            flow
        };
        holds(
            &rules,
            &[
                (by("net1", arrives(POD, 8080)), "passes"),
                (by("net1", opens(APP, "10.9.0.7", 80)), "passes"),
                (by("net10", opens(APP, "10.9.0.7", 80)), "15001"),
                (by("tap0", arrives("10.20.0.1", 80)), "15001"),
                (by("tap", arrives("10.20.0.1", 80)), "15001"),
            ],
        );
    }
}

#[test]
fn ipv6_that_is_off_passes_and_says_why() {
    let rules = rules(|config| config.ipv6 = shunt_redirect::capture::Ipv6Mode::Off);
    let explanation = explain(&rules, &opens(APP, "fd00:9::7", 80));
    assert_eq!(word(&explanation), "passes");
    assert_eq!(deciding(&explanation), [rule::OUTBOUND_IPV6_OFF]);
}

#[test]
fn invalid_packets_are_dropped_where_that_is_asked_for() {
    let rules = rules(|config| config.drop_invalid = true);
    let mut flow = arrives(POD, 8080);
    flow.state = State::Invalid;
    assert_eq!(fate(&rules, &flow), "dropped");
    flow.state = State::Untracked;
    assert_eq!(fate(&rules, &flow), "passes");
}

#[test]
fn loopback_destinations_asked_for_are_captured_on_lo() {
    let rules = rules(|config| {
        config.outbound.capture = OutboundCapture::Only(vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.96.0.0/12".parse().unwrap(),
        ]);
    });
    holds(
        &rules,
        &[
            (opens(APP, "127.0.0.2", 80), "15001"),
            (opens(APP, "127.0.0.1", 80), "passes"),
            (opens(APP, "10.100.0.1", 80), "15001"),
            (opens(APP, "10.9.0.7", 80), "passes"),
        ],
    );
}
