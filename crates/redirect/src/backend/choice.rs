//! Which backend carries a policy out.

use std::fmt;
use std::str::FromStr;

use crate::iptables::Flavour;

/// What a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendChoice {
    /// nf_tables by netlink if the kernel can do it, else iptables.
    #[default]
    Auto,
    /// nf_tables by netlink.
    Nft,
    /// iptables, of the flavour in whose tables others' rules are.
    Iptables,
    /// iptables' older kernel interface.
    IptablesLegacy,
    /// iptables' programs on top of nf_tables.
    IptablesNft,
}

/// What carried a policy out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// nf_tables by netlink.
    Nft,
    /// iptables' programs.
    Iptables(Flavour),
}

impl BackendChoice {
    /// All, with the word for each.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Auto, "auto"),
        (Self::Nft, "nft"),
        (Self::Iptables, "iptables"),
        (Self::IptablesLegacy, "iptables-legacy"),
        (Self::IptablesNft, "iptables-nft"),
    ];
}

/// A word that names no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no backend; known are auto, nft, iptables, iptables-legacy and iptables-nft")]
pub struct UnknownBackend(String);

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let mut known = Self::ALL.into_iter();
        let found = known.find_map(|(choice, known)| (known == word).then_some(choice));
        found.ok_or_else(|| UnknownBackend(word.to_owned()))
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut known = Self::ALL.into_iter();
        let word = known.find_map(|(choice, word)| (choice == *self).then_some(word));
        f.write_str(word.unwrap_or_default())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nft => f.write_str("nft"),
            Self::Iptables(flavour) => flavour.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BackendChoice;

    #[test]
    fn each_word_reads_back_and_no_other_is_known() {
        for (choice, word) in BackendChoice::ALL {
            assert_eq!(word.parse(), Ok(choice));
            assert_eq!(choice.to_string(), word);
        }
        for word in ["", "legacy", "NFT", "nft "] {
            let error = word.parse::<BackendChoice>().unwrap_err();
            assert!(error.to_string().contains("iptables-legacy"), "{error}");
        }
    }
}
