//! What iptables' nf_tables flavour keeps: tables `raw`, `mangle`, `nat` and others of families
//! `ip` and `ip6`. Seen and cleared without iptables' programs, which may be gone from the image.
//!
//! Of foreign rules only one thing is read: the chain that they jump to. No other expression in
//! them is looked at, so none is unknown.

use shunt_abi::name::iptables;

use super::Nft;
use super::attr::{Attribute, Attributes, Malformed};
use super::batch::{Batch, Outcome};
use super::read::generation;
use super::request::{attributes, get_in, malformed};
use super::socket::NetlinkSocket;
use super::uapi::{
    DATA_VERDICT, NFPROTO_IPV4, NFPROTO_IPV6, POLICY_ACCEPT, VERDICT_CHAIN, chain, expr, flag, msg,
    rule, table,
};
use crate::error::{KernelError, Object};
use crate::ruleset::Family;

/// iptables' tables of one generation.
#[derive(Debug, Default)]
struct Tables {
    chains: Vec<Chain>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    /// Packets enter it from a hook, and those that no rule decides on pass.
    accepts: bool,
}

#[derive(Debug)]
struct Rule {
    family: u8,
    table: String,
    chain: String,
    handle: u64,
    /// The chain that it jumps or goes to.
    to: Option<String>,
}

/// iptables' names for the chains on hooks.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// The tables that Shunt writes to.
const TABLES: [&str; 3] = ["raw", "mangle", "nat"];
const FAMILIES: [u8; 2] = [NFPROTO_IPV4, NFPROTO_IPV6];
/// `NFPROTO_UNSPEC`.
const ANY_FAMILY: u8 = 0;
/// How often it is tried while others change the rules.
const ATTEMPTS: u32 = 32;

impl Nft {
    /// Whether there are chains of ours.
    pub(crate) fn has_iptables_chains(&mut self) -> Result<bool, KernelError> {
        let chains = self.retried(chains)?;
        Ok(chains.iter().any(Chain::is_ours))
    }

    /// Whether any rule is there, whoever wrote it, that `iptables-nft` would list.
    pub(crate) fn has_iptables_rules(&mut self) -> Result<bool, KernelError> {
        let rules = self.retried(rules)?;
        Ok(rules.iter().any(|rule| {
            let of_iptables = TABLES.contains(&rule.table.as_str()) || rule.table == "filter";
            let of_its_chains = BUILT_IN.contains(&rule.chain.as_str());
            of_iptables && of_its_chains
        }))
    }

    /// Takes our chains and the jumps to them away, in one transaction, and those of the tables that
    /// we write to that are then empty, as one is that a killed run had emptied already. Says
    /// whether there were any chains.
    pub(crate) fn clear_iptables(&mut self) -> Result<bool, KernelError> {
        if !self.has_iptables_chains()? {
            return Ok(false);
        }
        for _ in 0..ATTEMPTS {
            let before = generation(&mut self.0)?;
            let Some(tables) = Tables::read(&mut self.0)? else {
                continue;
            };
            if !tables.chains.iter().any(Chain::is_ours) {
                return Ok(false);
            }
            let mut batch = Batch::new(before);
            tables.clear(&mut batch);
            if batch.commit(&mut self.0)? == Outcome::Committed {
                return Ok(true);
            }
        }
        Err(KernelError::Busy { attempts: ATTEMPTS })
    }

