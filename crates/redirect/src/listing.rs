//! What is in the kernel, for people: each rule with its counters, and the policy field it comes
//! from.

use std::fmt::Write as _;

use shunt_abi::name;

use crate::explain::fields;
use crate::iptables::Listed;
use crate::nft::{Installed, render};
use crate::ruleset::Rule;

/// The table as text: a line for each rule, with packets and bytes before it.
#[must_use]
pub fn text(installed: &Installed) -> String {
    let count = installed.rules.len();
    let mut text = format!(
        "table inet {}: {count} rules, {}\n",
        name::NFT_TABLE,
        installed.mark
    );
    match &installed.ruleset {
        Ok(ruleset) => {
            for chain in &ruleset.chains {
                let chain_name = chain.hook.chain();
                let counted = installed.rules.iter();
                let counted = counted.filter(|rule| rule.chain == chain_name);
                let _infallible = writeln!(text, "chain {chain_name}");
                for (rule, counter) in chain.rules.iter().zip(counted) {
                    let counts = (counter.packets, counter.bytes);
                    line(&mut text, counts, &counter.key, &words(rule));
                }
            }
            for set in &ruleset.sets {
                let elements = render::elements(&set.elements).join(", ");
                let _infallible = writeln!(text, "set {} {{ {elements} }}", set.name);
            }
        }
        Err(what) => {
            let _infallible = writeln!(
                text,
                "it holds what Shunt does not write ({what}); applying a policy again puts it right"
            );
            let mut chain = None;
            for rule in &installed.rules {
                if chain != Some(&rule.chain) {
                    chain = Some(&rule.chain);
                    let _infallible = writeln!(text, "chain {}", rule.chain);
                }
                let told = match &rule.rule {
                    Ok(known) => words(known),
                    Err(what) if rule.key.is_empty() => format!("a rule with {what}"),
                    Err(what) => format!("a rule with {what}, comment \"{}\"", rule.key),
                };
                line(&mut text, (rule.packets, rule.bytes), &rule.key, &told);
            }
        }
    }
    text
}

/// Our part of iptables' tables as text: a line for each rule, with packets and bytes before it; as
/// `iptables-save` prints it where nothing is counted.
#[must_use]
pub fn iptables(listed: &Listed) -> String {
    if listed.rules.is_empty() {
        return listed.state.text();
    }
    let mut text = String::new();
    let (mut table, mut chain) = ("", "");
    for rule in &listed.rules {
        if table != rule.table {
            (table, chain) = (&rule.table, "");
            let _infallible = writeln!(text, "*{table}");
        }
        if chain != rule.chain {
            chain = &rule.chain;
            let _infallible = writeln!(text, "chain {chain}");
        }
        line(&mut text, (rule.packets, rule.bytes), &rule.key, &rule.rule);
    }
    text
}

/// A rule in nft's words, without the word for its counter.
fn words(rule: &Rule) -> String {
    render::rule(rule).replacen("counter ", "", 1)
}

fn line(text: &mut String, (packets, bytes): (u64, u64), key: &str, words: &str) {
    let packet = if packets == 1 { "packet " } else { "packets" };
    let _infallible = write!(text, "{packets:>8} {packet} {bytes:>10} bytes  {words}");
    if let Some(field) = fields::of(key) {
        let _infallible = write!(text, " [{field}]");
    }
    text.push('\n');
}
