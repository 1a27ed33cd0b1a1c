//! Istio's own rules, written down by hand from what they are known to do, as `iptables-save`
//! prints them.

use std::fmt::Write as _;

use shunt_redirect::explain::{
    Flow, Protocol, Rules, Sender, Side, State, Step, Verdict, explain, explain_with,
};
use shunt_redirect::ruleset::Family;

use crate::support::{APP, POD, PROXY, arrives, fate, from, holds, opens, sends, word};
use crate::truth;

/// What one family's rules depend on.
struct Words {
    loopback: &'static str,
    inbound_source: &'static str,
}

const V4: Words = Words {
    loopback: "127.0.0.1/32",
    inbound_source: "127.0.0.6/32",
};
const V6: Words = Words {
    loopback: "::1/128",
    inbound_source: "::6/128",
};

/// The nat table with REDIRECT, for these uids and gids.
fn nat(words: &Words, inbound: bool, owners: &[&str]) -> String {
    let Words {
        loopback,
        inbound_source,
    } = words;
    let mut text = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                    :POSTROUTING ACCEPT [0:0]\n:ISTIO_INBOUND - [0:0]\n\
                    :ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_REDIRECT - [0:0]\n"
        .to_owned();
    if inbound {
        text += "-A PREROUTING -p tcp -j ISTIO_INBOUND\n";
    }
    text += "-A OUTPUT -j ISTIO_OUTPUT\n\
             -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN\n\
             -A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN\n\
             -A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN\n\
             -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n\
             -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006\n";
    writeln!(text, "-A ISTIO_OUTPUT -s {inbound_source} -o lo -j RETURN").unwrap();
    for owner in owners {
        write!(
            text,
            "-A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp -m tcp ! --dport 15008 -m owner {owner} \
             -j ISTIO_IN_REDIRECT\n\
             -A ISTIO_OUTPUT -o lo -m owner ! {owner} -j RETURN\n\
             -A ISTIO_OUTPUT -m owner {owner} -j RETURN\n"
        )
        .unwrap();
    }
    write!(
        text,
        "-A ISTIO_OUTPUT -d {loopback} -j RETURN\n\
         -A ISTIO_OUTPUT -j ISTIO_REDIRECT\n\
         -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n\
         COMMIT\n"
    )
    .unwrap();
    text
}

const OWNERS: [&str; 2] = ["--uid-owner 1337", "--gid-owner 1337"];

/// The mangle table of TPROXY.
fn mangle(words: &Words) -> String {
    let Words {
        loopback,
        inbound_source,
    } = words;
    format!(
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n\
         :OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:ISTIO_DIVERT - [0:0]\n\
         :ISTIO_INBOUND - [0:0]\n:ISTIO_TPROXY - [0:0]\n\
         -A PREROUTING -p tcp -j ISTIO_INBOUND\n\
         -A PREROUTING -p tcp -m mark --mark 0x539 -j CONNMARK --save-mark --nfmask 0xffffffff \
         --ctmask 0xffffffff\n\
         -A OUTPUT -o lo -p tcp -m mark --mark 0x539 -j RETURN\n\
         -A OUTPUT ! -d {loopback} -o lo -p tcp -m owner --uid-owner 1337 -j MARK --set-xmark \
         0x53a/0xffffffff\n\
         -A OUTPUT ! -d {loopback} -o lo -p tcp -m owner --gid-owner 1337 -j MARK --set-xmark \
         0x53a/0xffffffff\n\
         -A OUTPUT -p tcp -m connmark --mark 0x539 -j CONNMARK --restore-mark --nfmask 0xffffffff \
         --ctmask 0xffffffff\n\
         -A ISTIO_DIVERT -j MARK --set-xmark 0x539/0xffffffff\n\
         -A ISTIO_DIVERT -j ACCEPT\n\
         -A ISTIO_INBOUND -p tcp -m mark --mark 0x539 -j RETURN\n\
         -A ISTIO_INBOUND -s {inbound_source} -i lo -p tcp -j RETURN\n\
         -A ISTIO_INBOUND -i lo -p tcp -m mark ! --mark 0x53a -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT\n\
         -A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY\n\
         -A ISTIO_TPROXY ! -d {loopback} -p tcp -j TPROXY --on-port 15006 --on-ip {any} \
         --tproxy-mark 0x539/0xffffffff\n\
         COMMIT\n",
        any = if words.loopback.contains('.') {
            "0.0.0.0"
        } else {
            "::"
        },
    )
}

fn rules(v4: &str, v6: &str) -> Rules {
    Rules::from_iptables_save(v4, Some(v6)).unwrap()
}

