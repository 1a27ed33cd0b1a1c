//! Texts that nobody meant to be rules, and rules of which a word was lost.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use shunt_redirect::explain::{Explanation, Fate, Flow, Protocol, Rules, Verdict, explain};

use crate::istio::{nft_sample, save_sample};
use crate::support::{APP, POD, PROXY, arrives, opens, sends};

fn flows() -> Vec<Flow> {
    let mut flows = vec![
        opens(APP, "10.9.0.7", 80),
        opens(APP, "10.9.0.7", 25),
        opens(PROXY, POD, 8080),
        opens(PROXY, "10.9.0.7", 80),
        opens(APP, POD, 8080),
        opens(APP, "127.0.0.1", 8080),
        arrives(POD, 8080),
        arrives(POD, 15008),
        sends(Protocol::Udp, APP, "10.9.0.53", 53),
        sends(Protocol::Udp, PROXY, "10.9.0.53", 53),
    ];
    let mut marked = arrives(POD, 8080);
    marked.mark = 1337;
    flows.push(marked);
    flows
}

/// What may be lost without a word: the verdict is the same, or not certain, and then the true one
/// is among its cases or a rule that is not understood decides.
fn keeps_its_word(before: &Explanation, after: &Explanation) -> bool {
    let Verdict::Certain(truth) = &before.verdict else {
        return true;
    };
    match &after.verdict {
        Verdict::Certain(outcome) => outcome == truth,
        Verdict::Depends { cases, .. } => cases
            .iter()
            .any(|case| case.outcome == *truth || case.outcome.fate == Fate::Unknown),
    }
}

#[test]
fn every_word_of_iptables_save_that_is_lost_is_missed() {
    let text = save_sample();
    let whole = Rules::from_iptables_save(&text, None).unwrap();
    let flows = flows();
    let before: Vec<_> = flows.iter().map(|flow| explain(&whole, flow)).collect();
    let words: Vec<_> = text
        .split_inclusive([' ', '\n'])
        .map(|word| word.trim_end_matches([' ', '\n']).len())
        .scan(0, |at, length| {
            let start = *at;
            *at = start + length + 1;
            Some(start..start + length)
        })
        .collect();
    assert!(words.len() > 300);
    for word in words {
        // A name for a name, a target for a target: nothing tells that it was another.
        let mut changed = text.clone();
        changed.replace_range(word.clone(), "xyzzy");
        let Ok(rules) = Rules::from_iptables_save(&changed, None) else {
            continue;
        };
        for (flow, before) in flows.iter().zip(&before) {
            let after = explain(&rules, flow);
            let line = text[..word.start].rfind('\n').map_or(0, |at| at + 1);
            let is_name = matches!(
                text[line..word.start].trim_end().rsplit(' ').next(),
                Some("-i" | "-o")
            );
            assert!(
                is_name || keeps_its_word(before, &after),
                "{:?} in {:?}\n{flow}\nbefore: {before}\nafter: {after}",
                &text[word.clone()],
                text[line..].lines().next()
            );
        }
    }
}

/// Places of all strings in a JSON value, as pointers.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strings(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                strings(field, &format!("{at}/{key}"), found);
            }
        }
        _ => {}
    }
}

