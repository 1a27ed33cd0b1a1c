//! What Shunt has in the tables of one family: its chains, and the jumps to them.
//!
//! A plan becomes such a state ([`super::render`]), and so does what `iptables-save` prints. The
//! two flavours and their versions print alike but for the order of matches, which means nothing:
//! states are compared without it.

use std::fmt::Write as _;

use ipnet::IpNet;
use shunt_abi::name::iptables;

use crate::ruleset::Stage;

/// Shunt's part of one family's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Those that hold anything of ours.
    pub(super) tables: Vec<Table>,
}

/// Shunt's part of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) stage: Stage,
    /// In the order in which iptables lists them: by name.
    pub(super) chains: Vec<Chain>,
    /// Rules of other chains that go to one of ours.
    pub(super) jumps: Vec<Jump>,
}

/// A chain and its rules, as they stand after `-A NAME `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) rules: Vec<String>,
}

/// A rule of a chain that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) chain: String,
    pub(super) rule: String,
}

/// The tables in a packet's order.
pub(super) const STAGES: [Stage; 3] = [Stage::Raw, Stage::Mangle, Stage::Nat];

/// iptables' name of a table.
pub(super) fn table_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Raw => "raw",
        Stage::Mangle => "mangle",
        Stage::Nat => "nat",
    }
}

impl State {
    /// Shunt's part of what `iptables-save` printed. Other tables, chains and rules are not looked
    /// at, so that nothing in them can be misunderstood.
    #[must_use]
    pub fn parse(saved: &str) -> Self {
        let mut state = Self::default();
        let mut table: Option<Table> = None;
        for line in saved.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('*') {
                state.push(table.take());
                let stage = STAGES.into_iter().find(|stage| table_name(*stage) == name);
                table = stage.map(Table::new);
            } else if let Some(table) = &mut table {
                table.read(line);
            }
        }
        state.push(table);
        state
    }

    pub(super) fn push(&mut self, table: Option<Table>) {
        let table = table.filter(|table| !table.is_empty());
        self.tables.extend(table);
        self.tables.sort_by_key(|table| table.stage);
    }

    pub(super) fn table(&self, stage: Stage) -> Option<&Table> {
        self.tables.iter().find(|table| table.stage == stage)
    }

    /// Whether there is nothing of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Number of rules, the jumps to our chains included.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        let tables = self.tables.iter();
        tables
            .map(|table| {
                let rules = table.chains.iter().map(|chain| chain.rules.len());
                table.jumps.len() + rules.sum::<usize>()
            })
            .sum()
    }

    /// As `iptables-save` prints it, without what is not ours; `iptables-restore --noflush` loads
    /// it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let _infallible = writeln!(text, "*{}", table_name(table.stage));
            for chain in &table.chains {
                let _infallible = writeln!(text, ":{} - [0:0]", chain.name);
            }
            for jump in &table.jumps {
                let _infallible = writeln!(text, "-A {} {}", jump.chain, jump.rule);
            }
            for chain in &table.chains {
                for rule in &chain.rules {
                    let _infallible = writeln!(text, "-A {} {rule}", chain.name);
                }
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    /// The newest schema that a jump names, if any does.
    pub(super) fn schema(&self) -> Option<u32> {
        let jumps = self.tables.iter().flat_map(|table| &table.jumps);
        jumps
            .filter_map(|jump| key(&jump.rule)?.strip_prefix(iptables::JUMP)?.parse().ok())
            .max()
    }

    /// How this state differs from what a plan would make of it; `None` if it decides alike.
    #[must_use]
    pub fn difference(&self, planned: &Self) -> Option<String> {
        STAGES.into_iter().find_map(|stage| {
            let difference = match (self.table(stage), planned.table(stage)) {
                (None, None) => None,
                (Some(_), None) => Some("nothing of Shunt's is needed there".to_owned()),
                (None, Some(_)) => Some("nothing of Shunt's is there".to_owned()),
                (Some(found), Some(planned)) => found.difference(planned),
            };
            difference.map(|what| format!("table {}: {what}", table_name(stage)))
        })
    }
}