    /// Deletes those of these tables of iptables that hold nothing but empty built-in chains.
    pub(crate) fn delete_bare_tables(
        &mut self,
        candidates: &[(Family, &'static str)],
    ) -> Result<(), KernelError> {
        for _ in 0..ATTEMPTS {
            let before = generation(&mut self.0)?;
            let (Some(chains), Some(rules)) = (chains(&mut self.0)?, rules(&mut self.0)?) else {
                continue;
            };
            let tables = Tables { chains, rules };
            let mut batch = Batch::new(before);
            for (family, name) in candidates {
                let family = match family {
                    Family::V4 => NFPROTO_IPV4,
                    Family::V6 => NFPROTO_IPV6,
                };
                if tables.is_bare(family, name) {
                    delete_table(&mut batch, family, name);
                }
            }
            if batch.commit(&mut self.0)? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(KernelError::Busy { attempts: ATTEMPTS })
    }

    fn retried<T>(
        &mut self,
        read: fn(&mut NetlinkSocket) -> Result<Option<T>, KernelError>,
    ) -> Result<T, KernelError> {
        for _ in 0..ATTEMPTS {
            if let Some(read) = read(&mut self.0)? {
                return Ok(read);
            }
        }
        Err(KernelError::Busy { attempts: ATTEMPTS })
    }
}

impl Tables {
    /// `None`: a list was interrupted by a change.
    fn read(socket: &mut NetlinkSocket) -> Result<Option<Self>, KernelError> {
        let Some(chains) = chains(socket)? else {
            return Ok(None);
        };
        if !chains.iter().any(Chain::is_ours) {
            return Ok(Some(Self::default()));
        }
        let rules = rules(socket)?;
        Ok(rules.map(|rules| Self { chains, rules }))
    }

    /// What one table holds.
    fn of(&self, family: u8, name: &str) -> (Vec<&Chain>, Vec<&Rule>) {
        let chains = self.chains.iter();
        let rules = self.rules.iter();
        (
            chains
                .filter(|chain| chain.family == family && chain.table == name)
                .collect(),
            rules
                .filter(|rule| rule.family == family && rule.table == name)
                .collect(),
        )
    }

    /// Whether a table holds nothing but empty built-in chains.
    fn is_bare(&self, family: u8, name: &str) -> bool {
        let (chains, rules) = self.of(family, name);
        !chains.is_empty() && rules.is_empty() && chains.into_iter().all(Chain::is_bare)
    }

    fn clear(&self, batch: &mut Batch) {
        for family in FAMILIES {
            for name in TABLES {
                let (chains, rules) = self.of(family, name);
                if !chains.iter().any(|chain| chain.is_ours()) {
                    if self.is_bare(family, name) {
                        delete_table(batch, family, name);
                    }
                    continue;
                }
                let (ours, others): (Vec<&Rule>, Vec<&Rule>) =
                    rules.into_iter().partition(|rule| rule.is_ours());
                let bare = |chain: &&Chain| chain.is_ours() || chain.is_bare();
                if others.is_empty() && chains.iter().all(bare) {
                    delete_table(batch, family, name);
                } else {
                    ours.into_iter().for_each(|rule| rule.delete(batch));
                    let chains = chains.into_iter().filter(|chain| chain.is_ours());
                    chains.for_each(|chain| chain.delete(batch));
                }
            }
        }
    }
}

fn delete_table(batch: &mut Batch, family: u8, name: &str) {
    let what = (
        Object::Tables,
        format!("delete the empty table {} {name}", family_name(family)),
    );
    batch.push_in(family, msg::DELTABLE, 0, what, |attributes| {
        attributes.string(table::NAME, name);
    });
}

impl Chain {
    fn is_ours(&self) -> bool {
        self.name.starts_with(iptables::PREFIX) && TABLES.contains(&self.table.as_str())
    }

    /// Whether it does nothing as long as no rule is in it, and iptables makes it again when need
    /// be.
    fn is_bare(&self) -> bool {
        self.accepts && BUILT_IN.contains(&self.name.as_str())
    }

    fn delete(&self, batch: &mut Batch) {
        let family = family_name(self.family);
        let text = format!("delete chain {family} {} {}", self.table, self.name);
        let what = (Object::Tables, text);
        batch.push_in(self.family, msg::DELCHAIN, 0, what, |attributes| {
            attributes.string(chain::TABLE, &self.table);
            attributes.string(chain::NAME, &self.name);
        });
    }

    fn read(family: u8, attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let mut read = Self {
            family,
            table: String::new(),
            name: String::new(),
            accepts: false,
        };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                chain::TABLE => attribute.string()?.clone_into(&mut read.table),
                chain::NAME => attribute.string()?.clone_into(&mut read.name),
                chain::POLICY => read.accepts = attribute.be32()? == POLICY_ACCEPT,
                _ => {}
            }
        }
        Ok(read)
    }
}

impl Rule {
    /// In a chain of ours, or on the way to one.
    fn is_ours(&self) -> bool {
        let ours = |name: &str| name.starts_with(iptables::PREFIX);
        ours(&self.chain) || self.to.as_deref().is_some_and(ours)
    }

