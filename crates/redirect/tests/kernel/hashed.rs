//! Long lists of CIDRs: the addresses among them in a hash table, the blocks in a tree beside it.

use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use shunt_abi::rule;
use shunt_redirect::nft::{self as kernel, render};
use shunt_redirect::verify::verify;
use shunt_redirect::{Backend, CaptureConfig, Change, apply, remove};

use crate::iptables::{self, FAMILIES, FLAVOURS};
use crate::support::{in_pod, ip, listed, nft, nft_file, policy};
use crate::verify::{not_live, unhurried};

/// Excluded: so many addresses of each family of which no two are neighbours, and what else.
fn excluding(count: u32, more: &str) -> CaptureConfig {
    let addresses = (0..count).map(|n| {
        let v4 = Ipv4Addr::from_bits(0xc633_6400 + 2 * n);
        let v6 = Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(2 * n));
        format!("{v4}/32,{v6}/128")
    });
    let list: Vec<String> = addresses.chain([more.to_owned()]).collect();
    let list = list.join(",");
    policy(&["-i", "*", "-b", "*", "-x", list.trim_end_matches(',')])
}

/// Two neighbours, three, and a block, of each family.
const MIXED: &str = "203.0.113.1/32,203.0.113.2/32,203.0.113.8/31,203.0.113.10/32,192.0.2.0/24,\
                     fd00:1::1/128,fd00:1::2/128,fd00:1::8/127,fd00:1::a/128,fd00:2::/32";

/// The key of the rule that decides on a connection to this address.
fn decides(address: &str) -> Option<String> {
    let before = kernel::list().unwrap().unwrap();
    // Its first packet is counted before anybody answers.
    let to = (address.parse::<std::net::IpAddr>().unwrap(), 9).into();
    let _unanswered = TcpStream::connect_timeout(&to, Duration::from_millis(1));
    let after = kernel::list().unwrap().unwrap();
    let decided = after.rules.iter().zip(&before.rules);
    let mut decided = decided.filter(|(after, before)| after.packets > before.packets);
    decided.next().map(|(rule, _)| rule.key.clone())
}

fn routed() {
    ip("route add default via 10.9.0.1");
    ip("-6 route add default via fd00:9::1");
}

#[test]
fn many_single_addresses_stand_in_a_hash_table_and_are_matched_one_by_one() {
    in_pod(|| {
        let applied = apply(&excluding(255, "")).unwrap();
        assert_eq!(listed(), render::table(&applied.plan.ruleset));
        assert_eq!(listed().matches("flags interval").count(), 4);

        let applied = apply(&excluding(300, "")).unwrap();
        let text = listed();
        assert_eq!(text, render::table(&applied.plan.ruleset));
        assert_eq!(text.matches("\t\tsize 300\n").count(), 2, "{text}");
        assert_eq!(
            apply(&excluding(300, "")).unwrap().change,
            Change::Unchanged
        );

        routed();
        for (address, decided) in [
            ("198.51.100.0", rule::OUTBOUND_EXCLUDE_V4),
            ("198.51.100.1", rule::OUTBOUND_CAPTURE),
        ] {
            assert_eq!(decides(address).as_deref(), Some(decided), "{address}");
        }

        nft("delete element inet shunt outbound_exclude_v4 { 198.51.100.2 }");
        let healed = apply(&excluding(300, "")).unwrap();
        let difference = "the sets differ: set outbound_exclude_v4 lacks 198.51.100.2".to_owned();
        assert_eq!(healed.change, Change::Replaced { difference });
        assert_eq!(listed(), text);
    });
}

#[test]
fn neighbours_and_blocks_send_no_list_out_of_the_hash_table() {
    in_pod(|| {
        let config = excluding(300, MIXED);
        let applied = apply(&config).unwrap();
        let text = listed();
        assert_eq!(text, render::table(&applied.plan.ruleset));
        assert_eq!(text.matches("\t\tsize 302\n").count(), 2, "{text}");
        for blocks in [
            "elements = { 192.0.2.0/24, 203.0.113.8-203.0.113.10 }",
            "elements = { fd00:1::8-fd00:1::a, fd00:2::/32 }",
        ] {
            assert!(text.contains(blocks), "{text}");
        }
        assert_eq!(apply(&config).unwrap().change, Change::Unchanged);

        routed();
        for (address, decided) in [
            ("198.51.100.0", rule::OUTBOUND_EXCLUDE_V4),
            ("198.51.100.1", rule::OUTBOUND_CAPTURE),
            ("203.0.113.0", rule::OUTBOUND_CAPTURE),
            ("203.0.113.1", rule::OUTBOUND_EXCLUDE_V4),
            ("203.0.113.2", rule::OUTBOUND_EXCLUDE_V4),
            ("203.0.113.3", rule::OUTBOUND_CAPTURE),
            ("203.0.113.9", rule::OUTBOUND_EXCLUDE_BLOCKS_V4),
            ("203.0.113.11", rule::OUTBOUND_CAPTURE),
            ("192.0.2.77", rule::OUTBOUND_EXCLUDE_BLOCKS_V4),
            ("fd00::2", rule::OUTBOUND_EXCLUDE_V6),
            ("fd00:1::2", rule::OUTBOUND_EXCLUDE_V6),
            ("fd00:1::3", rule::OUTBOUND_CAPTURE),
            ("fd00:1::9", rule::OUTBOUND_EXCLUDE_BLOCKS_V6),
            ("fd00:2:ffff::", rule::OUTBOUND_EXCLUDE_BLOCKS_V6),
        ] {
            assert_eq!(decides(address).as_deref(), Some(decided), "{address}");
        }

        remove().unwrap();
        nft_file(&text);
        let again = apply(&config).unwrap();
        assert_eq!(again.change, Change::Unchanged, "nft reads it as we do");
    });
}

