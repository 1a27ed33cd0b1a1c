//! `iptables-save` and `ip6tables-save`, of either flavour; also what `*-restore` is fed with.
//!
//! The frame (tables, chains, where a rule stands) must be understood, or the text is refused: a
//! rule lost there would make every verdict wrong. Inside a rule ([`mod@matches`], [`targets`]) what is
//! not understood is kept as unknown.

mod matches;
mod targets;
mod token;
mod value;

use super::model::{Action, Base, Chain, Clause, Dialect, Hook, Kind, Label, Rule, Rules, Test};
use super::text::TextError;
use crate::ruleset::Family;
use token::{Item, Token};

impl Rules {
    /// Reads the output of `iptables-save`, and of `ip6tables-save`. Without the latter nothing is
    /// known of IPv6, and verdicts on it say so.
    ///
    /// # Errors
    /// If a text is not such output, or part of one; the line is named. What only a rule says, and
    /// is not known here, is no error.
    pub fn from_iptables_save(v4: &str, v6: Option<&str>) -> Result<Self, TextError> {
        let mut rules = Self::default();
        Saved::read(&mut rules, v4, Family::V4)?;
        match v6 {
            Some(v6) => Saved::read(&mut rules, v6, Family::V6)?,
            None => rules.missing.push((
                Family::V6,
                "the rules for IPv6, of which no ip6tables-save text was given".to_owned(),
            )),
        }
        Ok(rules)
    }
}

/// A table of iptables: its name, its priority at its hooks, and those.
struct Table {
    name: &'static str,
    priority: i32,
    hooks: &'static [Hook],
}

const TABLES: [Table; 5] = [
    Table {
        name: "raw",
        priority: -300,
        hooks: &[Hook::Prerouting, Hook::Output],
    },
    Table {
        name: "mangle",
        priority: -150,
        hooks: &[
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
        ],
    },
    Table {
        name: "nat",
        priority: -100,
        hooks: &[
            Hook::Prerouting,
            Hook::Input,
            Hook::Output,
            Hook::Postrouting,
        ],
    },
    Table {
        name: "filter",
        priority: 0,
        hooks: &[Hook::Input, Hook::Forward, Hook::Output],
    },
    Table {
        name: "security",
        priority: 50,
        hooks: &[Hook::Input, Hook::Forward, Hook::Output],
    },
];

impl Table {
    /// The hook of a built-in chain.
    fn hook(&self, chain: &str) -> Option<Hook> {
        self.hooks
            .iter()
            .copied()
            .find(|hook| hook.to_string() == chain)
    }

    fn base(&self, hook: Hook, drops: bool) -> Base {
        Base {
            hook,
            kind: match self.name {
                "nat" => Kind::Nat,
                "mangle" if hook == Hook::Output => Kind::Route,
                _ => Kind::Filter,
            },
            priority: match hook.is_destination_nat() {
                false if self.name == "nat" => 100,
                _ => self.priority,
            },
            drops,
        }
    }
}

/// A text on its way to rules.
struct Saved<'a> {
    rules: &'a mut Rules,
    family: Family,
    table: Option<Open>,
}

/// The table that is being read.
struct Open {
    table: &'static Table,
    /// Where its chains begin in the list of all.
    first: usize,
    /// Its rules by place of their chain, as text: jumps may name later chains.
    rules: Vec<(usize, Vec<Token>, String)>,
}

impl<'a> Saved<'a> {
    fn read(rules: &'a mut Rules, text: &str, family: Family) -> Result<(), TextError> {
        let mut saved = Self {
            rules,
            family,
            table: None,
        };
        for (index, line) in text.lines().enumerate() {
            saved
                .line(line.trim())
                .map_err(|why| TextError::in_line(index + 1, line, why))?;
        }
        match saved.table {
            Some(open) => Err(TextError::whole(format!(
                "it ends within the table {}: the COMMIT is missing",
                open.table.name
            ))),
            None => Ok(()),
        }
    }