    fn delete(&self, batch: &mut Batch) {
        let family = family_name(self.family);
        let text = format!("delete a rule of {family} {} {}", self.table, self.chain);
        let what = (Object::Tables, text);
        batch.push_in(self.family, msg::DELRULE, 0, what, |attributes| {
            attributes.string(rule::TABLE, &self.table);
            attributes.string(rule::CHAIN, &self.chain);
            attributes.be64(rule::HANDLE, self.handle);
        });
    }

    fn read(family: u8, attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let mut read = Self {
            family,
            table: String::new(),
            chain: String::new(),
            handle: 0,
            to: None,
        };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                rule::TABLE => attribute.string()?.clone_into(&mut read.table),
                rule::CHAIN => attribute.string()?.clone_into(&mut read.chain),
                rule::HANDLE => read.handle = attribute.be64()?,
                rule::EXPRESSIONS => read.to = jump(attribute.nested())?,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The chain that one of these expressions jumps or goes to.
pub(super) fn jump(expressions: Attributes<'_>) -> Result<Option<String>, Malformed> {
    for expression in expressions {
        let expression = expression?;
        let name = inner(expression, expr::NAME)?;
        if name.map(Attribute::string).transpose()? != Some("immediate") {
            continue;
        }
        let mut found = Some(expression);
        let way = [
            expr::DATA,
            expr::IMMEDIATE_DATA,
            DATA_VERDICT,
            VERDICT_CHAIN,
        ];
        for kind in way {
            let Some(outer) = found else { break };
            found = inner(outer, kind)?;
        }
        if let Some(chain) = found {
            return Ok(Some(chain.string()?.to_owned()));
        }
    }
    Ok(None)
}

/// The first attribute of a kind within another.
fn inner(outer: Attribute<'_>, kind: u16) -> Result<Option<Attribute<'_>>, Malformed> {
    for attribute in outer.nested() {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}

fn chains(socket: &mut NetlinkSocket) -> Result<Option<Vec<Chain>>, KernelError> {
    let what = "list the chains of iptables";
    list(socket, what, msg::GETCHAIN, Chain::read)
}

fn rules(socket: &mut NetlinkSocket) -> Result<Option<Vec<Rule>>, KernelError> {
    let what = "list the rules of iptables";
    list(socket, what, msg::GETRULE, Rule::read)
}

/// All of one kind in both families. `None`: interrupted by a change.
fn list<T>(
    socket: &mut NetlinkSocket,
    what: &str,
    kind: u16,
    read: fn(u8, Attributes<'_>) -> Result<T, Malformed>,
) -> Result<Option<Vec<T>>, KernelError> {
    let messages = get_in(socket, ANY_FAMILY, what, kind, flag::DUMP, |_attributes| {})?;
    let Some(messages) = messages else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for (_, body) in messages {
        let family = body.first().copied().unwrap_or(ANY_FAMILY);
        if FAMILIES.contains(&family) {
            found.push(read(family, attributes(&body)).map_err(malformed(what))?);
        }
    }
    Ok(Some(found))
}

fn family_name(family: u8) -> &'static str {
    if family == NFPROTO_IPV6 { "ip6" } else { "ip" }
}
