//! Each rule of the plans taken away, then weakened in every way that a rule can be: verification
//! fails and names the leg. What probes alone find of it, without reading the rules back, is a
//! golden; what they do not is told in docs/verification.md, which is read here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use shunt_redirect::backend;
use shunt_redirect::capture::Port;
use shunt_redirect::iptables::{self, Flavour};
use shunt_redirect::nft::render;
use shunt_redirect::ranges::Ranges;
use shunt_redirect::ruleset::{
    AddressTest, Elements, Family, Match, PortTest, Protocol, Rule, Ruleset, Verdict,
};
use shunt_redirect::verify::{Leg, Options, Proof, verify};
use shunt_redirect::{Backend, Plan, apply};

use crate::iptables::{FAMILIES, choice, program};
use crate::support::{INJECTOR, in_pod, input, ip, nft_file, policy};
use crate::verify::unhurried;

/// A wrong rule set, and the rule that is wrong in it.
struct Mutant {
    key: String,
    how: String,
    rules: Ruleset,
}

/// Every rule taken away, and weakened; but those that are in `seen` as they are here.
fn mutants(plan: &Ruleset, seen: &Ruleset) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (c, chain) in plan.chains.iter().enumerate() {
        for (r, rule) in chain.rules.iter().enumerate() {
            let seen = seen.chain(chain.hook).into_iter();
            if seen
                .flat_map(|chain| &chain.rules)
                .any(|other| other == rule)
            {
                continue;
            }
            let mut add = |how: String, change: &dyn Fn(&mut Ruleset)| {
                let mut rules = plan.clone();
                change(&mut rules);
                if rules != *plan {
                    let key = rule.key.clone();
                    mutants.push(Mutant { key, how, rules });
                }
            };
            add("deleted".to_owned(), &|rules| {
                rules.chains[c].rules.remove(r);
                rules.chains.retain(|chain| !chain.rules.is_empty());
            });
            add("only for IPv4".to_owned(), &|rules| {
                // nft cannot say it of TPROXY.
                let tproxy = matches!(rule.verdict, Verdict::Tproxy { .. });
                let matches = &mut rules.chains[c].rules[r].matches;
                if !tproxy && !matches.iter().any(of_family) {
                    matches.push(Match::Family(Family::V4));
                }
            });
            add("only for UDP".to_owned(), &|rules| {
                if ![Protocol::Tcp, Protocol::Udp]
                    .iter()
                    .any(|p| about(rule, *p))
                {
                    let udp = Match::Protocol(Protocol::Udp);
                    rules.chains[c].rules[r].matches.push(udp);
                }
            });
            for (m, test) in rule.matches.iter().enumerate() {
                // A redirect needs a protocol.
                if word(test) != "protocol" && !matches!(test, Match::DestinationPort(..)) {
                    add(format!("without {}", word(test)), &|rules| {
                        rules.chains[c].rules[r].matches.remove(m);
                    });
                }
                if let Some(other) = other(test) {
                    add(format!("with another {}", word(test)), &|rules| {
                        rules.chains[c].rules[r].matches[m] = other.clone();
                    });
                }
                if let Some(set) = set_of(test) {
                    add(format!("{set} without its last element"), &|rules| {
                        change(rules, set, &Change::Shrink);
                    });
                    add(format!("{set} with one element more"), &|rules| {
                        change(rules, set, &Change::Grow);
                    });
                }
            }
            add("with another verdict".to_owned(), &|rules| {
                let verdict = &mut rules.chains[c].rules[r].verdict;
                *verdict = wrong(*verdict);
            });
        }
    }
    mutants
}

fn about(rule: &Rule, protocol: Protocol) -> bool {
    rule.matches.iter().any(|test| match test {
        Match::Protocol(found) | Match::DestinationPort(found, _) | Match::SourcePort(found, _) => {
            *found == protocol
        }
        _ => false,
    })
}

fn of_family(test: &Match) -> bool {
    matches!(
        test,
        Match::Family(_) | Match::Source(_) | Match::Destination(_)
    )
}

