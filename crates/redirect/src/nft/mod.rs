//! The table `inet shunt` in the kernel: read, replaced, deleted, by nf_tables' netlink alone.
//!
//! A policy's way down is [`encode`] into one [`batch`]; its way back is [`decode`]. [`render`]
//! writes the text that `nft` would list.

pub(crate) mod attr;
mod batch;
mod decode;
mod encode;
mod expr;
mod key;
pub mod render;
pub(crate) mod socket;
#[cfg(test)]
mod tests;
mod uapi;

use nix::errno::Errno;
use shunt_abi::{SCHEMA_VERSION, TableMark, name};

use crate::error::{Conflict, KernelError, ListError, Object};
use crate::ruleset::{Chain, Ruleset, Set};
use attr::{Attributes, Head, Malformed, NFGENMSG, Writer};
use batch::{Batch, Outcome};
use decode::ListedRule;
use socket::{NetlinkSocket, Reply};
use uapi::{NFPROTO_INET, flag, msg, table as table_abi};

/// What Shunt has in the kernel, with its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Who wrote it, and which policy.
    pub mark: TableMark,
    /// The rules in the order in which packets meet them, chain by chain.
    pub rules: Vec<InstalledRule>,
}

/// A rule in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRule {
    /// Name of its chain.
    pub chain: String,
    /// One of [`shunt_abi::rule`]; empty for a rule that Shunt did not write.
    pub key: String,
    /// First packets of connections that it decided on (in nat chains only those are seen).
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Installed {
    /// The rule with this key.
    #[must_use]
    pub fn rule(&self, key: &str) -> Option<&InstalledRule> {
        self.rules.iter().find(|rule| rule.key == key)
    }
}

/// Reads Shunt's rules and counters in the network namespace of the calling thread. `None`: there
/// are none.
///
/// # Errors
/// Without CAP_NET_ADMIN, without nf_tables, or if the table is someone else's.
pub fn list() -> Result<Option<Installed>, ListError> {
    let mut nft = Nft::open()?;
    match nft.read()?.table {
        Table::Absent => Ok(None),
        Table::Refused(conflict) => Err(conflict.into()),
        Table::Ours(ours) => Ok(Some(Installed {
            mark: ours.mark,
            rules: ours.rules,
        })),
    }
}

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
    mark: TableMark,
    rules: Vec<InstalledRule>,
    /// What the rules mean, unless someone added what Shunt does not write.
    content: Result<Ruleset, String>,
}

impl Ours {
    /// How the table differs from what a plan would make of it; `None` if it does not.
    pub(crate) fn difference(&self, plan: &Ruleset) -> Option<String> {
        let content = match &self.content {
            Ok(content) if content == plan && self.mark == plan.mark() => return None,
            Ok(content) => content,
            Err(what) => return Some(what.clone()),
        };
        let rules = |ruleset: &Ruleset| -> Vec<_> {
            let chains = ruleset.chains.iter();
            chains
                .flat_map(|chain| chain.rules.iter().map(|rule| (chain.hook, rule.clone())))
                .collect()
        };
        let (found, planned) = (rules(content), rules(plan));
        let changed = planned.iter().zip(&found).find(|(a, b)| a != b);
        Some(match changed {
            Some(((_, rule), _)) => format!("rule {} differs or is not in its place", rule.key),
            None if found.len() < planned.len() => {
                format!("rule {} is missing", planned[found.len()].1.key)
            }
            None if found.len() > planned.len() => "there are more rules".to_owned(),
            None if content.sets != plan.sets => "the sets differ".to_owned(),
            None => format!("the table is marked `{}`", self.mark),
        })
    }
}

/// A connection to nf_tables of the calling thread's network namespace.
pub(crate) struct Nft(NetlinkSocket);

/// How often a read is tried while others change the rules.
const READ_ATTEMPTS: u32 = 32;

impl Nft {
    pub(crate) fn open() -> Result<Self, KernelError> {
        NetlinkSocket::open(uapi::NETLINK_NETFILTER, Object::Tables).map(Self)
    }

    /// Reads our table, all of one generation.
    pub(crate) fn read(&mut self) -> Result<Snapshot, KernelError> {
        for _ in 0..READ_ATTEMPTS {
            let generation = self.generation()?;
            let table = self.read_table();
            // What was read while the rules changed, errors included, means nothing.
            if self.generation()? == generation
                && let Some(table) = table?
            {
                return Ok(Snapshot { generation, table });
            }
        }
        Err(KernelError::Busy {
            attempts: READ_ATTEMPTS,
        })
    }

    /// Makes our table hold exactly these rules. `false`: the rules changed since the snapshot, and
    /// nothing was done.
    pub(crate) fn replace(
        &mut self,
        snapshot: &Snapshot,
        ruleset: &Ruleset,
    ) -> Result<bool, KernelError> {
        let mut batch = Batch::new(snapshot.generation);
        let replace = !matches!(snapshot.table, Table::Absent);
        encode::table(&mut batch, ruleset, replace);
        Ok(batch.commit(&mut self.0)? == Outcome::Committed)
    }

