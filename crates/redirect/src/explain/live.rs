//! Our rules as the kernel holds them now.

use super::model::Rules;
use crate::error::ListError;
use crate::nft;
use crate::routing::Route;
use crate::ruleset::Family;

impl Rules {
    /// Reads the table `inet shunt` and Shunt's policy routing in the network namespace of the
    /// calling thread. Where there are none, every packet passes. Other tables are not read, nor
    /// what iptables holds: of those, listings tell ([`Self::from_nft_json`],
    /// [`Self::from_iptables_save`]).
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, without nf_tables, or if the table is someone else's.
    pub fn from_live() -> Result<Self, ListError> {
        let Some(installed) = nft::list()? else {
            return Ok(Self::default());
        };
        let mut rules = match installed.ruleset {
            Ok(ruleset) => Self::from_ruleset(&ruleset),
            Err(what) => Self::unknown(&format!(
                "table inet {} as it stands, which Shunt did not write: {what}",
                shunt_abi::name::NFT_TABLE
            )),
        };
        for (family, mark) in Route::open()?.delivered_marks()? {
            rules = rules.delivering_mark(mark, family);
        }
        Ok(rules)
    }

    /// Rules of which nothing is known.
    fn unknown(why: &str) -> Self {
        Self {
            missing: [Family::V4, Family::V6]
                .map(|family| (family, why.to_owned()))
                .into(),
            ..Self::default()
        }
    }
}
