//! `nft -j list ruleset` of tables that nobody of us wrote.

use serde_json::{Value, json};
use shunt_redirect::explain::{Protocol, Rules, State, Verdict, explain};

use crate::support::{APP, POD, PROXY, arrives, fate, opens, sends, word};

fn table(family: &str, name: &str) -> Value {
    json!({"table": {"family": family, "name": name, "handle": 1}})
}

/// A base chain on OUTPUT or PREROUTING of `inet t`.
fn base(name: &str, kind: &str, hook: &str, priority: i32, policy: &str) -> Value {
    json!({"chain": {"family": "inet", "table": "t", "name": name, "handle": 2, "type": kind,
        "hook": hook, "prio": priority, "policy": policy}})
}

fn rule(chain: &str, statements: &[Value]) -> Value {
    json!({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 3,
        "expr": statements}})
}

fn matches(left: &Value, op: &str, right: &Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn rules(items: &[Value]) -> Rules {
    let mut all = vec![
        json!({"metainfo": {"json_schema_version": 1}}),
        table("inet", "t"),
    ];
    all.extend_from_slice(items);
    Rules::from_nft_json(&json!({ "nftables": all }).to_string()).unwrap()
}

#[test]
fn accept_ends_its_base_chain_only_and_drop_ends_all() {
    let accept = json!({"accept": null});
    let to_port = matches(&payload("tcp", "dport"), "==", &json!(80));
    let two = |first: &Value, second: &Value| {
        rules(&[
            base("late", "filter", "output", 10, "accept"),
            base("early", "filter", "output", -10, "accept"),
            rule("early", &[to_port.clone(), first.clone()]),
            rule("late", &[to_port.clone(), second.clone()]),
        ])
    };
    let drop = json!({"drop": null});
    for (first, second, expected) in [
        (&accept, &drop, "dropped"),
        (&drop, &accept, "dropped"),
        (&accept, &accept, "passes"),
    ] {
        let rules = two(first, second);
        assert_eq!(fate(&rules, &opens(APP, "10.9.0.7", 80)), expected);
        assert_eq!(fate(&rules, &opens(APP, "10.9.0.7", 81)), "passes");
    }
}

#[test]
fn chains_at_a_hook_are_visited_by_priority_and_nat_where_nat_stands() {
    // A nat chain of priority -199 still comes after mangle, and sees the mark.
    let marked = matches(&meta("mark"), "==", &json!(7));
    let rules = rules(&[
        base("n", "nat", "output", -199, "accept"),
        base("second", "nat", "output", -100, "accept"),
        base("m", "route", "output", -150, "accept"),
        rule("m", &[json!({"mangle": {"key": meta("mark"), "value": 7}})]),
        rule("second", &[json!({"redirect": {"port": 2}})]),
        rule(
            "n",
            &[
                matches(&meta("l4proto"), "==", &json!("tcp")),
                marked,
                json!({"redirect": {"port": 1}}),
            ],
        ),
    ]);
    assert_eq!(fate(&rules, &opens(APP, "10.9.0.7", 80)), "1");
    assert_eq!(
        fate(&rules, &sends(Protocol::Udp, APP, "10.9.0.7", 80)),
        "2"
    );
}

#[test]
fn jumps_return_to_the_caller_and_gotos_to_the_callers_caller() {
    let chain = |name: &str| json!({"chain": {"family": "inet", "table": "t", "name": name}});
    let with = |jump: &str| {
        rules(&[
            base("o", "filter", "output", 0, "drop"),
            chain("a"),
            chain("b"),
            rule("o", &[json!({"jump": {"target": "a"}})]),
            rule("o", &[json!({"mangle": {"key": meta("mark"), "value": 1}})]),
            rule("o", &[json!({"accept": null})]),
            rule("a", &[json!({jump: {"target": "b"}})]),
            rule("a", &[json!({"drop": null})]),
            rule("b", &[json!({"return": null})]),
            rule("b", &[json!({"drop": null})]),
        ])
    };
    assert_eq!(fate(&with("jump"), &opens(APP, "10.9.0.7", 80)), "dropped");
    let explanation = explain(&with("goto"), &opens(APP, "10.9.0.7", 80));
    assert_eq!(word(&explanation), "passes");
    assert_eq!(explanation.verdict.certain().unwrap().mark, Some(1));
    // The policy is for what falls out of the base chain.
    let dropping = rules(&[
        base("o", "filter", "output", 0, "drop"),
        rule("o", &[json!({"return": null})]),
    ]);
    let explanation = explain(&dropping, &opens(APP, "10.9.0.7", 80));
    assert_eq!(word(&explanation), "dropped");
    assert!(explanation.to_string().contains("policy drop"));
}

#[test]
fn sets_intervals_prefixes_ranges_and_negations_are_read() {
    let set = |name: &str, kind: &str, elements: Value| {
        json!({"set": {"family": "inet", "name": name, "table": "t", "type": kind,
            "flags": ["interval"], "elem": elements}})
    };
    let drop = json!({"drop": null});
    let rules = rules(&[
        set(
            "blocks",
            "ipv4_addr",
            json!(["1.2.3.4", {"range": ["1.2.4.0", "1.2.4.9"]},
                {"prefix": {"addr": "10.0.0.0", "len": 8}}]),
        ),
        set(
            "ids",
            "uid",
            json!([5, {"elem": {"val": {"range": [7, 9]}, "comment": "x"}}]),
        ),
        base("o", "filter", "output", 0, "accept"),
        rule(
            "o",
            &[
                matches(&payload("ip", "daddr"), "==", &json!("@blocks")),
                matches(
                    &payload("tcp", "dport"),
                    "!=",
                    &json!({"set": [80, {"range": [90, 99]}]}),
                ),
                drop.clone(),
            ],
        ),
        rule(
            "o",
            &[matches(&meta("skuid"), "==", &json!("@ids")), drop.clone()],
        ),
        rule(
            "o",
            &[
                matches(&meta("oifname"), "==", &json!({"set": ["tap*", "eth9"]})),
                drop.clone(),
            ],
        ),
        rule(
            "o",
            &[
                matches(&payload("udp", "dport"), ">=", &json!(60000)),
                drop.clone(),
            ],
        ),
        rule(
            "o",
            &[
                matches(&json!({"&": [meta("mark"), 0xff]}), "!=", &json!(0)),
                drop.clone(),
            ],
        ),
        rule(
            "o",
            &[
                matches(
                    &json!({"ct": {"key": "state"}}),
                    "in",
                    &json!(["invalid", "untracked"]),
                ),
                drop,
            ],
        ),
    ]);
    let tcp = |to: &str, port| fate(&rules, &opens(APP, to, port));
    for (to, port, expected) in [
        ("1.2.3.4", 81, "dropped"),
        ("1.2.3.5", 81, "passes"),
        ("1.2.4.9", 100, "dropped"),
        ("1.2.4.10", 100, "passes"),
        ("10.255.0.1", 89, "dropped"),
        ("10.255.0.1", 80, "passes"),
        ("10.255.0.1", 95, "passes"),
        ("fd00:9::7", 81, "passes"),
    ] {
        assert_eq!(tcp(to, port), expected, "{to} {port}");
    }
    // `tcp dport != …` asks for TCP too.
    let udp = |port| fate(&rules, &sends(Protocol::Udp, APP, "10.255.0.1", port));
    assert_eq!(
        (udp(81).as_str(), udp(60000).as_str()),
        ("passes", "dropped")
    );
    for (uid, expected) in [
        (5, "dropped"),
        (6, "passes"),
        (9, "dropped"),
        (10, "passes"),
    ] {
        assert_eq!(fate(&rules, &opens((uid, 1), "9.9.9.9", 80)), expected);
    }
    let mut flow = opens(APP, "9.9.9.9", 80);
    flow.mark = 0x100;
    assert_eq!(fate(&rules, &flow), "passes");
    flow.mark = 0x101;
    assert_eq!(fate(&rules, &flow), "dropped");
    flow.mark = 0;
    flow.state = State::Untracked;
    assert_eq!(fate(&rules, &flow), "dropped");
}

#[test]
fn what_is_not_listed_or_not_understood_makes_the_verdict_depend_on_it() {
    let drop = json!({"drop": null});
    let by_set = rule(
        "o",
        &[
            matches(&payload("ip", "daddr"), "==", &json!("@s")),
            drop.clone(),
        ],
    );
    let o = base("o", "filter", "output", 0, "accept");
    let terse = json!({"set": {"family": "inet", "name": "s", "table": "t", "type": "ipv4_addr"}});
    let expiring = json!({"set": {"family": "inet", "name": "s", "table": "t",
        "type": "ipv4_addr", "timeout": 60, "elem": ["10.9.0.7"]}});
    let dormant = json!({"table": {"family": "ip", "name": "u", "flags": "ip"}});
    let in_dormant = json!({"chain": {"family": "ip", "table": "u", "name": "c", "type": "filter",
        "hook": "output", "prio": 1, "policy": "drop"}});
    for (items, expected) in [
        (vec![terse, o.clone(), by_set.clone()], "ip daddr @s"),
        (vec![expiring, o.clone(), by_set.clone()], "ip daddr @s"),
        (vec![o.clone(), by_set], "ip daddr @s"),
        (
            vec![
                o.clone(),
                rule(
                    "o",
                    &[json!({"limit": {"rate": 5, "per": "second"}}), drop.clone()],
                ),
            ],
            "limit",
        ),
        (
            vec![
                o.clone(),
                rule(
                    "o",
                    &[json!({"vmap": {"key": payload("tcp", "dport"), "data": "@m"}})],
                ),
            ],
            "vmap",
        ),
        (
            vec![
                o.clone(),
                rule(
                    "o",
                    &[
                        json!({"xt": {"type": "match", "name": "owner"}}),
                        drop.clone(),
                    ],
                ),
            ],
            "-m owner (iptables-nft-save tells its options)",
        ),
        (
            vec![o.clone(), rule("o", &[json!({"jump": {"target": "gone"}})])],
            "jump gone",
        ),
        (vec![dormant, in_dormant], "whether the table is dormant"),
        (
            vec![
                json!({"chain": {"family": "inet", "table": "t", "name": "o", "type": "filter",
                "hook": "egress", "prio": 0, "policy": "drop"}}),
            ],
            "which devices the chain stands on",
        ),
    ] {
        let rules = rules(&items);
        let verdict = explain(&rules, &opens(APP, "10.9.0.7", 80)).verdict;
        let Verdict::Depends { on, .. } = &verdict else {
            panic!("{expected}: {verdict}")
        };
        assert!(
            on.iter().any(|what| what.contains(expected)),
            "{expected}: {on:?}"
        );
    }
    // A rule that logs what is not understood decides nothing.
    let log = rule(
        "o",
        &[
            json!({"limit": {"rate": 5, "per": "second"}}),
            json!({"log": null}),
        ],
    );
    assert_eq!(
        fate(&rules(&[o, log]), &opens(APP, "10.9.0.7", 80)),
        "passes"
    );
}

#[test]
fn circles_of_jumps_end() {
    let chain = |name: &str| json!({"chain": {"family": "inet", "table": "t", "name": name}});
    let rules = rules(&[
        base("o", "filter", "output", 0, "accept"),
        chain("a"),
        rule("o", &[json!({"jump": {"target": "a"}})]),
        rule("a", &[json!({"jump": {"target": "a"}})]),
        rule("a", &[json!({"jump": {"target": "a"}})]),
    ]);
    let verdict = explain(&rules, &opens(APP, "10.9.0.7", 80))
        .verdict
        .to_string();
    assert!(verdict.contains("call each other without end"), "{verdict}");
}

#[test]
fn text_that_is_no_listing_is_refused_with_the_place() {
    for (text, expected) in [
        ("", "no JSON"),
        ("{}", "no list `nftables`"),
        (
            r#"{"nftables": [{"rule": {"family": "inet", "table": "t", "chain": "c"}}]}"#,
            "item 1",
        ),
        (r#"{"nftables": [{"surprise": {}}]}"#, "no such item"),
    ] {
        let error = Rules::from_nft_json(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("nft -j list ruleset"), "{error}");
    }
}

/// Istio's nft backend, by hand: one inet table decides on IPv6 too, even where that is off.
#[test]
fn istios_nft_rules_capture_ipv6_although_it_is_off() {
    let jump = |to: &str| json!({"jump": {"target": to}});
    let chain = |name: &str| json!({"chain": {"family": "inet", "table": "t", "name": name}});
    let tcp = matches(&meta("l4proto"), "==", &json!("tcp"));
    let back = json!({"return": null});
    let lo = matches(&meta("oifname"), "==", &json!("lo"));
    let redirect = |port: u16| json!({"redirect": {"port": port}});
    let not_loopback = matches(&payload("ip", "daddr"), "!=", &json!("127.0.0.1"));
    let uid = |op: &str| matches(&meta("skuid"), op, &json!(1337));
    let rules = rules(&[
        base("prerouting", "nat", "prerouting", -100, "accept"),
        base("output", "nat", "output", -100, "accept"),
        chain("in"),
        chain("out"),
        rule("prerouting", &[tcp.clone(), jump("in")]),
        rule("output", &[jump("out")]),
        rule("in", &[tcp.clone(), redirect(15006)]),
        rule(
            "out",
            &[
                lo.clone(),
                not_loopback,
                tcp.clone(),
                uid("=="),
                redirect(15006),
            ],
        ),
        rule("out", &[lo, uid("!="), back.clone()]),
        rule("out", &[uid("=="), back.clone()]),
        rule(
            "out",
            &[
                matches(&payload("ip", "daddr"), "==", &json!("127.0.0.1")),
                back,
            ],
        ),
        rule("out", &[tcp, redirect(15001)]),
    ]);
    for (flow, expected) in [
        (opens(APP, "10.9.0.7", 80), "15001"),
        (opens(PROXY, POD, 80), "15006"),
        (opens(PROXY, "127.0.0.1", 80), "passes"),
        (arrives(POD, 80), "15006"),
        (opens(APP, "fd00:9::7", 80), "15001"),
        (arrives("fd00:9::2", 80), "15006"),
    ] {
        assert_eq!(fate(&rules, &flow), expected, "{flow}");
    }
}

#[test]
fn the_direction_of_a_packet_is_read_in_both_languages() {
    let ct = |key: &str| json!({"ct": {"key": key}});
    let drop = json!({"drop": null});
    let nft = |op: &str, direction: &str| {
        rules(&[
            base("p", "filter", "prerouting", 0, "accept"),
            rule(
                "p",
                &[
                    matches(&ct("direction"), op, &json!(direction)),
                    drop.clone(),
                ],
            ),
        ])
    };
    let iptables = |test: &str| {
        let text = format!(
            "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack {test} -j DROP\nCOMMIT\n"
        );
        Rules::from_iptables_save(&text, None).unwrap()
    };
    let first = arrives(POD, 8080);
    let mut later = first.clone();
    later.state = State::Established;
    let mut answer = later.clone();
    answer.answers = true;
    let mut unknown = first.clone();
    unknown.state = State::Invalid;
    let original = [
        nft("==", "original"),
        nft("!=", "reply"),
        iptables("--ctdir ORIGINAL"),
    ];
    for rules in original {
        let flows = [&first, &later, &answer, &unknown];
        let fates = flows.map(|flow| fate(&rules, flow));
        assert_eq!(fates, ["dropped", "dropped", "passes", "passes"]);
    }
    let rules = nft("==", "reply");
    assert_eq!(fate(&rules, &answer), "dropped");
    assert_eq!(fate(&rules, &later), "passes");
    assert_eq!(fate(&iptables("--ctdir REPLY"), &later), "?");
}