fn redirect() -> Rules {
    rules(&nat(&V4, true, &OWNERS), &nat(&V6, true, &OWNERS))
}

#[test]
fn redirect_decides_as_seen_in_the_kernel() {
    holds(&redirect(), &truth::redirect());
}

#[test]
fn tproxy_decides_as_seen_in_the_kernel() {
    let text = |words: &Words| mangle(words) + &nat(words, false, &OWNERS);
    let rules = rules(&text(&V4), &text(&V6))
        .delivering_mark(1337, Family::V4)
        .delivering_mark(1337, Family::V6);
    // A group's call to itself on lo is captured by the first uid's rules only in nat, which here
    // has none; the mark does it.
    holds(&rules, &truth::tproxy());
    // Known faults.
    assert_eq!(fate(&rules, &arrives(POD, 15008)), "tproxy 15006");
    // Without a listener iptables drops.
    let options = shunt_redirect::explain::Options {
        listener: false,
        ..Default::default()
    };
    let explanation = explain_with(&rules, &arrives(POD, 8080), options);
    assert_eq!(word(&explanation), "dropped");
    let mut answer = opens(APP, "10.9.0.7", 40_000);
    answer.state = State::Established;
    answer.connection_mark = 1337;
    let explanation = explain(&rules, &answer);
    assert!(explanation.trace.contains(&Step::DeliveredByMark(1337)));
}

#[test]
fn only_the_first_uid_gets_its_calls_to_itself_captured() {
    let owners = ["--uid-owner 3", "--uid-owner 4", "--gid-owner 1"];
    let rules = rules(&nat(&V4, true, &owners), &nat(&V6, true, &owners));
    holds(
        &rules,
        &[
            (opens((3, 9), POD, 8080), "15006"),
            (opens((4, 9), POD, 8080), "passes"),
            (opens((9, 1), POD, 8080), "passes"),
            (opens((4, 9), "10.9.0.7", 80), "passes"),
            (opens((9, 1), "10.9.0.7", 80), "passes"),
        ],
    );
}

#[test]
fn a_packet_without_a_socket_matches_a_negated_owner() {
    let mut flow = opens(APP, POD, 8080);
    let Side::Sent { sender, .. } = &mut flow.side else {
        unreachable!()
    };
    *sender = Sender::NoSocket;
    let explanation = explain(&redirect(), &flow);
    assert_eq!(word(&explanation), "passes");
    assert!(
        explanation
            .to_string()
            .contains("-o lo -m owner ! --uid-owner 1337 -j RETURN"),
        "{explanation}"
    );
    let Side::Sent { interface, .. } = &mut flow.side else {
        unreachable!()
    };
    "eth0".clone_into(interface);
    flow.destination = "10.9.0.7:80".parse().unwrap();
    assert_eq!(fate(&redirect(), &flow), "15001");
}

/// DNS capture of one server, with the zones.
fn with_dns() -> Rules {
    let raw = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:ISTIO_INBOUND - [0:0]\n\
               :ISTIO_OUTPUT_DNS - [0:0]\n\
               -A PREROUTING -j ISTIO_INBOUND\n\
               -A OUTPUT -j ISTIO_OUTPUT_DNS\n\
               -A ISTIO_INBOUND -s 10.9.0.53/32 -p udp -m udp --sport 53 -j CT --zone 1\n\
               -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT \
               --zone 1\n\
               -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --uid-owner 1337 -j CT \
               --zone 2\n\
               -A ISTIO_OUTPUT_DNS -d 10.9.0.53/32 -p udp -m udp --dport 53 -j CT --zone 2\n\
               COMMIT\n";
    let nat = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
               :POSTROUTING ACCEPT [0:0]\n:ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n\
               :ISTIO_OUTPUT_DNS - [0:0]\n:ISTIO_REDIRECT - [0:0]\n\
               -A OUTPUT -j ISTIO_OUTPUT\n\
               -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006\n\
               -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m multiport ! --dports 53,15008 -m \
               owner --uid-owner 1337 -j ISTIO_IN_REDIRECT\n\
               -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j \
               RETURN\n\
               -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN\n\
               -A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS\n\
               -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n\
               -A ISTIO_OUTPUT -j ISTIO_REDIRECT\n\
               -A ISTIO_OUTPUT_DNS -d 10.9.0.53/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports \
               15053\n\
               -A ISTIO_OUTPUT_DNS -d 10.9.0.53/32 -p udp -m udp --dport 53 -j REDIRECT --to-ports \
               15053\n\
               -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n\
               COMMIT\n";
    Rules::from_iptables_save(&format!("{raw}{nat}"), None).unwrap()
}

