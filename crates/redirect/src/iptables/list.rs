//! What of ours stands in iptables' tables now.

use super::Flavour;
use super::detect::{Pair, Tools, legacy_tables};
use super::error::IptablesError;
use super::state::State;
use crate::nft::Nft;
use crate::ruleset::Family;

/// Our part of one family's tables, of one flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which kernel interface.
    pub flavour: Flavour,
    /// Which family.
    pub family: Family,
    /// What is there; never empty.
    pub state: State,
}

/// Reads what is ours in the tables of both flavours, in the network namespace of the calling
/// thread. No program is run where there is none.
///
/// # Errors
/// If there are tables, but a program to read them is missing or fails.
pub fn list() -> Result<Vec<Listed>, IptablesError> {
    let mut listed = Vec::new();
    let mut add = |flavour, family, pair: &Pair| {
        let state = pair.state()?;
        if !state.is_empty() {
            listed.push(Listed {
                flavour,
                family,
                state,
            });
        }
        Ok(())
    };
    // Without nf_tables there is nothing in it.
    let in_nft = Nft::open().and_then(|mut nft| nft.has_iptables_chains());
    if in_nft.unwrap_or(false) {
        let tools = Tools::of(Flavour::Nft)?;
        add(Flavour::Nft, Family::V4, &tools.v4)?;
        if let Some(pair) = &tools.v6 {
            add(Flavour::Nft, Family::V6, pair)?;
        }
    }
    for family in [Family::V4, Family::V6] {
        if legacy_tables(family) {
            add(Flavour::Legacy, family, &Pair::legacy(family)?)?;
        }
    }
    Ok(listed)
}
