//! Our table as the kernel holds it: fetched message by message, then understood as a whole.
//!
//! Only our own table is listed, so that no expression of a foreign one is ever met.

use nix::errno::Errno;
use shunt_abi::{SCHEMA_VERSION, TableMark, name};

use super::InstalledRule;
use super::attr::{Attribute, Malformed};
use super::decode::{self, ListedChain, ListedRule, ListedSet};
use super::key::Element;
use super::request::{attributes, dump, find, get, malformed, only};
use super::socket::NetlinkSocket;
use super::uapi::{self, flag, msg, table as table_abi};
use crate::diff::diff;
use crate::error::{Conflict, KernelError};
use crate::ruleset::{Chain, Hook, Ruleset, Set};

/// The rules at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) generation: u32,
    pub(crate) table: Table,
}

/// What stands under the table's name.
#[derive(Debug)]
pub(crate) enum Table {
    /// Nothing.
    Absent,
    /// Something that is not ours to change.
    Refused(Conflict),
    /// Ours.
    Ours(Ours),
}

/// Our table.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) mark: TableMark,
    pub(crate) rules: Vec<InstalledRule>,
    /// What the rules mean, unless someone added what Shunt does not write.
    pub(crate) content: Result<Ruleset, String>,
}

impl Ours {
    /// How the table differs from what a plan of this mark would make of it; `None` if it does not.
    pub(crate) fn difference(&self, plan: &Ruleset, mark: TableMark) -> Option<String> {
        let content = match &self.content {
            Ok(content) if content == plan && self.mark == mark => return None,
            Ok(content) => content,
            Err(what) => return Some(what.clone()),
        };
        let summary = diff(content, plan).summary();
        Some(summary.unwrap_or_else(|| self.beside_the_rules(content, plan)))
    }
}

impl Ours {
    /// What differs where all rules and sets are alike.
    fn beside_the_rules(&self, content: &Ruleset, plan: &Ruleset) -> String {
        let more = content.chains.iter().map(|chain| chain.hook);
        let more = more.into_iter().find(|hook| plan.chain(*hook).is_none());
        match more {
            Some(hook) => format!("there is a chain {} without a rule", hook.chain()),
            None => format!("the table is marked `{}`", self.mark),
        }
    }
}

/// How often a read is tried while others change the rules.
pub(super) const ATTEMPTS: u32 = 32;

/// Reads our table, all of one generation.
pub(crate) fn snapshot(socket: &mut NetlinkSocket) -> Result<Snapshot, KernelError> {
    for _ in 0..ATTEMPTS {
        let generation = generation(socket)?;
        let table = table(socket);
        // One message tells that. A transaction of this generation finds out whether it still holds.
        if let Ok(Some(table @ (Table::Absent | Table::Refused(_)))) = table {
            return Ok(Snapshot { generation, table });
        }
        // What was read while the rules changed, errors included, means nothing.
        if self::generation(socket)? == generation
            && let Some(table) = table?
        {
            return Ok(Snapshot { generation, table });
        }
    }
    Err(KernelError::Busy { attempts: ATTEMPTS })
}

/// What stands in our table, rule by rule, whatever it is.
#[derive(Debug)]
pub(crate) struct Listing {
    /// In the kernel's order, chain by chain.
    pub(crate) rules: Vec<ListedRule>,
    /// Chains that Shunt could have written.
    pub(crate) hooks: Vec<Hook>,
    /// Sets that Shunt could have written.
    pub(crate) sets: Vec<Set>,
}

/// Reads our table rule by rule. `None`: there is none.
pub(crate) fn listing(socket: &mut NetlinkSocket) -> Result<Option<Listing>, KernelError> {
    for _ in 0..ATTEMPTS {
        let generation = generation(socket)?;
        let content = Content::fetch(socket);
        if self::generation(socket)? == generation
            && let Some(content) = content?
        {
            let sets = content.sets.into_iter().filter_map(|(set, elements)| {
                Some(Set {
                    elements: decode::content(&set, &elements).ok()?,
                    name: set.name,
                })
            });
            let hooks = content.chains.into_iter();
            return Ok((!content.rules.is_empty()).then(|| Listing {
                hooks: hooks.filter_map(|chain| chain.hook.ok()).collect(),
                sets: sets.collect(),
                rules: content.rules,
            }));
        }
    }
    Err(KernelError::Busy { attempts: ATTEMPTS })
}