    /// Deletes our table. `false`: the rules changed since the snapshot, and nothing was done.
    pub(crate) fn delete(&mut self, snapshot: &Snapshot) -> Result<bool, KernelError> {
        let mut batch = Batch::new(snapshot.generation);
        encode::delete(&mut batch);
        Ok(batch.commit(&mut self.0)? == Outcome::Committed)
    }

    fn generation(&mut self) -> Result<u32, KernelError> {
        let what = "read the generation of nf_tables";
        let replies = self.get(what, msg::GETGEN, 0, |_attributes| {})?;
        let body = replies
            .into_iter()
            .flatten()
            .find_map(|(kind, body)| (kind == msg::NEWGEN).then_some(body));
        let body = body.unwrap_or_default();
        find(&body, uapi::GEN_ID, |attribute| attribute.be32())
            .and_then(|id| id.ok_or(Malformed("no generation id")))
            .map_err(malformed(what))
    }

    /// `None`: the dump was interrupted by a change.
    fn read_table(&mut self) -> Result<Option<Table>, KernelError> {
        let what = "read table inet shunt";
        let table = self.get(what, msg::GETTABLE, 0, |attributes| {
            attributes.string(table_abi::NAME, name::NFT_TABLE);
        });
        let table = match table {
            Err(KernelError::Refused {
                errno: Errno::ENOENT,
                ..
            }) => return Ok(Some(Table::Absent)),
            other => other?,
        };
        let body = table
            .into_iter()
            .flatten()
            .find_map(|(kind, body)| (kind == msg::NEWTABLE).then_some(body));
        let body = body.ok_or(Malformed("no table")).map_err(malformed(what))?;
        let header = TableHeader::read(&body).map_err(malformed(what))?;
        let mark = match header.mark() {
            Ok(mark) => mark,
            Err(conflict) => return Ok(Some(Table::Refused(conflict))),
        };
        self.read_content(mark, &header)
            .map(|ours| ours.map(Table::Ours))
    }

    fn read_content(
        &mut self,
        mark: TableMark,
        header: &TableHeader,
    ) -> Result<Option<Ours>, KernelError> {
        let what = "list the rules of table inet shunt";
        let rules = self.dump(what, msg::GETRULE, uapi::rule::TABLE)?;
        let chains = self.dump(
            "list the chains of table inet shunt",
            msg::GETCHAIN,
            uapi::chain::TABLE,
        )?;
        let sets = self.dump(
            "list the sets of table inet shunt",
            msg::GETSET,
            uapi::set::TABLE,
        )?;
        let (Some(rules), Some(chains), Some(sets)) = (rules, chains, sets) else {
            return Ok(None);
        };
        let mut listed: Vec<ListedRule> = Vec::with_capacity(rules.len());
        for body in &rules {
            listed.push(decode::rule(attributes(body)).map_err(malformed(what))?);
        }
        let installed = listed
            .iter()
            .map(|rule| InstalledRule {
                chain: rule.chain.clone(),
                key: rule.key.clone(),
                packets: rule.packets,
                bytes: rule.bytes,
            })
            .collect();
        let content = match self.sets(&sets)? {
            None => return Ok(None),
            Some(sets) => sets.and_then(|sets| {
                let chains = chains_with_rules(&chains, listed)?;
                if usize::try_from(header.objects) != Ok(chains.len() + sets.len()) {
                    return Err("the table holds objects that Shunt does not write".to_owned());
                }
                if header.flags != 0 {
                    return Err(format!("the table has flags {:#x}", header.flags));
                }
                Ok(Ruleset { sets, chains })
            }),
        };
        Ok(Some(Ours {
            mark,
            rules: installed,
            content,
        }))
    }