fn word(test: &Match) -> &'static str {
    match test {
        Match::Family(_) => "family",
        Match::InLoopback | Match::OutLoopback => "loopback",
        Match::InInterface(_) | Match::OutInterface(_) => "interface",
        Match::Protocol(_) => "protocol",
        Match::Source(_) => "source",
        Match::Destination(_) => "destination",
        Match::SourcePort(..) => "source port",
        Match::DestinationPort(..) => "destination port",
        Match::OwnerUid(_) | Match::OwnerGid(_) | Match::NotOwnerGid(_) => "owner",
        Match::Cgroup(_) => "cgroup",
        Match::Mark(_) | Match::NotMark(_) => "mark",
        Match::ConnectionMark(_) | Match::NotConnectionMark(_) => "connection's mark",
        Match::Original => "direction",
        Match::Established | Match::Invalid => "state",
    }
}

/// The same test of another value.
fn other(test: &Match) -> Option<Match> {
    let port = |test: &PortTest| match test {
        PortTest::Is(port) => Some(PortTest::Is(port + 1)),
        PortTest::IsNot(port) => Some(PortTest::IsNot(port + 1)),
        _ => None,
    };
    let address = |test: &AddressTest| match test {
        AddressTest::Is(std::net::IpAddr::V4(address)) => {
            let next = std::net::Ipv4Addr::from_bits(address.to_bits() + 1);
            Some(AddressTest::Is(next.into()))
        }
        AddressTest::Is(std::net::IpAddr::V6(address)) => {
            let next = std::net::Ipv6Addr::from_bits(address.to_bits() + 1);
            Some(AddressTest::Is(next.into()))
        }
        _ => None,
    };
    Some(match test {
        Match::Source(test) => Match::Source(address(test)?),
        Match::Destination(test) => Match::Destination(address(test)?),
        Match::SourcePort(protocol, test) => Match::SourcePort(*protocol, port(test)?),
        Match::DestinationPort(protocol, test) => Match::DestinationPort(*protocol, port(test)?),
        Match::Mark(mark) => Match::Mark(mark + 100),
        Match::NotMark(mark) => Match::NotMark(mark + 100),
        Match::ConnectionMark(mark) => Match::ConnectionMark(mark + 100),
        Match::NotConnectionMark(mark) => Match::NotConnectionMark(mark + 100),
        Match::Protocol(Protocol::Tcp) => Match::Protocol(Protocol::Udp),
        _ => return None,
    })
}

fn set_of(test: &Match) -> Option<&str> {
    match test {
        Match::OwnerUid(set) | Match::OwnerGid(set) | Match::NotOwnerGid(set) => Some(set),
        Match::Source(AddressTest::In(_, set)) | Match::Destination(AddressTest::In(_, set)) => {
            Some(set)
        }
        Match::DestinationPort(_, PortTest::In(set) | PortTest::NotIn(set)) => Some(set),
        _ => None,
    }
}

enum Change {
    Shrink,
    Grow,
}

fn change(rules: &mut Ruleset, set: &str, change: &Change) {
    fn changed<T: Copy + shunt_redirect::ranges::Scalar>(ranges: &mut Ranges<T>, change: &Change) {
        let mut intervals: Vec<_> = ranges.iter().collect();
        match change {
            Change::Shrink if intervals.len() > 1 => drop(intervals.pop()),
            Change::Shrink => {}
            Change::Grow => {
                if let Some(last) = intervals.last_mut() {
                    last.1 = last.1.successor().unwrap_or(last.1);
                }
            }
        }
        *ranges = intervals.into_iter().collect();
    }
    let set = rules.sets.iter_mut().find(|found| found.name == set);
    match &mut set.unwrap().elements {
        Elements::Ports(ranges) => changed(ranges, change),
        Elements::V4(ranges) | Elements::Uids(ranges) | Elements::Gids(ranges) => {
            changed(ranges, change);
        }
        Elements::V6(ranges) => changed(ranges, change),
    }
}

