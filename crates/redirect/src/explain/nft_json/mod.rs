//! `nft -j list ruleset`: the tables of all programs that use nf_tables, iptables-nft among them.
//!
//! Tables, chains and their order must be understood, or the text is refused. Inside a rule
//! ([`mod@matches`], [`statements`]) what is not understood is kept as unknown. Extensions of iptables
//! are among that: `nft` tells no more than their names; `iptables-nft-save` tells all.

mod matches;
mod sets;
mod statements;
mod words;

use std::collections::HashMap;

use serde_json::Value;

use super::model::{
    Action, Base, Chain, Clause, Condition, Dialect, Hook, Kind, Label, NamePattern, Rule, Rules,
    Test, Way,
};
use super::text::TextError;
use crate::ruleset::Family;
use sets::Sets;

impl Rules {
    /// Reads the output of `nft -j list ruleset`. Rules of iptables-legacy are not in it.
    ///
    /// # Errors
    /// If the text is not such output. What only a rule says, and is not known here, is no error.
    pub fn from_nft_json(text: &str) -> Result<Self, TextError> {
        let listing: Value = serde_json::from_str(text)
            .map_err(|error| TextError::whole(format!("it is no JSON: {error}")))?;
        let items = listing
            .get("nftables")
            .and_then(Value::as_array)
            .ok_or_else(|| TextError::whole("it has no list `nftables`".to_owned()))?;
        let mut reader = Reader::default();
        for (index, item) in items.iter().enumerate() {
            reader.item(item).map_err(|why| {
                let shown: String = item.to_string().chars().take(120).collect();
                TextError::whole(format!(
                    "item {} of `nftables`, `{shown}`: {why}",
                    index + 1
                ))
            })?;
        }
        Ok(reader.finish())
    }
}

/// Family and name of a table.
type TableName = (String, String);

/// Which packets a table's family sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// IP packets: of one family, or both.
    Ip(Option<Family>),
    /// Everything that an interface carries.
    Device,
    /// Nothing that this model knows.
    None,
}

fn scope(family: &str) -> Result<Scope, String> {
    Ok(match family {
        "ip" => Scope::Ip(Some(Family::V4)),
        "ip6" => Scope::Ip(Some(Family::V6)),
        "inet" => Scope::Ip(None),
        "netdev" => Scope::Device,
        "arp" | "bridge" => Scope::None,
        _ => return Err("its family is not known".to_owned()),
    })
}

/// Whether a table's chains are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    InForce,
    Dormant,
    /// `nft` 1.0.6 writes something else than the flags.
    Unknown(String),
}

#[derive(Default)]
struct Reader<'a> {
    rules: Rules,
    tables: HashMap<TableName, Standing>,
    chains: HashMap<(TableName, String), usize>,
    sets: Sets,
    /// Rules by the place of their chain: jumps may name later chains.
    listed: Vec<(TableName, usize, &'a Value)>,
}

impl<'a> Reader<'a> {
    fn item(&mut self, item: &'a Value) -> Result<(), String> {
        let mut entries = item.as_object().into_iter().flatten();
        let (Some((kind, body)), None) = (entries.next(), entries.next()) else {
            return Err("it is no object of one entry".to_owned());
        };
        match kind.as_str() {
            "table" => self.table(body),
            "chain" => self.chain(body),
            "rule" => self.rule(body),
            "set" | "map" => {
                self.sets.declare(owner(body)?, text(body, "name")?, body);
                Ok(())
            }
            "metainfo" | "flowtable" | "counter" | "quota" | "limit" | "ct helper"
            | "ct timeout" | "ct expectation" | "secmark" | "synproxy" => Ok(()),
            _ => Err("a listing has no such item".to_owned()),
        }
    }

    fn table(&mut self, body: &Value) -> Result<(), String> {
        let family = text(body, "family")?;
        scope(family)?;
        let name = (family.to_owned(), text(body, "name")?.to_owned());
        let standing = match body.get("flags") {
            None => Standing::InForce,
            Some(flags) => {
                let list = match flags {
                    Value::Array(list) => list.iter().collect(),
                    other => vec![other],
                };
                let known = |names: &[&str]| {
                    let mut list = list.iter();
                    list.all(|flag| flag.as_str().is_some_and(|flag| names.contains(&flag)))
                };
                if list.iter().any(|flag| *flag == "dormant") {
                    Standing::Dormant
                } else if known(&["owner", "persist"]) {
                    Standing::InForce
                } else {
                    Standing::Unknown(format!("whether the table is dormant (flags {flags})"))
                }
            }
        };
        self.tables.insert(name, standing);
        Ok(())
    }