impl Table {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage,
            chains: Vec::new(),
            jumps: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }

    pub(super) fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// The chain of this name; made in its place if there is none.
    pub(super) fn chain_mut(&mut self, name: &str) -> &mut Chain {
        let place = self
            .chains
            .binary_search_by(|chain| chain.name.as_str().cmp(name));
        let index = place.unwrap_or_else(|index| {
            let chain = Chain {
                name: name.to_owned(),
                rules: Vec::new(),
            };
            self.chains.insert(index, chain);
            index
        });
        &mut self.chains[index]
    }

    fn read(&mut self, line: &str) {
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            if name.starts_with(iptables::PREFIX) {
                self.chain_mut(name);
            }
            return;
        }
        // `iptables-save -c` puts counters before each rule.
        let rule = match line.strip_prefix('[') {
            Some(counted) => counted.split_once("] ").map_or("", |(_, rule)| rule),
            None => line,
        };
        let Some(rule) = rule.strip_prefix("-A ") else {
            return;
        };
        let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
        if chain.starts_with(iptables::PREFIX) {
            self.chain_mut(chain).rules.push(rule.to_owned());
        } else if goes_to_us(rule) {
            self.jumps.push(Jump {
                chain: chain.to_owned(),
                rule: rule.to_owned(),
            });
        }
    }

    fn difference(&self, planned: &Self) -> Option<String> {
        for chain in &planned.chains {
            let Some(found) = self.chain(&chain.name) else {
                return Some(format!("chain {} is missing", chain.name));
            };
            if let Some(what) = found.difference(chain) {
                return Some(format!("chain {}: {what}", chain.name));
            }
        }
        for chain in &self.chains {
            if planned.chain(&chain.name).is_none() {
                return Some(format!("chain {} is not needed", chain.name));
            }
        }
        for jump in &planned.jumps {
            let alike = self.jumps.iter().filter(|found| found.is(jump)).count();
            if alike != 1 {
                return Some(format!(
                    "chain {} has {alike} jumps to Shunt's chain",
                    jump.chain
                ));
            }
        }
        let unknown = |found: &&Jump| !planned.jumps.iter().any(|jump| found.is(jump));
        let unknown = self.jumps.iter().find(unknown)?;
        Some(format!(
            "chain {} goes to one of Shunt's by another rule",
            unknown.chain
        ))
    }
}

impl Chain {
    fn difference(&self, planned: &Self) -> Option<String> {
        let mut pairs = planned.rules.iter().zip(&self.rules);
        if let Some((rule, _)) = pairs.find(|(planned, found)| !same(planned, found)) {
            let key = key(rule).unwrap_or_default();
            return Some(format!("rule {key} differs or is not in its place"));
        }
        match (planned.rules.get(self.rules.len()), self.rules.len()) {
            (Some(missing), _) => {
                let key = key(missing).unwrap_or_default();
                Some(format!("rule {key} is missing"))
            }
            (None, found) if found > planned.rules.len() => Some("there are more rules".to_owned()),
            _ => None,
        }
    }
}

impl Jump {
    /// Whether it is the same rule of the same chain.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.chain == other.chain && same(&self.rule, &other.rule)
    }
}

/// Whether two rules match alike and do alike.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other || Parts::of(one) == Parts::of(other)
}

/// A rule taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Options of no match, and the matches with theirs, sorted: all must hold, in any order.
    conditions: Vec<Vec<String>>,
    /// `-j` or `-g`, the name, and its options.
    target: Vec<String>,
}

impl Parts {
    fn of(rule: &str) -> Self {
        let mut conditions: Vec<Vec<String>> = Vec::new();
        let mut target = Vec::new();
        let mut negated = false;
        for word in words(rule) {
            let plain_option = matches!(word.as_str(), "-s" | "-d" | "-i" | "-o" | "-p" | "-f");
            match word.as_str() {
                _ if !target.is_empty() => target.push(word),
                "-j" | "-g" => target.push(word),
                "!" => negated = true,
                "-m" => conditions.push(vec![word]),
                _ => {
                    if plain_option || conditions.is_empty() {
                        conditions.push(Vec::new());
                    }
                    if let Some(condition) = conditions.last_mut() {
                        if std::mem::take(&mut negated) {
                            condition.push("!".to_owned());
                        }
                        condition.push(plain(word));
                    }
                }
            }
        }
        conditions.sort_unstable();
        Self { conditions, target }
    }
}

/// A word in one spelling: C libraries do not print all IPv6 addresses alike.
fn plain(word: String) -> String {
    match word.parse::<IpNet>() {
        Ok(block) => block.to_string(),
        Err(_not_a_block) => word,
    }
}