#[test]
fn of_several_zones_the_first_wins() {
    let rules = with_dns();
    let zone = |flow: &Flow| explain(&rules, flow).verdict.certain().unwrap().zone;
    let query = |ids| sends(Protocol::Udp, ids, "10.9.0.53", 53);
    // The proxy's query meets both zone rules for it; the targets do not end the chain.
    let explanation = explain(&rules, &query(PROXY));
    assert_eq!(explanation.to_string().matches("-j CT").count(), 2);
    assert_eq!(zone(&query(PROXY)), 1);
    assert_eq!(zone(&query(APP)), 2);
    holds(
        &rules,
        &[
            (query(APP), "15053"),
            (query(PROXY), "passes"),
            (sends(Protocol::Udp, APP, "10.9.0.54", 53), "passes"),
            (opens(APP, "10.9.0.53", 53), "15053"),
            (opens(APP, "10.9.0.54", 53), "15001"),
            (opens(PROXY, POD, 53), "passes"),
            (opens(PROXY, POD, 80), "15006"),
        ],
    );
}

#[test]
fn the_same_rules_are_read_with_counters_and_as_restore_is_fed() {
    let counted = |words: &Words| {
        let text = nat(words, true, &OWNERS);
        text.replace("[0:0]", "[12:345]")
            .lines()
            .map(|line| match line.strip_prefix("-A") {
                Some(rule) => format!("[7:420] -A{rule}\n"),
                None => format!("{line}\n"),
            })
            .collect::<String>()
    };
    holds(&rules(&counted(&V4), &counted(&V6)), &truth::redirect());

    let fed = |words: &Words| {
        let text = nat(words, true, &OWNERS);
        let rules = text
            .lines()
            .filter_map(|line| match line.strip_prefix(':') {
                Some(chain) if chain.contains(" - ") => {
                    Some(format!("-N {}", chain.split(' ').next().unwrap()))
                }
                Some(_) => None,
                None => Some(line.replace(" -m tcp", "").replace("*nat", "* nat")),
            });
        let mut rules: Vec<_> = rules.collect();
        // The first rule of the output chain, put there last.
        let at = rules
            .iter()
            .position(|line| line.starts_with("-A ISTIO_OUTPUT -s"))
            .unwrap();
        let first = rules.remove(at);
        let end = rules.len() - 1;
        rules.insert(end, first.replace("-A ISTIO_OUTPUT", "-I ISTIO_OUTPUT 1"));
        rules.join("\n")
    };
    holds(&rules(&fed(&V4), &fed(&V6)), &truth::redirect());
}

#[test]
fn without_the_text_for_ipv6_nothing_is_said_of_it() {
    let rules = Rules::from_iptables_save(&nat(&V4, true, &OWNERS), None).unwrap();
    assert_eq!(fate(&rules, &opens(APP, "10.9.0.7", 80)), "15001");
    let verdict = explain(&rules, &opens(APP, "fd00:9::7", 80)).verdict;
    let Verdict::Depends { on, .. } = &verdict else {
        panic!("{verdict}")
    };
    assert!(on[0].contains("ip6tables-save"), "{on:?}");
}

#[test]
fn an_accept_before_the_jump_hides_it() {
    let text = nat(&V4, true, &OWNERS).replace(
        "-A OUTPUT -j ISTIO_OUTPUT\n",
        "-A OUTPUT -d 10.96.0.0/12 -j ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\n",
    );
    let rules = Rules::from_iptables_save(&text, None).unwrap();
    holds(
        &rules,
        &[
            (opens(APP, "10.100.0.1", 80), "passes"),
            (opens(APP, "10.9.0.7", 80), "15001"),
        ],
    );
}

#[test]
fn a_foreign_rule_that_is_not_understood_is_named_where_it_matters_and_only_there() {
    let text = nat(&V4, true, &OWNERS).replace(
        "-A OUTPUT -j ISTIO_OUTPUT\n",
        "-A OUTPUT -p tcp -m recent --name seen --rcheck -j ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\n",
    );
    let rules = Rules::from_iptables_save(&text, None).unwrap();
    let verdict = explain(&rules, &opens(APP, "10.9.0.7", 80)).verdict;
    let Verdict::Depends {
        cases,
        on,
        exhaustive: true,
    } = &verdict
    else {
        panic!("{verdict}")
    };
    let fates: Vec<_> = cases
        .iter()
        .map(|case| case.outcome.captured_by())
        .collect();
    assert_eq!(fates, [Some(15001), None]);
    assert_eq!(
        on.as_slice(),
        [
            "-m recent --name seen --rcheck: iptables nat OUTPUT rule 1: -A OUTPUT -p tcp -m recent \
          --name seen --rcheck -j ACCEPT"
        ]
    );
    // UDP is not asked for it, and the proxy passes either way.
    assert_eq!(
        fate(&rules, &sends(Protocol::Udp, APP, "10.9.0.7", 80)),
        "passes"
    );
    assert_eq!(fate(&rules, &opens(PROXY, "10.9.0.7", 80)), "passes");
    assert_eq!(
        fate(&rules, &from(opens(APP, POD, 80), "127.0.0.6")),
        "passes"
    );
}