#[test]
fn what_is_gone_from_either_set_or_rule_is_told_and_healed() {
    in_pod(|| {
        let config = excluding(300, MIXED);
        apply(&config).unwrap();
        let text = listed();
        let handle = |key: &str| {
            let all = crate::support::output("nft", &["-a", "list", "table", "inet", "shunt"]);
            let line = all
                .lines()
                .find(|line| line.contains(&format!("\"{key}\"")));
            line.unwrap().rsplit(' ').next().unwrap().to_owned()
        };
        let blocks = handle(rule::OUTBOUND_EXCLUDE_BLOCKS_V4);
        let list = handle(rule::OUTBOUND_EXCLUDE_V4);
        for (command, told) in [
            (
                "delete element inet shunt outbound_exclude_v4 { 203.0.113.2 }".to_owned(),
                "the sets differ: set outbound_exclude_v4 lacks 203.0.113.2",
            ),
            (
                "delete element inet shunt outbound_exclude_v4 { 198.51.100.0 }; \
                 add element inet shunt outbound_exclude_v4 { 203.0.113.4 }"
                    .to_owned(),
                "the sets differ: set outbound_exclude_v4 lacks 198.51.100.0, and has 203.0.113.4",
            ),
            (
                "delete element inet shunt outbound_exclude_blocks_v4 { 192.0.2.0/24 }".to_owned(),
                "the sets differ: set outbound_exclude_blocks_v4 lacks 192.0.2.0/24",
            ),
            (
                format!("delete rule inet shunt nat_output handle {blocks}"),
                "rule outbound/exclude-blocks-v4 is missing",
            ),
            (
                format!("delete rule inet shunt nat_output handle {list}"),
                "rule outbound/exclude-cidrs-v4 is missing",
            ),
        ] {
            // Handles count anew in a new table.
            nft(&command);
            let healed = apply(&config).unwrap();
            let Change::Replaced { difference } = healed.change else {
                panic!("{command}: {:?}", healed.change)
            };
            assert!(difference.starts_with(told), "{command}: {difference}");
            assert_eq!(listed(), text, "{command}");
        }
    });
}

#[test]
fn both_rules_of_a_list_are_proved_by_packets() {
    in_pod(|| {
        let mut config = excluding(256, MIXED);
        config.inbound.exclude_sources = config.outbound.exclude_cidrs.clone();
        let plan = apply(&config).unwrap().plan;
        let report = verify(&plan, Backend::Nft, &unhurried()).unwrap();
        let lists = [
            rule::INBOUND_EXCLUDE_SOURCES_V4,
            rule::INBOUND_EXCLUDE_BLOCKS_V4,
            rule::INBOUND_EXCLUDE_SOURCES_V6,
            rule::INBOUND_EXCLUDE_BLOCKS_V6,
            rule::OUTBOUND_EXCLUDE_V4,
            rule::OUTBOUND_EXCLUDE_BLOCKS_V4,
            rule::OUTBOUND_EXCLUDE_V6,
            rule::OUTBOUND_EXCLUDE_BLOCKS_V6,
        ];
        let told = not_live(&report);
        assert!(report.failed().next().is_none(), "{told:#?}");
        for key in lists {
            assert!(report.legs.iter().any(|leg| leg.key == key), "{key}");
            assert!(!told.iter().any(|leg| leg.contains(key)), "{told:#?}");
        }
        for key in lists {
            let mut less = plan.ruleset.clone();
            for chain in &mut less.chains {
                chain.rules.retain(|rule| rule.key != key);
            }
            nft_file(&format!(
                "delete table inet shunt\n{}",
                render::table(&less)
            ));
            let report = verify(&plan, Backend::Nft, &unhurried()).unwrap();
            let failed: Vec<_> = report.failed().map(|leg| leg.key.as_str()).collect();
            assert_eq!(failed, [key]);
        }
    });
}

#[test]
fn iptables_keeps_one_rule_for_each_block_under_one_key() {
    let config = excluding(256, MIXED);
    for flavour in FLAVOURS {
        in_pod(|| {
            apply(&config).unwrap();
            let applied = iptables::applied(&config, flavour);
            assert_eq!(applied.replaced, [Backend::Nft]);
            for family in FAMILIES {
                let text = iptables::ours(flavour, family).text();
                // Each address, the two neighbours (not aligned), three (two blocks), the block.
                let rules = text.matches("outbound/exclude-cidrs-v").count();
                assert_eq!(rules, 256 + 2 + 2 + 1, "{text}");
                assert!(!text.contains("blocks"), "{text}");
            }
            let again = iptables::applied(&config, flavour);
            assert_eq!(again.change, Change::Unchanged);
            let back = apply(&config).unwrap();
            assert_eq!(back.change, Change::Created);
            assert_eq!(back.replaced, [Backend::Iptables(flavour)]);
        });
    }
}