/// A verdict that does harm.
fn wrong(verdict: Verdict) -> Verdict {
    let next = |port: Port| Port::new(port.get() + 1).unwrap();
    match verdict {
        Verdict::Return => Verdict::Drop,
        Verdict::Drop => Verdict::Return,
        Verdict::Redirect(port) => Verdict::Redirect(next(port)),
        Verdict::Tproxy { port, mark } => Verdict::Tproxy {
            port: next(port),
            mark,
        },
        Verdict::SetMark(mark) => Verdict::SetMark(mark + 100),
        Verdict::RestoreMark | Verdict::SaveMark => Verdict::Return,
        Verdict::Zone(zone) => Verdict::Zone(zone + 10),
    }
}

/// Nothing of a nat chain may drop: there a rule that passes is replaced by one that captures.
fn loadable(mut rules: Ruleset) -> Ruleset {
    for chain in &mut rules.chains {
        let nat = chain.hook.stage() == shunt_redirect::ruleset::Stage::Nat;
        for rule in &mut chain.rules {
            if nat && rule.verdict == Verdict::Drop {
                rule.verdict = Verdict::Redirect(Port::new(9).unwrap());
                if !about(rule, Protocol::Udp) && !about(rule, Protocol::Tcp) {
                    rule.matches.push(Match::Protocol(Protocol::Tcp));
                }
            }
        }
    }
    rules
}

/// The rules that docs/verification.md says probes cannot tell a change of.
fn documented() -> BTreeSet<String> {
    let document = include_str!("../../../../docs/verification.md");
    let section = document.split("## What probes do not tell").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('`');
        cells.next().map(str::to_owned)
    });
    rows.collect()
}

/// Puts rules in the place of those that are there. `false`: they are the same in that language.
fn load(rules: &Ruleset, plan: &Ruleset, backend: Backend) -> bool {
    let Backend::Iptables(flavour) = backend else {
        nft_file(&format!(
            "delete table inet shunt\n{}",
            render::table(rules)
        ));
        return true;
    };
    let states = FAMILIES.map(|family| iptables::render::state(rules, family));
    if states == FAMILIES.map(|family| iptables::render::state(plan, family)) {
        return false;
    }
    for (family, state) in FAMILIES.into_iter().zip(states) {
        let mut text = state.text();
        for table in ["raw", "mangle", "nat"] {
            if !text.contains(&format!("*{table}\n")) {
                writeln!(text, "*{table}\nCOMMIT").unwrap();
            }
        }
        input(&program(flavour, family, "-restore"), &[], &text);
    }
    true
}

/// Goes through mutants of a plan. Tells what probes alone do not find.
fn survivors(plan: &Plan, backend: Backend, mutants: Vec<Mutant>) -> String {
    let mut text = String::new();
    let (mut found, mut all) = (0, 0);
    for mutant in mutants {
        let rules = loadable(mutant.rules);
        if !load(&rules, &plan.ruleset, backend) {
            continue;
        }
        let what = format!("{} {}", mutant.key, mutant.how);
        // What is wrong is wrong at once.
        let options = Options {
            attempts: 1,
            ..unhurried()
        };
        let report = verify(plan, backend, &options).unwrap();
        let named: Vec<_> = report.failed().map(|leg| leg.key.as_str()).collect();
        assert!(named.contains(&mutant.key.as_str()), "{what}: {named:?}");
        // What is only read back is expected to be a rule, not a flow.
        let by_probes = |leg: &&Leg| match &leg.proof {
            Proof::Failed(failure) => !failure.expected.starts_with("rule "),
            _ => false,
        };
        all += 1;
        if report.failed().any(|leg| by_probes(&leg)) {
            found += 1;
        } else {
            writeln!(text, "{what}").unwrap();
        }
    }
    format!("probes find {found} of {all}; not:\n{text}")
}

