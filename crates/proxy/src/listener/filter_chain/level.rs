//! One part of a filter chain match: branches by value, and one for chains that do not ask.

use crate::model::{IpRange, Name, ServerNameMatch};
use hashbrown::{Equivalent, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// Branches by a value that is equal or not.
#[derive(Debug, Clone)]
pub(super) struct Level<K, N> {
    exact: HashMap<K, N>,
    any: Option<Box<N>>,
}

impl<K, N> Default for Level<K, N> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            any: None,
        }
    }
}

impl<K: Eq + Hash, N> Level<K, N> {
    /// The branch for a connection with these values, best first.
    pub(super) fn descend<'k, Q>(&self, values: impl IntoIterator<Item = &'k Q>) -> Option<&N>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        values
            .into_iter()
            .find_map(|value| self.exact.get(value))
            .or(self.any.as_deref())
    }

    /// The branch to put a chain into; `new` where there is none yet.
    pub(super) fn branch_or(&mut self, value: Option<K>, new: N) -> &mut N {
        match value {
            Some(value) => self.exact.entry(value).or_insert(new),
            None => self.any.get_or_insert_with(|| Box::new(new)),
        }
    }

    /// The branch to put a chain into.
    pub(super) fn branch(&mut self, value: Option<K>) -> &mut N
    where
        N: Default,
    {
        self.branch_or(value, N::default())
    }
}

/// Branches by ranges of addresses; the longest prefix counts.
#[derive(Debug, Clone)]
pub(super) struct Ranges<N> {
    level: Level<IpRange, N>,
    /// The prefix lengths that occur, by family (IPv4 = true), longest first.
    lengths: Vec<(bool, u8)>,
}

impl<N> Default for Ranges<N> {
    fn default() -> Self {
        Self {
            level: Level::default(),
            lengths: Vec::new(),
        }
    }
}

impl<N: Default> Ranges<N> {
    pub(super) fn descend(&self, address: IpAddr) -> Option<&N> {
        let of_family = self
            .lengths
            .iter()
            .filter(|(v4, _)| *v4 == address.is_ipv4());
        of_family
            .map(|(_, length)| IpRange::around(address, *length))
            .find_map(|range| self.level.exact.get(&range))
            .or(self.level.any.as_deref())
    }

    pub(super) fn branch(&mut self, range: Option<IpRange>) -> &mut N {
        if let Some(range) = range {
            let length = (range.is_ipv4(), range.prefix_len());
            let place = self.lengths.binary_search_by(|known| length.cmp(known));
            if let Err(place) = place {
                self.lengths.insert(place, length);
            }
        }
        self.level.branch(range)
    }
}

/// Branches by server name: exactly, else by the longest suffix.
#[derive(Debug, Clone)]
pub(super) struct Names<N> {
    exact: Level<Name, N>,
    suffixes: HashMap<Name, N>,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self {
            exact: Level::default(),
            suffixes: HashMap::new(),
        }
    }
}

impl<N: Default> Names<N> {
    pub(super) fn descend(&self, name: &str) -> Option<&N> {
        if let Some(exact) = self.exact.exact.get(name) {
            return Some(exact);
        }
        if !self.suffixes.is_empty() {
            // A suffix begins at a dot, behind at least one letter.
            let dots = name
                .match_indices('.')
                .map(|(at, _)| at)
                .filter(|at| *at > 0);
            for at in dots {
                if let Some(found) = self.suffixes.get(&name[at..]) {
                    return Some(found);
                }
            }
        }
        self.exact.any.as_deref()
    }

    pub(super) fn branch(&mut self, name: Option<&ServerNameMatch>) -> &mut N {
        match name {
            None => self.exact.branch(None),
            Some(ServerNameMatch::Exact(name)) => self.exact.branch(Some(Name::clone(name))),
            Some(ServerNameMatch::Suffix(suffix)) => {
                self.suffixes.entry(Name::clone(suffix)).or_default()
            }
        }
    }
}