pub(super) fn generation(socket: &mut NetlinkSocket) -> Result<u32, KernelError> {
    let what = "read the generation of nf_tables";
    let replies = get(socket, what, msg::GETGEN, 0, |_attributes| {})?;
    let body = only(replies, msg::NEWGEN);
    let id = find(&body, uapi::GEN_ID, Attribute::be32);
    id.and_then(|id| id.ok_or(Malformed("no generation id")))
        .map_err(malformed(what))
}

/// Whether our table is there, with this mark.
pub(super) fn is_marked(socket: &mut NetlinkSocket, mark: TableMark) -> Result<bool, KernelError> {
    let header = TableHeader::fetch(socket)?;
    Ok(header.is_some_and(|header| header.mark() == Ok(mark)))
}

/// `None`: a list was interrupted by a change.
fn table(socket: &mut NetlinkSocket) -> Result<Option<Table>, KernelError> {
    let Some(header) = TableHeader::fetch(socket)? else {
        return Ok(Some(Table::Absent));
    };
    let mark = match header.mark() {
        Ok(mark) => mark,
        Err(conflict) => return Ok(Some(Table::Refused(conflict))),
    };
    let Some(content) = Content::fetch(socket)? else {
        return Ok(None);
    };
    let installed = content.rules.iter().map(|rule| InstalledRule {
        chain: rule.chain.clone(),
        key: rule.key.clone(),
        packets: rule.packets,
        bytes: rule.bytes,
        rule: rule.rule.clone(),
    });
    let rules = installed.collect();
    let content = match content.stranger(&header, socket)? {
        Some(stranger) => Err(stranger),
        None => content.understand(&header),
    };
    Ok(Some(Table::Ours(Ours {
        mark,
        rules,
        content,
    })))
}

/// What the kernel says of a table itself.
#[derive(Debug, Default)]
struct TableHeader {
    flags: u32,
    /// How many chains, sets, objects and flowtables there are.
    holds: u32,
    comment: Option<String>,
}

impl TableHeader {
    /// `None`: there is no such table.
    fn fetch(socket: &mut NetlinkSocket) -> Result<Option<Self>, KernelError> {
        let what = "read table inet shunt";
        let replies = get(socket, what, msg::GETTABLE, 0, |attributes| {
            attributes.string(table_abi::NAME, name::NFT_TABLE);
        });
        match replies {
            Err(KernelError::Refused {
                errno: Errno::ENOENT,
                ..
            }) => Ok(None),
            replies => Self::read(&only(replies?, msg::NEWTABLE))
                .map(Some)
                .map_err(malformed(what)),
        }
    }

    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut header = Self::default();
        for attribute in attributes(body) {
            let attribute = attribute?;
            match attribute.kind {
                table_abi::FLAGS => header.flags = attribute.be32()?,
                table_abi::USE => header.holds = attribute.be32()?,
                table_abi::USERDATA => header.comment = attribute.comment().map(str::to_owned),
                _ => {}
            }
        }
        Ok(header)
    }

    /// Whose table it is.
    fn mark(&self) -> Result<TableMark, Conflict> {
        let Some(comment) = &self.comment else {
            let why = "it has no comment".to_owned();
            return Err(Conflict::Foreign { why });
        };
        let Some(mark) = TableMark::parse(comment) else {
            let why = format!("its comment is `{}`", comment.escape_debug());
            return Err(Conflict::Foreign { why });
        };
        if mark.schema > SCHEMA_VERSION {
            return Err(Conflict::Newer { found: mark.schema });
        }
        if self.flags & table_abi::FLAG_OWNER != 0 {
            let why = "another process holds it as its owner".to_owned();
            return Err(Conflict::Foreign { why });
        }
        Ok(mark)
    }
}

/// All that the table holds, read but not yet judged.
#[derive(Debug, Default)]
struct Content {
    rules: Vec<ListedRule>,
    chains: Vec<ListedChain>,
    sets: Vec<(ListedSet, Vec<Element>)>,
}