    /// The sets with their elements, by name. `None`: interrupted. Inner error: drift.
    #[expect(
        clippy::type_complexity,
        reason = "three outcomes that end differently, in one place"
    )]
    fn sets(
        &mut self,
        bodies: &[Vec<u8>],
    ) -> Result<Option<Result<Vec<Set>, String>>, KernelError> {
        let mut sets = Vec::with_capacity(bodies.len());
        for body in bodies {
            let set = decode::set(attributes(body)).map_err(malformed("list the sets"))?;
            let what = format!("list the elements of set {}", set.name);
            let replies = self.get(&what, msg::GETSETELEM, flag::DUMP, |attributes| {
                attributes.string(uapi::set::ELEM_TABLE, name::NFT_TABLE);
                attributes.string(uapi::set::ELEM_SET, &set.name);
            })?;
            let Some(replies) = replies else {
                return Ok(None);
            };
            let mut elements = Vec::new();
            for (_, body) in replies {
                decode::set_elements(attributes(&body), &mut elements).map_err(malformed(&what))?;
            }
            match decode::content(&set, &elements) {
                Ok(elements) => sets.push(Set {
                    name: set.name,
                    elements,
                }),
                Err(what) => return Ok(Some(Err(format!("set {}: {what}", set.name)))),
            }
        }
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(Ok(sets)))
    }

    /// All messages of a dump that belong to our table (older kernels list those of all tables).
    fn dump(
        &mut self,
        what: &str,
        kind: u16,
        table_attribute: u16,
    ) -> Result<Option<Vec<Vec<u8>>>, KernelError> {
        let replies = self.get(what, kind, flag::DUMP, |attributes| {
            // The chain dump takes no filter, and ignores this one.
            attributes.string(table_attribute, name::NFT_TABLE);
        })?;
        let Some(replies) = replies else {
            return Ok(None);
        };
        let mut ours = Vec::new();
        for (_, body) in replies {
            let is_ours = find(&body, table_attribute, |attribute| {
                attribute.string().map(|table| table == name::NFT_TABLE)
            });
            if is_ours.map_err(malformed(what))? == Some(true) {
                ours.push(body);
            }
        }
        Ok(Some(ours))
    }

    /// One request and its messages. `None`: a dump that a change interrupted.
    #[expect(
        clippy::type_complexity,
        reason = "type and body of each message, used only here"
    )]
    fn get(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> Result<Option<Vec<(u16, Vec<u8>)>>, KernelError> {
        let sequence = self.0.reserve(1);
        let mut request = Writer::default();
        let head = Head {
            kind,
            flags: flag::REQUEST | flags,
            sequence,
            family: NFPROTO_INET,
            resource: 0,
        };
        request.message(&head, body);
        let replies = self.0.exchange(&request.into_bytes())?;
        let mut messages = Vec::new();
        let mut complete = flags & flag::DUMP == 0;
        let mut interrupted = false;
        for numbered in replies.iter() {
            let numbered = numbered.map_err(malformed(what))?;
            if numbered.sequence != sequence {
                continue;
            }
            interrupted |= numbered.flags & flag::DUMP_INTERRUPTED != 0;
            match numbered.reply {
                Reply::Message(kind, body) => messages.push((kind, body.to_vec())),
                Reply::Done => complete = true,
                Reply::Ack => {}
                Reply::Error(Errno::EINTR, _) => return Ok(None),
                Reply::Error(errno, text) => {
                    return Err(KernelError::Refused {
                        operation: what.to_owned(),
                        object: Object::Tables,
                        errno,
                        text,
                    });
                }
            }
        }
        if !complete {
            return Err(malformed(what)(Malformed("the list has no end")));
        }
        Ok((!interrupted).then_some(messages))
    }
}

/// What the kernel says of a table itself.
#[derive(Debug, Default)]
struct TableHeader {
    flags: u32,
    /// Chains, sets, objects and flowtables.
    objects: u32,
    comment: Option<String>,
}

impl TableHeader {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut header = Self::default();
        for attribute in attributes(body) {
            let attribute = attribute?;
            match attribute.kind {
                table_abi::FLAGS => header.flags = attribute.be32()?,
                table_abi::USE => header.objects = attribute.be32()?,
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

/// Puts rules into their chains, in the order of the hooks.
fn chains_with_rules(bodies: &[Vec<u8>], rules: Vec<ListedRule>) -> Result<Vec<Chain>, String> {
    let mut chains = Vec::with_capacity(bodies.len());
    for body in bodies {
        let listed = decode::chain(attributes(body)).map_err(|what| what.to_string())?;
        let hook = listed
            .hook
            .map_err(|what| format!("{what}: {}", listed.name))?;
        chains.push(Chain {
            name: listed.name,
            hook,
            rules: Vec::new(),
        });
    }
    chains.sort_by_key(|chain| encode::hook_number(chain.hook));
    for listed in rules {
        let rule = listed
            .rule
            .map_err(|what| format!("chain {} holds {what}", listed.chain))?;
        chains
            .iter_mut()
            .find(|chain| chain.name == listed.chain)
            .ok_or_else(|| format!("a rule of no chain: {}", listed.chain))?
            .rules
            .push(rule);
    }
    Ok(chains)
}

/// The attributes of an nf_tables message's body.
fn attributes(body: &[u8]) -> Attributes<'_> {
    Attributes::new(body.get(NFGENMSG..).unwrap_or_default())
}

/// The first attribute of a kind.
fn find<'a, T>(
    body: &'a [u8],
    kind: u16,
    read: impl FnOnce(attr::Attribute<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    for attribute in attributes(body) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return read(attribute).map(Some);
        }
    }
    Ok(None)
}

fn malformed(operation: &str) -> impl FnOnce(Malformed) -> KernelError {
    let operation = operation.to_owned();
    |what| KernelError::Malformed { operation, what }
}