/// `seen`: another policy, whose rules need not be gone through again.
fn check(name: &str, arguments: &[&str], seen: Option<&[&str]>) {
    in_pod(|| {
        let seen = seen.map(|seen| apply(&policy(seen)).unwrap().plan.ruleset);
        let plan = apply(&policy(arguments)).unwrap().plan;
        let mutants = mutants(&plan.ruleset, &seen.unwrap_or_default());
        let survivors = survivors(&plan, Backend::Nft, mutants);
        let documented = documented();
        let key = |line: &str| {
            let key = line.split([' ', ':']).next().unwrap_or_default();
            key.to_owned()
        };
        let undocumented: Vec<&str> = survivors
            .lines()
            .skip(1)
            .filter(|line| !documented.contains(&key(line)))
            .collect();
        assert!(undocumented.is_empty(), "{undocumented:#?}");
        insta::with_settings!({ description => arguments.join(" "), omit_expression => true }, {
            insta::assert_snapshot!(name, survivors);
        });
    });
}

#[test]
fn no_mutant_of_the_default_plan_is_missed() {
    check("mutants_of_the_default_plan", &INJECTOR, None);
}

#[test]
fn no_mutant_of_the_tproxy_plan_is_missed() {
    check("mutants_of_the_tproxy_plan", &TPROXY, Some(&INJECTOR));
}

#[test]
fn no_mutant_of_the_dns_plan_is_missed() {
    check("mutants_of_the_dns_plan", &DNS, Some(&INJECTOR));
}

#[test]
fn no_mutant_of_a_plan_with_every_exception_is_missed() {
    check(
        "mutants_of_a_plan_with_exceptions",
        &EXCEPTIONS,
        Some(&INJECTOR),
    );
}

const TPROXY: [&str; 9] = [
    "-m",
    "TPROXY",
    "-i",
    "*",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
    "--drop-invalid",
];

const DNS: [&str; 6] = ["-i", "*", "-b", "*", "--redirect-dns", "--capture-all-dns"];

const EXCEPTIONS: [&str; 10] = [
    "-i",
    "10.96.0.0/12,fd00:96::/108",
    "-b",
    "80,8000:8010",
    "-x",
    "10.97.0.0/16,fd00:96::7",
    "-q",
    "25",
    "-o",
    "9000:9010,443",
];

/// The same in iptables' tables. There counters are not read where packets end as they should, so
/// that more is found by reading back alone; the golden tells what.
fn check_iptables(
    name: &str,
    arguments: &[&str],
    seen: Option<&[&str]>,
    flavour: Flavour,
    wanted: fn(&Mutant) -> bool,
) {
    in_pod(|| {
        let seen = seen.map(|seen| apply(&policy(seen)).unwrap().plan.ruleset);
        let plan = backend::apply(&policy(arguments), choice(flavour))
            .unwrap()
            .plan;
        let mut mutants = mutants(&plan.ruleset, &seen.unwrap_or_default());
        mutants.retain(wanted);
        let survivors = survivors(&plan, Backend::Iptables(flavour), mutants);
        insta::with_settings!({ description => arguments.join(" "), omit_expression => true }, {
            insta::assert_snapshot!(name, survivors);
        });
    });
}

#[test]
fn no_mutant_of_the_default_plan_is_missed_in_legacy_tables() {
    let name = "legacy_mutants_of_the_default_plan";
    check_iptables(name, &INJECTOR, None, Flavour::Legacy, |_| true);
}

#[test]
fn no_mutant_of_the_tproxy_plan_is_missed_in_legacy_tables() {
    let name = "legacy_mutants_of_the_tproxy_plan";
    check_iptables(name, &TPROXY, Some(&INJECTOR), Flavour::Legacy, |_| true);
}

#[test]
fn no_mutant_of_the_dns_plan_is_missed_in_legacy_tables() {
    let name = "legacy_mutants_of_the_dns_plan";
    check_iptables(name, &DNS, Some(&INJECTOR), Flavour::Legacy, |_| true);
}

