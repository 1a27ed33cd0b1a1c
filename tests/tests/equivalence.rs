//! For random policies and random flows, the kernel under nf_tables, under iptables-legacy, under
//! iptables-nft, and the evaluator decide alike. `cargo xtask soak redirect` tries more.

use shunt_abi::rule as key;
use shunt_redirect::ruleset::{Elements, Hook, Match, Rule, Ruleset, Set, Verdict};
use shunt_redirect::{BackendChoice, Plan};
use shunt_tests::lab::equivalence::{Engine, Settings, run};
use shunt_tests::prelude::*;

/// Where the cases begin; another one tries others.
const SEED: u64 = 1;

fn settings(policies: u64, engines: &[Engine]) -> Settings {
    Settings {
        policies,
        flows: 200,
        seed: SEED,
        workers: 2,
        engines: engines.to_vec(),
        shrinking: 40,
    }
}

#[test]
fn every_backend_and_the_evaluator_decide_alike() -> Result<()> {
    let totals = run(&settings(200, &Engine::ALL), |_| ())?;
    eprintln!("{totals}");
    // What is tried is what was asked for.
    ensure!(
        totals.policies == 200 && totals.trials == 40_000,
        "{totals}"
    );
    // At least 30 % of the policies by TPROXY, 30 % of the trials IPv6, 20 % queries that share a
    // source port.
    ensure!(totals.tproxy >= 60 && totals.v6 >= 12_000, "{totals}");
    ensure!(totals.dns >= 80 && totals.pairs >= 8_000, "{totals}");
    ensure!(totals.mark >= 20 && totals.cgroup >= 30, "{totals}");
    ensure!(totals.captured >= 8_000, "{totals}");
    Ok(())
}

/// Runs cases until one disagrees, and returns what was said about it.
fn catches(wrong: fn(&mut Plan)) -> Result<String> {
    let engines = [Engine::Backend(BackendChoice::Nft), Engine::Wrong(wrong)];
    let settings = Settings {
        shrinking: 2,
        ..settings(40, &engines)
    };
    match run(&settings, |_| ()) {
        Ok(totals) => bail!("nobody noticed that the plan is wrong: {totals}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// What was said names the wrong plan, and nobody but it disagrees with the evaluator.
fn blames_the_wrong_plan(said: &str) -> Result<()> {
    // A line for each flow.
    let of = |who: &str| -> Vec<&str> {
        let lines = said.lines().map(str::trim_start);
        let own = lines.filter_map(|line| line.strip_prefix(who)?.strip_prefix(": "));
        own.collect()
    };
    let (paper, right, wrong) = (of("the evaluator"), of("Nft"), of("a wrong plan"));
    ensure!(!paper.is_empty() && paper.len() == wrong.len(), "{said}");
    ensure!(paper == right && paper != wrong, "{said}");
    ensure!(said.contains("--seed"), "{said}");
    Ok(())
}

fn rules(ruleset: &mut Ruleset, hook: Hook) -> Option<&mut Vec<Rule>> {
    let chains = ruleset.chains.iter_mut();
    chains
        .into_iter()
        .find(|chain| chain.hook == hook)
        .map(|chain| &mut chain.rules)
}

#[test]
fn two_rules_in_the_wrong_order_are_caught() -> Result<()> {
    let said = catches(|plan| {
        let Some(rules) = rules(&mut plan.ruleset, Hook::NatOutput) else {
            return;
        };
        let at = |key: &str| rules.iter().position(|rule| rule.key == key);
        if let (Some(excluded), Some(captured)) =
            (at(key::OUTBOUND_EXCLUDE_V4), at(key::OUTBOUND_CAPTURE))
        {
            rules.swap(excluded, captured);
        }
    })?;
    blames_the_wrong_plan(&said)
}

#[test]
fn a_tunnel_port_that_is_not_exempt_is_caught() -> Result<()> {
    let said = catches(|plan| {
        for hook in [Hook::NatPrerouting, Hook::ManglePrerouting] {
            if let Some(rules) = rules(&mut plan.ruleset, hook) {
                rules.retain(|rule| {
                    rule.key != key::INBOUND_TUNNEL && rule.key != key::TPROXY_TUNNEL
                });
            }
        }
    })?;
    blames_the_wrong_plan(&said)
}

#[test]
fn a_range_that_ends_one_too_early_is_caught() -> Result<()> {
    let said = catches(|plan| {
        for Set { elements, .. } in &mut plan.ruleset.sets {
            if let Elements::Ports(ports) = elements {
                let shorter = ports
                    .iter()
                    .map(|(first, last)| (first, last.saturating_sub(1).max(first)));
                let shorter = shorter.collect();
                *ports = shorter;
            }
        }
    })?;
    blames_the_wrong_plan(&said)
}

#[test]
fn a_query_in_the_wrong_zone_is_caught() -> Result<()> {
    let said = catches(|plan| {
        for rule in rules(&mut plan.ruleset, Hook::RawOutput)
            .into_iter()
            .flatten()
        {
            if let Verdict::Zone(_) = rule.verdict {
                rule.verdict = Verdict::Zone(shunt_abi::mark::DNS_ZONE_PROXY);
            }
        }
    })?;
    blames_the_wrong_plan(&said)
}

#[test]
fn a_proxy_that_is_not_known_by_its_cgroup_is_caught() -> Result<()> {
    let said = catches(|plan| {
        for chain in &mut plan.ruleset.chains {
            let by_cgroup = |rule: &Rule| {
                let mut matches = rule.matches.iter();
                matches.any(|test| matches!(test, Match::Cgroup(_)))
            };
            chain.rules.retain(|rule| !by_cgroup(rule));
        }
    })?;
    blames_the_wrong_plan(&said)
}
