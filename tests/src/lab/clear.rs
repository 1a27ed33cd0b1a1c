//! Takes everything away that any program wrote into the pod: rules, policy rules, routes, `::6`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Bench;
use super::world::ip;

/// Tables that iptables-legacy may fill.
const LEGACY: [(&str, &str); 2] = [
    (
        "/proc/thread-self/net/ip_tables_names",
        "iptables-legacy-restore",
    ),
    (
        "/proc/thread-self/net/ip6_tables_names",
        "ip6tables-legacy-restore",
    ),
];

/// Clears the namespace of the calling thread.
pub(super) fn everything(bench: &Bench) -> Result<()> {
    bench.program(Command::new("nft").args(["flush", "ruleset"]), "")?;
    for (names, restore) in LEGACY {
        let names = fs::read_to_string(names).unwrap_or_default();
        let text: String = names.lines().map(empty_table).collect();
        if !text.is_empty() {
            bench.program(&mut Command::new(restore), &text)?;
        }
    }
    let kept = "rule flush\nrule add pref 32766 lookup main\n";
    let mut commands = format!("{kept}rule add pref 32767 lookup default\n");
    commands += &kept
        .lines()
        .map(|line| format!("-6 {line}\n"))
        .collect::<String>();
    for (tables, prefix) in [("-4", ""), ("-6", "-6 ")] {
        for table in extra_tables(bench, tables)? {
            commands += &format!("{prefix}route flush table {table}\n");
        }
    }
    let addresses = bench.program(Command::new("ip").args(["-6", "addr", "show", "lo"]), "")?;
    if addresses.contains("inet6 ::6/128") {
        commands += "-6 addr del ::6/128 dev lo\n";
    }
    ip(bench, &commands)
}

/// The chains that stand in a table by themselves, without rules.
fn empty_table(table: &str) -> String {
    let chains: &[&str] = match table {
        "raw" => &["PREROUTING", "OUTPUT"],
        "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        _ => &["INPUT", "FORWARD", "OUTPUT"],
    };
    let chains: String = chains
        .iter()
        .map(|chain| format!(":{chain} ACCEPT [0:0]\n"))
        .collect();
    format!("*{table}\n{chains}COMMIT\n")
}

/// The route tables that policy rules name, beside those that every namespace has.
fn extra_tables(bench: &Bench, family: &str) -> Result<Vec<String>> {
    let rules = bench
        .program(Command::new("ip").args([family, "rule", "show"]), "")
        .context("listing policy rules")?;
    Ok(rules
        .lines()
        .filter_map(|line| line.split("lookup ").nth(1))
        .map(|table| table.trim().to_owned())
        .filter(|table| !["local", "main", "default"].contains(&table.as_str()))
        .collect())
}