/// A text with most of what such rules use.
pub(crate) fn save_sample() -> String {
    let raw = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
               -A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1\n\
               -A OUTPUT -d 10.9.0.53/32 -p udp -m udp --dport 53 -j CT --zone 2\nCOMMIT\n";
    let nat = nat(&V4, false, &OWNERS).replace(
        "-A OUTPUT -j ISTIO_OUTPUT\n",
        "-A OUTPUT -p tcp -m multiport --dports 25,465 -m comment --comment \"no mail\" -j RETURN\n\
         -A OUTPUT -j ISTIO_OUTPUT\n",
    );
    format!("{raw}{}{nat}", mangle(&V4))
}

/// The same in short as `nft -j` prints it.
pub(crate) fn nft_sample() -> serde_json::Value {
    use serde_json::{Value, json};
    let base = |name: &str, kind: &str, hook: &str, priority: i32| {
        json!({"chain": {"family": "inet", "table": "t", "name": name, "handle": 2, "type": kind,
            "hook": hook, "prio": priority, "policy": "accept"}})
    };
    let rule = |chain: &str, statements: Value| {
        json!({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 3,
            "comment": "c", "expr": statements}})
    };
    let equals =
        |left: Value, right: Value| json!({"match": {"op": "==", "left": left, "right": right}});
    let differs =
        |left: Value, right: Value| json!({"match": {"op": "!=", "left": left, "right": right}});
    let meta = |key: &str| json!({"meta": {"key": key}});
    let payload =
        |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
    json!({"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "t", "handle": 1}},
        {"set": {"family": "inet", "name": "ports", "table": "t", "type": "inet_service",
            "flags": ["interval"], "elem": [25, {"range": [465, 470]}]}},
        base("raw", "filter", "output", -300),
        base("mangle_in", "filter", "prerouting", -150),
        base("mangle_out", "route", "output", -150),
        base("out", "nat", "output", -100),
        base("in", "nat", "prerouting", -100),
        {"chain": {"family": "inet", "table": "t", "name": "more", "handle": 9}},
        rule("raw", json!([equals(payload("udp", "dport"), json!(53)),
            equals(meta("skuid"), json!(1337)),
            {"mangle": {"key": {"ct": {"key": "zone"}}, "value": 1}}])),
        rule("mangle_in", json!([equals(meta("mark"), json!(1337)),
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"meta": {"key": "mark"}}}},
            {"return": null}])),
        rule("mangle_in", json!([equals(payload("tcp", "dport"), json!(8080)),
            {"tproxy": {"port": 15006}},
            {"mangle": {"key": meta("mark"), "value": {"|": [meta("mark"), 1337]}}},
            {"accept": null}])),
        rule("mangle_out", json!([
            {"match": {"op": "in", "left": {"ct": {"key": "state"}},
                "right": ["established", "related"]}}, {"drop": null}])),
        rule("out", json!([equals(payload("tcp", "dport"), json!("@ports")),
            {"counter": {"packets": 0, "bytes": 0}}, {"return": null}])),
        rule("out", json!([equals(meta("oifname"), json!("lo")),
            differs(payload("ip", "daddr"), json!("127.0.0.1")),
            equals(meta("skuid"), json!({"range": [1330, 1340]})), {"redirect": {"port": 15006}}])),
        rule("out", json!([equals(meta("skuid"), json!({"set": [1337, 1338]})), {"return": null}])),
        rule("out", json!([equals(payload("ip", "daddr"),
            json!({"prefix": {"addr": "127.0.0.0", "len": 8}})), {"return": null}])),
        rule("out", json!([{"jump": {"target": "more"}}])),
        rule("more", json!([equals(meta("l4proto"), json!("tcp")), {"redirect": {"port": 15001}}])),
        rule("in", json!([equals(meta("l4proto"), json!("tcp")), {"redirect": {"port": 15006}}])),
    ]})
}