/// Words of a line; quotes hold one together, a backslash takes the next character as it is.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The key in a rule's comment, if that is one of ours.
pub(super) fn key(rule: &str) -> Option<String> {
    let words = words(rule);
    let mut comments = words
        .windows(2)
        .filter(|pair| pair[0] == "--comment")
        .map(|pair| pair[1].as_str());
    let key = comments.find_map(|comment| comment.strip_prefix(iptables::COMMENT))?;
    Some(key.to_owned())
}

/// Whether a rule jumps or goes to a chain of ours.
pub(super) fn goes_to_us(rule: &str) -> bool {
    // A quick look first: others may have tens of thousands of rules.
    rule.contains(iptables::PREFIX)
        && matches!(
            Parts::of(rule).target.as_slice(),
            [how, name, ..] if matches!(how.as_str(), "-j" | "-g")
                && name.starts_with(iptables::PREFIX)
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{State, same, words};

    #[test]
    fn only_what_is_ours_is_read() {
        let saved = "# Generated by iptables-save\n*filter\n:SHUNT_OUTPUT - [0:0]\n\
             -A OUTPUT -j SHUNT_OUTPUT\nCOMMIT\n*nat\n:PREROUTING ACCEPT [3:180]\n\
             :OUTPUT ACCEPT [0:0]\n:SHUNT_OUTPUT - [0:0]\n\
             [7:420] -A OUTPUT -p tcp -m unknown --what ever -j LOG --log-prefix \"-j SHUNT_OUTPUT\"\n\
             [0:0] -A OUTPUT -m comment --comment \"shunt:jump schema=1\" -j SHUNT_OUTPUT\n\
             [1:60] -A SHUNT_OUTPUT -o lo -m comment --comment \"shunt:x\" -j RETURN\nCOMMIT\n";
        let state = State::parse(saved);
        assert_eq!(
            state.text(),
            "*nat\n:SHUNT_OUTPUT - [0:0]\n\
             -A OUTPUT -m comment --comment \"shunt:jump schema=1\" -j SHUNT_OUTPUT\n\
             -A SHUNT_OUTPUT -o lo -m comment --comment \"shunt:x\" -j RETURN\nCOMMIT\n"
        );
        assert_eq!((state.rule_count(), state.schema()), (2, Some(1)));
        assert_eq!(State::parse(&state.text()), state);
    }

    #[test]
    fn the_order_of_matches_means_nothing_and_all_else_does() {
        let rule = "-s ::1.2.3.4/128 -o lo -p tcp -m tcp ! --dport 53 -m owner --uid-owner 1 -m comment --comment \"shunt:a b\" -j REDIRECT --to-ports 15001";
        for alike in [
            "-o lo -s ::102:304/128 -p tcp -m tcp ! --dport 53 -m owner --uid-owner 1 -m comment --comment \"shunt:a b\" -j REDIRECT --to-ports 15001",
            "-s ::1.2.3.4/128 -o lo -p tcp -m comment --comment \"shunt:a b\" -m owner --uid-owner 1 -m tcp ! --dport 53 -j REDIRECT --to-ports 15001",
        ] {
            assert!(same(rule, alike), "{alike}");
        }
        for (from, to) in [
            ("! --dport", "--dport"),
            ("-o lo", "-i lo"),
            ("-o lo", "! -o lo"),
            ("--uid-owner 1", "--uid-owner 11"),
            ("a b", "ab"),
            ("-j REDIRECT", "-g REDIRECT"),
            (" --to-ports 15001", ""),
            ("-p tcp -m", "-m"),
        ] {
            assert!(!same(rule, &rule.replacen(from, to, 1)), "{from} -> {to}");
        }
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            words(r#"-m comment --comment "a \"b\" \\ c"  -j X"#),
            ["-m", "comment", "--comment", r#"a "b" \ c"#, "-j", "X"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(
            text in r#"([*:\[-] ?(A )?(nat|raw|SHUNT_[A-Z]{1,3}|OUTPUT|!|-[jgm]|"|\\| |\PC){0,9}\n){0,9}"#
        ) {
            let state = State::parse(&text);
            let again = State::parse(&state.text());
            prop_assert_eq!(again.rule_count(), state.rule_count());
        }
    }
}
