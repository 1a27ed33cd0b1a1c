//! The rules' counters.

use std::collections::HashMap;

use super::VerifyError;
use crate::backend::Backend;
use crate::error::KernelError;
use crate::iptables::Tools;
use crate::nft::Nft;

/// The rules' counters, by key.
pub(super) type Counters = HashMap<String, u64>;

/// Where the rules' counters are.
pub(super) enum Counting {
    /// In our table.
    Nft(Table),
    /// In the text of a program, which takes longer than a probe: they are read only where a packet
    /// is lost.
    Iptables(Box<Tools>),
}

/// Our table, and where each rule is in it.
pub(super) struct Table {
    nft: Nft,
    /// Chain and handle, by key.
    places: HashMap<String, (String, u64)>,
}

impl Table {
    fn new(mut nft: Nft) -> Result<Self, KernelError> {
        let rules = nft.counters()?.into_iter();
        let places = rules.map(|rule| (rule.key, (rule.chain, rule.handle)));
        Ok(Self {
            places: places.collect(),
            nft,
        })
    }

    /// The counters of these rules, without those that are not there.
    pub(super) fn of(&mut self, keys: &[String]) -> Result<Counters, KernelError> {
        let places = keys.iter().filter_map(|key| self.places.get(key));
        let places: Vec<_> = places
            .map(|(chain, handle)| (chain.as_str(), *handle))
            .collect();
        if places.is_empty() {
            return Ok(Counters::new());
        }
        let counted = self.nft.counters_of(&places)?.into_iter();
        Ok(counted.map(|rule| (rule.key, rule.packets)).collect())
    }
}

impl Counting {
    pub(super) fn new(backend: Backend) -> Result<Self, VerifyError> {
        Ok(match backend {
            Backend::Nft => Self::Nft(Table::new(Nft::open()?)?),
            Backend::Iptables(flavour) => Self::Iptables(Box::new(Tools::of(flavour)?)),
        })
    }

    /// All of them.
    pub(super) fn read(&mut self) -> Result<Counters, VerifyError> {
        Ok(match self {
            Self::Nft(table) => {
                let counted = table.nft.counters()?.into_iter();
                counted.map(|rule| (rule.key, rule.packets)).collect()
            }
            Self::Iptables(tools) => tools.counters()?,
        })
    }
}