    fn program(&self) -> &'static str {
        match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            self.comment(comment.trim());
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            return self.begin(name.trim());
        }
        if self.table.is_none() {
            return Err("it stands in no table".to_owned());
        }
        if line == "COMMIT" {
            self.commit();
            return Ok(());
        }
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let (name, policy) = (words.next(), words.next());
            let counters = words.next().is_none_or(token::is_counters) && words.next().is_none();
            return match (name, policy) {
                (Some(name), Some(policy)) if counters => self.declare(name, policy),
                _ => Err("a chain is declared as `:NAME POLICY [packets:bytes]`".to_owned()),
            };
        }
        let mut tokens = token::tokens(line)?;
        if tokens
            .first()
            .is_some_and(|token| token::is_counters(&token.text))
        {
            tokens.remove(0);
        }
        let mut words = tokens.iter().map(|token| token.text.as_str());
        let (verb, chain) = (words.next(), words.next());
        let (Some(verb), Some(chain)) = (verb, chain) else {
            return Err("it is no rule".to_owned());
        };
        match verb {
            "-N" | "--new-chain" if tokens.len() == 2 => {
                let chain = chain.to_owned();
                self.declare(&chain, "-")
            }
            "-P" | "--policy" if tokens.len() == 3 => {
                let (chain, policy) = (chain.to_owned(), tokens[2].text.clone());
                self.declare(&chain, &policy)
            }
            "-A" | "--append" => {
                let place = self.chain(chain)?;
                self.add(place, None, tokens.split_off(2), line)
            }
            "-I" | "--insert" => {
                let place = self.chain(chain)?;
                let number = tokens.get(2).and_then(|token| token.text.parse().ok());
                let skipped = if number.is_some() { 3 } else { 2 };
                self.add(
                    place,
                    Some(number.unwrap_or(1)),
                    tokens.split_off(skipped),
                    line,
                )
            }
            _ => Err("only declarations and rules are understood (-A, -I, -N, -P)".to_owned()),
        }
    }

    /// iptables-nft-save tells in a comment of a table that it cannot show.
    fn comment(&mut self, comment: &str) {
        if comment.contains("is incompatible") {
            let what = format!("rules that {}-save cannot show: {comment}", self.program());
            self.rules.missing.push((self.family, what));
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), String> {
        if let Some(open) = &self.table {
            return Err(format!("the table {} has not ended", open.table.name));
        }
        let Some(table) = TABLES.iter().find(|table| table.name == name) else {
            return Err("iptables has no table of this name".to_owned());
        };
        let label = format!("{} {name}", self.program());
        if self.rules.chains.iter().any(|chain| chain.table == label) {
            return Err("the table comes twice".to_owned());
        }
        self.table = Some(Open {
            table,
            first: self.rules.chains.len(),
            rules: Vec::new(),
        });
        // A built-in chain that is not declared is empty, and accepts.
        for hook in table.hooks {
            self.push(hook.to_string(), Some(table.base(*hook, false)));
        }
        Ok(())
    }

    fn push(&mut self, name: String, base: Option<Base>) {
        let Some(open) = &self.table else { return };
        self.rules.chains.push(Chain {
            table: format!("{} {}", self.program(), open.table.name),
            name,
            family: Some(self.family),
            dialect: Dialect::Xtables,
            base,
            rules: Vec::new(),
        });
    }

    fn declare(&mut self, name: &str, policy: &str) -> Result<(), String> {
        let Some(open) = &self.table else {
            return Err("it stands in no table".to_owned());
        };
        let known = self.chain(name).ok();
        match (policy, open.table.hook(name), known) {
            ("ACCEPT" | "DROP", Some(hook), Some(place)) => {
                self.rules.chains[place].base = Some(open.table.base(hook, policy == "DROP"));
                Ok(())
            }
            ("-", None, None) => {
                self.push(name.to_owned(), None);
                Ok(())
            }
            ("-", None, Some(_)) => Err("the chain is declared twice".to_owned()),
            (_, Some(_), _) => Err("a built-in chain has the policy ACCEPT or DROP".to_owned()),
            _ => Err(format!(
                "the table {} has no built-in chain of this name, and only those have a policy",
                open.table.name
            )),
        }
    }

    /// Place of a chain of the table that is being read.
    fn chain(&self, name: &str) -> Result<usize, String> {
        let first = self.table.as_ref().map_or(0, |open| open.first);
        let chains = self.rules.chains.iter().skip(first);
        let mut named = chains.enumerate().filter(|(_, chain)| chain.name == name);
        named
            .next()
            .map(|(place, _)| first + place)
            .ok_or_else(|| "its chain is not declared".to_owned())
    }

    fn add(
        &mut self,
        chain: usize,
        before: Option<usize>,
        tokens: Vec<Token>,
        line: &str,
    ) -> Result<(), String> {
        let Some(open) = &mut self.table else {
            return Err("it stands in no table".to_owned());
        };
        let text = line
            .find(['-'])
            .map_or(line, |start| &line[start..])
            .to_owned();
        let rule = (chain, tokens, text);
        let Some(number) = before else {
            open.rules.push(rule);
            return Ok(());
        };
        let mut own = open.rules.iter().enumerate();
        let mut own = own.by_ref().filter(|(_, (other, ..))| *other == chain);
        match own.nth(number.saturating_sub(1)) {
            Some((place, _)) => open.rules.insert(place, rule),
            // Inserting behind the last rule is allowed, further on is not.
            None => open.rules.push(rule),
        }
        Ok(())
    }

    fn commit(&mut self) {
        let Some(open) = self.table.take() else {
            return;
        };
        let names: Vec<_> = self.rules.chains[open.first..]
            .iter()
            .map(|chain| chain.name.clone())
            .collect();
        let chains = |name: &str| {
            let place = names.iter().position(|known| known == name)?;
            Some(open.first + place)
        };
        for (chain, tokens, text) in open.rules {
            let rule = rule(tokens, text, self.family, &chains);
            self.rules.chains[chain].rules.push(rule);
        }
    }
}

