//! The table `inet shunt` in the kernel: read, replaced, deleted, by nf_tables' netlink alone.
//!
//! A policy's way down is `encode` into one `batch`; its way back is `read` and `decode`. [`render`]
//! writes the text that `nft` would list.

pub(crate) mod attr;
mod batch;
pub(crate) mod compat;
mod counters;
mod decode;
mod encode;
mod expr;
mod key;
mod others;
mod read;
pub mod render;
mod request;
pub(crate) mod socket;
#[cfg(test)]
mod tests;
mod uapi;

use shunt_abi::TableMark;

use crate::error::{KernelError, ListError, Malformed, Object};
use crate::ruleset::{Rule, Ruleset};
use batch::{Batch, Outcome};
pub(crate) use others::{Base, OtherChain};
pub(crate) use read::{Listing, Ours, Snapshot, Table};
use socket::NetlinkSocket;

/// What Shunt has in the kernel, with its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Who wrote it, and which policy.
    pub mark: TableMark,
    /// The rules in the order in which packets meet them, chain by chain.
    pub rules: Vec<InstalledRule>,
    /// What they mean, or what is among them that Shunt does not write.
    pub ruleset: Result<Ruleset, String>,
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
    /// What it means; or what it holds that Shunt does not write.
    pub rule: Result<Rule, Malformed>,
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
            ruleset: ours.content,
        })),
    }
}

/// A connection to nf_tables of the calling thread's network namespace.
pub(crate) struct Nft(NetlinkSocket);

impl Nft {
    pub(crate) fn open() -> Result<Self, KernelError> {
        NetlinkSocket::open(uapi::NETLINK_NETFILTER, Object::Tables).map(Self)
    }

    /// Reads our table, all of one generation.
    pub(crate) fn read(&mut self) -> Result<Snapshot, KernelError> {
        read::snapshot(&mut self.0)
    }

    /// Reads our table rule by rule, whatever they are. `None`: there is none.
    pub(crate) fn listing(&mut self) -> Result<Option<Listing>, KernelError> {
        read::listing(&mut self.0)
    }

    /// Whether our table is there, with this mark.
    pub(crate) fn is_marked(&mut self, mark: TableMark) -> Result<bool, KernelError> {
        read::is_marked(&mut self.0, mark)
    }

    /// Makes our table hold exactly these rules, of this mark. `false`: the rules changed since the
    /// snapshot, and nothing was done.
    pub(crate) fn replace(
        &mut self,
        snapshot: &Snapshot,
        ruleset: &Ruleset,
        mark: TableMark,
    ) -> Result<bool, KernelError> {
        let mut batch = Batch::new(snapshot.generation);
        let replace = !matches!(snapshot.table, Table::Absent);
        encode::table(&mut batch, ruleset, mark, replace);
        Ok(batch.commit(&mut self.0)? == Outcome::Committed)
    }

    /// Finds out whether the kernel would take these rules, in a transaction that cannot be carried
    /// out to its end, so that nothing changes.
    pub(crate) fn rehearse(&mut self, ruleset: &Ruleset) -> Result<(), KernelError> {
        let snapshot = self.read()?;
        let mut batch = Batch::new(snapshot.generation);
        encode::table(
            &mut batch,
            ruleset,
            ruleset.mark(),
            !matches!(snapshot.table, Table::Absent),
        );
        batch.rehearse(&mut self.0)
    }

    /// Deletes our table. `false`: the rules changed since the snapshot, and nothing was done.
    pub(crate) fn delete(&mut self, snapshot: &Snapshot) -> Result<bool, KernelError> {
        let mut batch = Batch::new(snapshot.generation);
        encode::delete(&mut batch);
        Ok(batch.commit(&mut self.0)? == Outcome::Committed)
    }
}
