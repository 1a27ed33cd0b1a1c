//! The rules' counters.

use std::collections::HashMap;

use super::VerifyError;
use crate::iptables::Tools;
use crate::nft::Nft;

/// The rules' counters, by key.
pub(super) type Counters = HashMap<String, u64>;

/// Where the rules' counters are.
pub(super) enum Counting {
    /// In our table.
    Nft(Nft),
    /// In the text of a program, which takes longer than a probe: they are read only where a packet
    /// is lost.
    Iptables(Box<Tools>),
}

impl Counting {
    pub(super) fn read(&mut self) -> Result<Counters, VerifyError> {
        Ok(match self {
            Self::Nft(nft) => nft.counters()?,
            Self::Iptables(tools) => tools.counters()?,
        })
    }
}