/// One rule, of the tokens after its chain.
fn rule(
    tokens: Vec<Token>,
    text: String,
    family: Family,
    chains: &dyn Fn(&str) -> Option<usize>,
) -> Rule {
    let items = token::items(tokens);
    let comment = comment(items.as_deref().unwrap_or_default());
    let clauses = items
        .and_then(|items| clauses(&items, family, chains))
        .unwrap_or_else(|| {
            // Not even its shape is understood.
            let unknown = "what this rule says is not understood";
            vec![
                Clause::Test(super::model::Condition::new(Test::Unknown(
                    unknown.to_owned(),
                ))),
                Clause::Act(Action::Unknown(unknown.to_owned())),
            ]
        });
    Rule {
        label: Label { comment, text },
        clauses,
    }
}

fn comment(items: &[Item]) -> Option<String> {
    let comment = items.iter().find(|item| item.name == "--comment")?;
    comment.values.first().cloned()
}

/// `None`: the rule's shape is not understood.
fn clauses(
    items: &[Item],
    family: Family,
    chains: &dyn Fn(&str) -> Option<usize>,
) -> Option<Vec<Clause>> {
    let target = items
        .iter()
        .position(|item| matches!(item.name.as_str(), "-j" | "--jump" | "-g" | "--goto"));
    let (matches, target) = items.split_at(target.unwrap_or(items.len()));
    let conditions = matches::conditions(matches, family)?;
    let unknown = conditions
        .iter()
        .any(|condition| matches!(condition.test, Test::Unknown(_)));
    let action = match target.split_first() {
        Some((jump, options)) => Some(targets::action(jump, options, family, chains)?),
        // Perhaps what is not understood has swallowed the target.
        None if unknown => return None,
        None => None,
    };
    let tests = conditions.into_iter().map(Clause::Test);
    Some(tests.chain(action.map(Clause::Act)).collect())
}
