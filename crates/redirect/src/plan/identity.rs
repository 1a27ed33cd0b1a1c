//! How rules recognise the proxy's own packets.

use std::collections::BTreeSet;

use shunt_abi::name::set;

use super::Planner;
use crate::ranges::Ranges;
use crate::ruleset::{Elements, Match};

/// By what the proxy is recognised; it chooses a rule's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Uid,
    Gid,
    Mark,
    Cgroup,
}

/// One key for each way of recognising the proxy.
pub(super) struct Keys<T> {
    pub(super) uid: T,
    pub(super) gid: T,
    pub(super) mark: T,
    pub(super) cgroup: T,
}

impl<T: Copy> Keys<T> {
    pub(super) fn of(&self, by: By) -> T {
        match by {
            By::Uid => self.uid,
            By::Gid => self.gid,
            By::Mark => self.mark,
            By::Cgroup => self.cgroup,
        }
    }
}

impl Planner<'_> {
    /// The tests by which the proxy is recognised. Any of them does.
    pub(super) fn identities(&mut self) -> Vec<(By, Match)> {
        let identity = &self.config.proxy;
        let uids = Elements::Uids(ids(&identity.uids));
        let gids = Elements::Gids(ids(&identity.gids));
        let uids = self.set(set::PROXY_UIDS, identity.uids.is_empty(), uids);
        let gids = self.set(set::PROXY_GIDS, identity.gids.is_empty(), gids);
        let mark = identity.mark.map(|mark| Match::Mark(mark.get()));
        let cgroup = self.pod.cgroup.clone();
        [
            uids.map(|set| (By::Uid, Match::OwnerUid(set))),
            gids.map(|set| (By::Gid, Match::OwnerGid(set))),
            mark.map(|mark| (By::Mark, mark)),
            cgroup.map(|cgroup| (By::Cgroup, Match::Cgroup(cgroup))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Ids as intervals of one.
pub(super) fn ids(ids: &BTreeSet<u32>) -> Ranges<u32> {
    ids.iter().map(|id| (*id, *id)).collect()
}