/// Places of all keys of objects.
fn keys(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                keys(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                found.push((at.to_owned(), key.clone()));
                keys(field, &format!("{at}/{key}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_word_of_nft_json_that_is_lost_is_missed() {
    let listing = nft_sample();
    let whole = Rules::from_nft_json(&listing.to_string()).unwrap();
    let flows = flows();
    let before: Vec<_> = flows.iter().map(|flow| explain(&whole, flow)).collect();
    let (mut texts, mut fields) = (Vec::new(), Vec::new());
    strings(&listing, "", &mut texts);
    keys(&listing, "", &mut fields);
    let mut mutants = Vec::new();
    for pointer in &texts {
        let mut mutant = listing.clone();
        *mutant.pointer_mut(pointer).unwrap() = Value::from("xyzzy");
        // An interface may have any name.
        let name = pointer.strip_suffix("/right").and_then(|at| {
            let left = listing.pointer(&format!("{at}/left/meta/key"))?;
            left.as_str().filter(|key| key.contains("if"))
        });
        // A table or chain may have any name, if it is told of both by the same.
        if name.is_none() {
            mutants.push((pointer.clone(), mutant));
        }
    }
    for (pointer, key) in &fields {
        let mut mutant = listing.clone();
        let object = mutant.pointer_mut(pointer).and_then(Value::as_object_mut);
        let object = object.unwrap();
        let field = object.remove(key).unwrap();
        // A rule may be without a comment, a chain without a policy, a rule without a handle.
        let optional = matches!(key.as_str(), "comment" | "policy" | "handle" | "metainfo");
        object.insert("xyzzy".to_owned(), field);
        if !optional {
            mutants.push((format!("{pointer}/{key}"), mutant));
        }
    }
    assert!(mutants.len() > 200, "{}", mutants.len());
    for (place, mutant) in mutants {
        let Ok(rules) = Rules::from_nft_json(&mutant.to_string()) else {
            continue;
        };
        for (flow, before) in flows.iter().zip(&before) {
            let after = explain(&rules, flow);
            assert!(
                keeps_its_word(before, &after),
                "{place}\n{flow}\nbefore: {before}\nafter: {after}"
            );
        }
    }
}

/// Words of both languages, to come nearer to rules than any text does.
fn word() -> impl Strategy<Value = String> {
    const WORDS: [&str; 40] = [
        "*nat",
        "*raw",
        "*mangle",
        "COMMIT",
        ":OUTPUT ACCEPT [0:0]",
        ":A - [0:0]",
        ":B - [0:0]",
        "-A OUTPUT",
        "-A A",
        "-A B",
        "-I A 1",
        "-N C",
        "-j",
        "-g",
        "A",
        "B",
        "ACCEPT",
        "RETURN",
        "DROP",
        "REDIRECT",
        "--to-ports",
        "15001",
        "-p",
        "tcp",
        "udp",
        "-m",
        "owner",
        "!",
        "--uid-owner",
        "0-5",
        "--dport",
        "80:90",
        "-d",
        "127.0.0.1/32",
        "MARK",
        "--set-xmark",
        "0x1/0xff",
        "multiport",
        "--dports",
        "\n",
    ];
    prop_oneof![
        9 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

fn json(depth: u32) -> impl Strategy<Value = Value> {
    const KEYS: [&str; 30] = [
        "nftables", "table", "chain", "rule", "set", "family", "name", "expr", "match", "left",
        "right", "op", "meta", "key", "ct", "payload", "protocol", "field", "jump", "target",
        "mangle", "value", "redirect", "port", "elem", "type", "hook", "prio", "policy", "range",
    ];
    const TEXTS: [&str; 20] = [
        "inet",
        "ip",
        "t",
        "c",
        "filter",
        "nat",
        "output",
        "accept",
        "drop",
        "==",
        "!=",
        "mark",
        "tcp",
        "dport",
        "daddr",
        "127.0.0.1",
        "@s",
        "ipv4_addr",
        "l4proto",
        "skuid",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((select(&KEYS[..]), inner), 0..4).prop_map(|fields| {
                let fields = fields.into_iter();
                Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn asked_in_time(rules: &Rules) {
    let started = Instant::now();
    for flow in flows() {
        let _answer = explain(rules, &flow).to_string();
    }
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_iptables_save_panic(text in "\\PC{0,200}|(\\PC|\n|\"|\\\\){0,200}") {
        if let Ok(rules) = Rules::from_iptables_save(&text, Some(&text)) {
            asked_in_time(&rules);
        }
    }

    #[test]
    fn no_words_make_iptables_save_panic(words in prop::collection::vec(word(), 0..80)) {
        let text = format!("*nat\n:A - [0:0]\n-A OUTPUT {}\nCOMMIT\n", words.join(" "));
        if let Ok(rules) = Rules::from_iptables_save(&text, None) {
            asked_in_time(&rules);
        }
    }

    #[test]
    fn no_text_makes_nft_json_panic(text in "\\PC{0,200}", value in json(5)) {
        prop_assert!(Rules::from_nft_json(&text).is_err());
        let listing = serde_json::json!({ "nftables": value });
        if let Ok(rules) = Rules::from_nft_json(&listing.to_string()) {
            asked_in_time(&rules);
        }
    }

    #[test]
    fn any_statement_in_a_rule_is_taken(statements in prop::collection::vec(json(4), 0..6)) {
        let listing = serde_json::json!({"nftables": [
            {"table": {"family": "inet", "name": "t"}},
            {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter",
                "hook": "output", "prio": 0}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "expr": statements}},
        ]});
        asked_in_time(&Rules::from_nft_json(&listing.to_string()).unwrap());
    }

    #[test]
    fn lines_of_rules_in_any_order_are_refused_or_read(
        cuts in prop::collection::vec(any::<(Index, Index)>(), 0..6),
    ) {
        let text = save_sample();
        let mut lines: Vec<&str> = text.lines().collect();
        for (one, other) in cuts {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
        }
        if let Ok(rules) = Rules::from_iptables_save(&lines.join("\n"), None) {
            asked_in_time(&rules);
        }
    }
}

#[test]
fn chains_that_call_each_other_many_times_end_in_time() {
    // Two calls in each of forty chains would be 2^40 visits.
    let mut text = "*nat\n".to_owned();
    for chain in 0..40 {
        text += &format!(":C{chain} - [0:0]\n");
    }
    for chain in 0..39 {
        let rule = format!("-A C{chain} -j C{}\n", chain + 1);
        text += &rule;
        text += &rule;
    }
    text += "-A C39 -p tcp -m recent --name x -j RETURN\n-A OUTPUT -j C0\nCOMMIT\n";
    let rules = Rules::from_iptables_save(&text, None).unwrap();
    let started = Instant::now();
    let verdict = explain(&rules, &opens(APP, "10.9.0.7", 80)).verdict;
    assert!(
        matches!(
            verdict,
            Verdict::Depends {
                exhaustive: false,
                ..
            }
        ),
        "{verdict}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}
