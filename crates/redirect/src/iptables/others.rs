//! What others have in legacy tables. Where there are no tables, no program is run: looking would
//! load the modules and make the tables.

use super::detect::{Pair, legacy_table_names};
use super::error::IptablesError;
use super::state::goes_to_us;
use crate::ruleset::Family;

/// A chain of a legacy table that is not Shunt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LegacyChain {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Whether what no rule decides on passes; chains without a policy do.
    pub(crate) accepts: bool,
    /// Whether there is a rule of others in it.
    pub(crate) has_rules: bool,
}

/// The chains of the legacy tables that are in the network namespace of the calling thread.
///
/// # Errors
/// If there are tables, and the program to read them is missing or does not run.
pub(crate) fn legacy_chains() -> Result<Vec<LegacyChain>, IptablesError> {
    let mut chains = Vec::new();
    for family in [Family::V4, Family::V6] {
        let tables = legacy_table_names(family);
        let mut tables = tables.lines().peekable();
        if tables.peek().is_none() {
            continue;
        }
        let pair = Pair::legacy(family)?;
        for table in tables {
            read(family, table, &pair.saved_table(table)?, &mut chains);
        }
    }
    Ok(chains)
}

/// Reads what `iptables-save` printed of a table, even if it stopped at a rule that it cannot
/// print.
fn read(family: Family, table: &str, saved: &str, chains: &mut Vec<LegacyChain>) {
    let first = chains.len();
    for line in saved.lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some(declared) if declared.starts_with(':') => chains.push(LegacyChain {
                family,
                table: table.to_owned(),
                name: declared[1..].to_owned(),
                accepts: words.next() != Some("DROP"),
                has_rules: false,
            }),
            Some("-A") => {
                let name = words.next().unwrap_or_default();
                let rule = line.get("-A ".len() + name.len()..).unwrap_or_default();
                let mut chains = chains[first..].iter_mut();
                if let Some(chain) = chains.find(|chain| chain.name == name)
                    && !goes_to_us(rule)
                {
                    chain.has_rules = true;
                }
            }
            _ => {}
        }
    }
    let ours = |chain: &LegacyChain| chain.name.starts_with(shunt_abi::name::iptables::PREFIX);
    chains.retain(|chain| !ours(chain));
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::ruleset::Family;

    #[test]
    fn chains_of_others_are_told_from_ours_and_empty_ones_from_those_that_act() {
        let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                     :ISTIO_OUTPUT - [0:0]\n:SHUNT_OUTPUT - [0:0]\n\
                     -A PREROUTING -p tcp -j ISTIO_OUTPUT\n\
                     -A OUTPUT -m comment --comment \"shunt:jump schema=1\" -j SHUNT_OUTPUT\n\
                     -A SHUNT_OUTPUT -j RETURN\nCOMMIT\n";
        let mut chains = Vec::new();
        read(Family::V4, "nat", saved, &mut chains);
        let found: Vec<_> = chains
            .iter()
            .map(|chain| (chain.name.as_str(), chain.accepts, chain.has_rules))
            .collect();
        assert_eq!(
            found,
            [
                ("PREROUTING", true, true),
                ("INPUT", false, false),
                ("OUTPUT", true, false),
                ("ISTIO_OUTPUT", true, false),
            ]
        );
    }
}