    fn chain(&mut self, body: &Value) -> Result<(), String> {
        let table = owner(body)?;
        let name = text(body, "name")?.to_owned();
        let Some(standing) = self.tables.get(&table) else {
            return Err("its table is not listed before it".to_owned());
        };
        let scope = scope(&table.0)?;
        let hook = match body.get("hook") {
            None if ["type", "prio", "policy"]
                .iter()
                .any(|key| body.get(key).is_some()) =>
            {
                return Err("it has the marks of a base chain, but no hook".to_owned());
            }
            None => None,
            Some(hook) => Some(hook.as_str().ok_or("its hook is no text")?),
        };
        let base = match hook {
            Some(hook) if *standing != Standing::Dormant && scope != Scope::None => {
                Some(base(hook, body)?)
            }
            _ => None,
        };
        let mut rules = Vec::new();
        if let (Some(_), Standing::Unknown(why)) = (&base, standing) {
            rules.push(passing(why, Test::Unknown(why.clone()), false));
        }
        if base.is_some_and(|base| matches!(base.hook, Hook::Ingress | Hook::Egress)) {
            rules.push(on_device(base.map(|base| base.hook), body.get("dev")));
        }
        let place = self.rules.chains.len();
        self.rules.chains.push(Chain {
            table: format!("{} {}", table.0, table.1),
            name: name.clone(),
            family: match scope {
                Scope::Ip(family) => family,
                Scope::Device | Scope::None => None,
            },
            dialect: Dialect::Nft,
            base,
            rules,
        });
        match self.chains.insert((table, name), place) {
            None => Ok(()),
            Some(_) => Err("the chain is listed twice".to_owned()),
        }
    }

    fn rule(&mut self, body: &'a Value) -> Result<(), String> {
        let table = owner(body)?;
        let chain = (table, text(body, "chain")?.to_owned());
        let place = *self
            .chains
            .get(&chain)
            .ok_or("its chain is not listed before it")?;
        if let Some(statements) = body.get("expr").and_then(Value::as_array) {
            self.sets.note_updates(&chain.0, statements);
        }
        self.listed.push((chain.0, place, body));
        Ok(())
    }

    fn finish(mut self) -> Rules {
        let sets = self.sets.read();
        for (table, place, body) in self.listed {
            let chains = |name: &str| {
                let key = (table.clone(), name.to_owned());
                self.chains.get(&key).copied()
            };
            let context = Context {
                table: &table,
                sets: &sets,
                chains: &chains,
            };
            let rule = rule(&context, body);
            self.rules.chains[place].rules.push(rule);
        }
        self.rules
    }
}

/// What a rule may name.
struct Context<'a> {
    table: &'a TableName,
    sets: &'a sets::Contents,
    chains: &'a dyn Fn(&str) -> Option<usize>,
}

fn rule(context: &Context<'_>, body: &Value) -> Rule {
    let statements = body.get("expr").and_then(Value::as_array);
    let comment = body.get("comment").and_then(Value::as_str);
    let mut clauses = Vec::new();
    match statements {
        Some(statements) => {
            for statement in statements {
                statements::clauses(context, statement, &mut clauses);
            }
        }
        None => clauses.push(Clause::Act(Action::Unknown(
            "the rule is listed without its statements".to_owned(),
        ))),
    }
    let mut text = words::statements(statements.map(Vec::as_slice).unwrap_or_default());
    if let Some(comment) = comment {
        text = format!("{text} comment \"{comment}\"");
    }
    Rule {
        label: Label {
            comment: comment.map(str::to_owned),
            text,
        },
        clauses,
    }
}

/// A rule of our own making that leaves a base chain.
fn passing(text: &str, test: Test, negated: bool) -> Rule {
    Rule {
        label: Label {
            comment: None,
            text: format!("({text})"),
        },
        clauses: vec![
            Clause::Test(Condition { test, negated }),
            Clause::Act(Action::Accept),
        ],
    }
}

/// Chains of devices see the packets of those only. `nft` 1.0.6 does not tell which.
fn on_device(hook: Option<Hook>, devices: Option<&Value>) -> Rule {
    let way = if hook == Some(Hook::Egress) {
        Way::Out
    } else {
        Way::In
    };
    let names: Option<Vec<_>> = match devices {
        Some(Value::String(name)) => Some(vec![NamePattern::exact(name)]),
        Some(Value::Array(names)) => {
            let names = names
                .iter()
                .map(|name| name.as_str().map(NamePattern::exact));
            names.collect()
        }
        _ => None,
    };
    match names {
        Some(names) => passing("other devices", Test::Interface(way, names), true),
        None => {
            let why = "which devices the chain stands on";
            passing(why, Test::Unknown(why.to_owned()), false)
        }
    }
}

fn base(hook: &str, body: &Value) -> Result<Base, String> {
    let hook = match hook {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        "ingress" => Hook::Ingress,
        "egress" => Hook::Egress,
        _ => return Err("its hook is not known".to_owned()),
    };
    let kind = match text(body, "type")? {
        "filter" => Kind::Filter,
        "route" => Kind::Route,
        "nat" => Kind::Nat,
        _ => return Err("its type is not known".to_owned()),
    };
    let priority = body.get("prio").and_then(Value::as_i64);
    let priority = priority
        .and_then(|priority| i32::try_from(priority).ok())
        .ok_or("it has no priority")?;
    let drops = match body.get("policy").map(Value::as_str) {
        None | Some(Some("accept")) => false,
        Some(Some("drop")) => true,
        Some(_) => return Err("its policy is not known".to_owned()),
    };
    Ok(Base {
        hook,
        kind,
        priority,
        drops,
    })
}

fn text<'v>(body: &'v Value, key: &str) -> Result<&'v str, String> {
    body.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("it has no {key}"))
}

fn owner(body: &Value) -> Result<TableName, String> {
    Ok((
        text(body, "family")?.to_owned(),
        text(body, "table")?.to_owned(),
    ))
}
