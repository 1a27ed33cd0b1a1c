//! What is in the kernel, for people: each rule with its counters, and the policy field it comes
//! from.

use std::fmt::Write as _;

use shunt_abi::name;

use crate::explain::fields;
use crate::nft::{Installed, InstalledRule, render};

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
                    line(
                        &mut text,
                        counter,
                        &render::rule(rule).replacen("counter ", "", 1),
                    );
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
                line(&mut text, rule, &rule.key);
            }
        }
    }
    text
}

fn line(text: &mut String, counter: &InstalledRule, words: &str) {
    let InstalledRule {
        key,
        packets,
        bytes,
        ..
    } = counter;
    let packet = if *packets == 1 { "packet " } else { "packets" };
    let _infallible = write!(text, "{packets:>8} {packet} {bytes:>10} bytes  {words}");
    if let Some(field) = fields::of(key) {
        let _infallible = write!(text, " [{field}]");
    }
    text.push('\n');
}