#[test]
fn no_mutant_of_a_plan_with_every_exception_is_missed_in_legacy_tables() {
    let name = "legacy_mutants_of_a_plan_with_exceptions";
    check_iptables(name, &EXCEPTIONS, Some(&INJECTOR), Flavour::Legacy, |_| {
        true
    });
}

#[test]
fn no_rule_taken_away_from_iptables_nft_is_missed() {
    let deleted = |mutant: &Mutant| mutant.how == "deleted";
    let name = "iptables_nft_deletions_of_the_default_plan";
    check_iptables(name, &INJECTOR, None, Flavour::Nft, deleted);
    let name = "iptables_nft_deletions_of_the_tproxy_plan";
    check_iptables(name, &TPROXY, Some(&INJECTOR), Flavour::Nft, deleted);
}

/// Policy routing and the address of the proxy's calls: each part taken away, then weakened.
#[test]
fn no_mutant_of_what_stands_beside_the_rules_is_missed() {
    // The change, what undoes it, and the leg that must have failed.
    let rule = "policy-routing";
    let address = "lo/inbound-source";
    let mut mutants: Vec<(Vec<String>, &str)> = vec![
        (vec!["addr del ::6/128 dev lo".to_owned()], address),
        (
            vec![
                "addr del ::6/128 dev lo".to_owned(),
                "addr add ::7/128 dev lo".to_owned(),
            ],
            address,
        ),
    ];
    for family in ["-4", "-6"] {
        let rule_del = format!("{family} rule del fwmark 1337");
        let route_del = format!("{family} route flush table 133");
        let block = match family {
            "-4" => "route add local 10.0.0.0/8 dev lo table 133",
            _ => "route add local fd00::/8 dev lo table 133",
        };
        let with = |first: &String, second: &str| vec![first.clone(), format!("{family} {second}")];
        mutants.extend([
            (vec![rule_del.clone()], rule),
            (vec![route_del.clone()], rule),
            (
                with(&rule_del, "rule add fwmark 1338 lookup 133 pref 31337"),
                rule,
            ),
            (
                with(&rule_del, "rule add fwmark 1337 lookup 134 pref 31337"),
                rule,
            ),
            (
                with(&rule_del, "rule add fwmark 1337 lookup 133 pref 32767"),
                rule,
            ),
            (
                with(
                    &rule_del,
                    "rule add fwmark 1337 lookup 133 iif lo pref 31337",
                ),
                rule,
            ),
            (
                with(&route_del, "route add unreachable default table 133"),
                rule,
            ),
            (
                with(&route_del, "route add default dev eth0 table 133"),
                rule,
            ),
            (with(&route_del, block), rule),
        ]);
    }
    for (changes, leg) in mutants {
        in_pod(|| {
            let plan = apply(&policy(&TPROXY)).unwrap().plan;
            for change in &changes {
                ip(change);
            }
            let options = Options {
                attempts: 1,
                ..unhurried()
            };
            let report = verify(&plan, Backend::Nft, &options).unwrap();
            let named: Vec<_> = report.failed().map(|leg| leg.key.as_str()).collect();
            assert!(named.contains(&leg), "{changes:?}: {named:?}");
        });
    }
    // Ours are all there, but another rule comes before.
    for family in ["-4", "-6"] {
        in_pod(|| {
            let plan = apply(&policy(&TPROXY)).unwrap().plan;
            let gateway = if family == "-4" {
                "10.9.0.1"
            } else {
                "fd00:9::1"
            };
            ip(&format!("{family} route add default via {gateway}"));
            ip(&format!(
                "{family} rule add fwmark 1337 lookup main pref 100"
            ));
            let report = verify(&plan, Backend::Nft, &unhurried()).unwrap();
            let failed: Vec<_> = report.failed().map(ToString::to_string).collect();
            assert_eq!(failed.len(), 1, "{family}: {failed:#?}");
            assert!(failed[0].contains("(tproxy/app-to-proxy)"), "{failed:#?}");
            assert!(failed[0].contains("another comes before it"), "{failed:#?}");
        });
    }
}