impl Content {
    /// `None`: a list was interrupted by a change.
    fn fetch(socket: &mut NetlinkSocket) -> Result<Option<Self>, KernelError> {
        let mut content = Self::default();
        let what = "list the rules of table inet shunt";
        let Some(bodies) = dump(socket, what, msg::GETRULE, uapi::rule::TABLE)? else {
            return Ok(None);
        };
        for body in bodies {
            let rule = decode::rule(attributes(&body)).map_err(malformed(what))?;
            content.rules.push(rule);
        }
        let what = "list the chains of table inet shunt";
        let Some(bodies) = dump(socket, what, msg::GETCHAIN, uapi::chain::TABLE)? else {
            return Ok(None);
        };
        for body in bodies {
            let chain = decode::chain(attributes(&body)).map_err(malformed(what))?;
            content.chains.push(chain);
        }
        let what = "list the sets of table inet shunt";
        let Some(bodies) = dump(socket, what, msg::GETSET, uapi::set::TABLE)? else {
            return Ok(None);
        };
        for body in bodies {
            let set = decode::set(attributes(&body)).map_err(malformed(what))?;
            let Some(elements) = elements(socket, &set.name)? else {
                return Ok(None);
            };
            content.sets.push((set, elements));
        }
        Ok(Some(content))
    }

    /// An object or a flowtable. The table says how much it holds: they are listed only if that is
    /// more than chains and sets, of which other checks tell.
    fn stranger(
        &self,
        header: &TableHeader,
        socket: &mut NetlinkSocket,
    ) -> Result<Option<String>, KernelError> {
        let known = self.chains.len() + self.sets.len();
        if usize::try_from(header.holds).is_ok_and(|holds| holds <= known) {
            return Ok(None);
        }
        for (kind, article, word) in [
            (msg::GETOBJ, "an", "object"),
            (msg::GETFLOWTABLE, "a", "flowtable"),
        ] {
            let what = format!("list the {word}s of table inet shunt");
            let bodies = dump(socket, &what, kind, uapi::named::TABLE)?;
            if let Some(body) = bodies.into_iter().flatten().next() {
                let name = find(&body, uapi::named::NAME, |attribute| {
                    attribute.string().map(str::to_owned)
                });
                let name = name.map_err(malformed(&what))?.unwrap_or_default();
                return Ok(Some(format!(
                    "{article} {word} that Shunt does not write: {name}"
                )));
            }
        }
        Ok(Some("something that Shunt does not write".to_owned()))
    }

    /// What it means, or what is there that Shunt does not write.
    fn understand(self, header: &TableHeader) -> Result<Ruleset, String> {
        if header.flags & table_abi::FLAG_DORMANT != 0 {
            return Err("the table is dormant, so that no rule of it acts".to_owned());
        }
        if header.flags != 0 {
            return Err(format!("the table has flags {:#x}", header.flags));
        }
        let mut sets = Vec::with_capacity(self.sets.len());
        for (set, elements) in self.sets {
            let elements = decode::content(&set, &elements)
                .map_err(|what| format!("set {}: {what}", set.name))?;
            sets.push(Set {
                name: set.name,
                elements,
            });
        }
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        let chains = chains_with_rules(self.chains, self.rules)?;
        Ok(Ruleset { sets, chains })
    }
}

/// Puts rules into their chains, in the order of the hooks.
fn chains_with_rules(
    listed: Vec<ListedChain>,
    rules: Vec<ListedRule>,
) -> Result<Vec<Chain>, String> {
    let mut chains = Vec::with_capacity(listed.len());
    for chain in listed {
        let hook = chain.hook;
        let hook = hook.map_err(|what| format!("{what}: {}", chain.name))?;
        chains.push(Chain {
            hook,
            rules: Vec::new(),
        });
    }
    chains.sort_by_key(|chain| chain.hook);
    for listed in rules {
        let rule = listed
            .rule
            .map_err(|what| format!("chain {} holds {what}", listed.chain))?;
        chains
            .iter_mut()
            .find(|chain| chain.hook.chain() == listed.chain)
            .ok_or_else(|| format!("a rule of no chain: {}", listed.chain))?
            .rules
            .push(rule);
    }
    Ok(chains)
}

/// The elements of one of our sets. `None`: interrupted by a change.
fn elements(socket: &mut NetlinkSocket, set: &str) -> Result<Option<Vec<Element>>, KernelError> {
    let what = format!("list the elements of set {set} of table inet shunt");
    let replies = get(socket, &what, msg::GETSETELEM, flag::DUMP, |attributes| {
        attributes.string(uapi::set::ELEM_TABLE, name::NFT_TABLE);
        attributes.string(uapi::set::ELEM_SET, set);
    })?;
    let Some(replies) = replies else {
        return Ok(None);
    };
    let mut elements = Vec::new();
    for (_, body) in replies {
        decode::set_elements(attributes(&body), &mut elements).map_err(malformed(&what))?;
    }
    Ok(Some(elements))
}
