//! Differences of rule sets: in words, and as a packet that shows one.

use std::collections::BTreeSet;

use shunt_redirect::Ruleset;
use shunt_redirect::capture::{CaptureConfig, InboundMode, Mark};
use shunt_redirect::diff::{RuleChangeKind, diff};
use shunt_redirect::explain::{Rules, counter_example, explain};
use shunt_redirect::ruleset::{Hook, Verdict};

use crate::support::planned;

fn rules(change: impl FnOnce(&mut CaptureConfig)) -> Ruleset {
    let mut config = CaptureConfig::default();
    change(&mut config);
    planned(&config).ruleset
}

fn chain(ruleset: &mut Ruleset, hook: Hook) -> &mut Vec<shunt_redirect::ruleset::Rule> {
    let mut chains = ruleset.chains.iter_mut();
    &mut chains.find(|chain| chain.hook == hook).unwrap().rules
}

#[test]
fn equal_rules_do_not_differ() {
    let rules = rules(|_| {});
    let difference = diff(&rules, &rules);
    assert!(difference.is_empty());
    assert_eq!(difference.summary(), None);
    assert_eq!(difference.to_string(), "");
}

#[test]
fn what_was_added_removed_changed_and_moved_is_told_apart() {
    let new = rules(|_| {});
    let mut old = new.clone();
    let output = chain(&mut old, Hook::NatOutput);
    // One gone, one moved to the end, one with another verdict, one that nobody knows.
    let gone = output.remove(0);
    let moved = output.remove(0);
    output.push(moved.clone());
    output.last_mut().unwrap().key.clone_from(&moved.key);
    let changed = output[2].clone();
    output[2].verdict = Verdict::Drop;
    let mut foreign = changed.clone();
    foreign.key = String::new();
    foreign.matches.clear();
    output.insert(0, foreign.clone());
    let difference = diff(&old, &new);
    let kinds: Vec<_> = difference.rules.iter().map(|change| &change.kind).collect();
    assert!(
        matches!(kinds.as_slice(), [
            RuleChangeKind::Removed { place: 1, rule: stranger, before: Some(_) },
            RuleChangeKind::Added { place: 1, rule: added },
            RuleChangeKind::Moved { to: 2, rule: passed, .. },
            RuleChangeKind::Changed { old, new, .. },
        ] if *stranger == foreign && *added == gone && *passed == moved
            && old.verdict == Verdict::Drop && *new == changed),
        "{difference}"
    );
    let text = difference.to_string();
    let signs: String = text
        .lines()
        .skip(1)
        .filter_map(|line| line.chars().nth(2))
        .collect();
    assert_eq!(signs, "-+>-+", "{text}");
    assert!(text.starts_with("chain nat_output\n"), "{text}");
    let back = diff(&new, &old);
    assert_eq!(back.rules.len(), 4, "{back}");
}

#[test]
fn sets_differ_by_elements() {
    let with = |uids: &[u32]| {
        let uids = uids.iter().copied().collect::<BTreeSet<_>>();
        rules(|config| config.proxy.uids = uids)
    };
    let difference = diff(&with(&[1337, 7]), &with(&[1337, 9]));
    assert!(difference.rules.is_empty());
    assert_eq!(difference.to_string(), "set proxy_uids +9 -7\n");
    assert_eq!(
        difference.summary().unwrap(),
        "the sets differ: set proxy_uids lacks 9, and has 7"
    );
    let many: Vec<u32> = (0..100).map(|id| id * 2).collect();
    let text = diff(&with(&[1337]), &with(&many)).to_string();
    assert!(text.contains("+38 +(80 more) -1337"), "{text}");
}

#[test]
fn a_counter_example_is_found_for_every_single_rule_that_goes() {
    for tproxy in [false, true] {
        let mut config = CaptureConfig::default();
        config.outbound.exclude_cidrs = vec!["10.1.0.0/16".parse().unwrap()];
        config.outbound.exclude_ports = [(25, 25)].into_iter().collect();
        config.inbound.exclude_sources = vec!["10.2.0.0/16".parse().unwrap()];
        config.drop_invalid = true;
        if tproxy {
            config.inbound.mode = InboundMode::Tproxy {
                mark: Mark::new(1337).unwrap(),
                table: 133,
            };
        }
        let plan = planned(&config);
        let whole = Rules::from_plan(&plan);
        assert_eq!(counter_example(&whole, &whole), None);
        let mut silent = Vec::new();
        for chain in 0..plan.ruleset.chains.len() {
            for rule in 0..plan.ruleset.chains[chain].rules.len() {
                let mut less = plan.clone();
                let gone = less.ruleset.chains[chain].rules.remove(rule);
                let less = Rules::from_plan(&less);
                match counter_example(&whole, &less) {
                    Some(flow) => assert_ne!(
                        explain(&whole, &flow).verdict,
                        explain(&less, &flow).verdict,
                        "{flow}"
                    ),
                    None => silent.push(gone.key),
                }
            }
        }
        // These act only where DNS is captured, or while no proxy listens, or let pass what another
        // rule behind them lets pass as well.
        let expected: &[&str] = if tproxy {
            &[
                "tproxy/no-listener",
                "outbound/exclude-ports-udp",
                "outbound/inbound-source-v4",
                "outbound/inbound-source-v6",
                "outbound/self-call-marked",
            ]
        } else {
            &["outbound/exclude-ports-udp"]
        };
        assert_eq!(silent, expected);
    }
}

#[test]
fn a_block_more_among_thousands_is_found() {
    let with = |more: Option<&str>| {
        let blocks = (0..5000u32).map(|n| std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 8));
        let blocks = blocks.map(|address| format!("{address}/30"));
        let blocks = blocks.chain(more.map(str::to_owned));
        let mut config = CaptureConfig::default();
        config.outbound.exclude_cidrs = blocks.map(|block| block.parse().unwrap()).collect();
        Rules::from_plan(&planned(&config))
    };
    let flow = counter_example(&with(None), &with(Some("11.0.99.4/32"))).unwrap();
    assert_eq!(flow.destination.ip().to_string(), "11.0.99.4");
}
