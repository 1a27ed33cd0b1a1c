//! Which of iptables' two kernel interfaces, and by which programs.
//!
//! A node's programs and a container's may differ, and rules of both flavours would act one after
//! the other. So ours go where others' are: to the legacy tables if any *rule* is in them (that a
//! table exists says nothing), else to nf_tables if the kernel has it, else to the legacy tables.
//! Nothing is written to find that out.

use std::fmt;

use super::Flavour;
use super::error::IptablesError;
use super::program::Program;
use super::state::State;
use crate::nft::Nft;
use crate::ruleset::Family;

/// The programs of one flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) flavour: Flavour,
    pub(super) v4: Pair,
    /// Missing where IPv6 is not built in; an error only if it is needed.
    pub(super) v6: Option<Pair>,
}

/// The programs of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    save: Program,
    restore: Program,
}

impl Pair {
    /// The family's tables as text.
    pub(super) fn save(&self) -> Result<String, IptablesError> {
        self.save.save()
    }

    /// What of them is ours.
    pub(super) fn state(&self) -> Result<State, IptablesError> {
        Ok(State::parse(&self.save()?))
    }

    pub(super) fn restore(&self, script: &str) -> Result<(), IptablesError> {
        self.restore.restore(script)
    }

    /// The legacy programs.
    pub(super) fn legacy(family: Family) -> Result<Self, IptablesError> {
        let why = "to look into the legacy tables that are in this network namespace";
        Self::find(Flavour::Legacy, family)?
            .ok_or_else(|| not_found(&[Flavour::Legacy], family, Some(why)))
    }

    /// Under the names that mean this flavour and no other, else under the plain ones if the
    /// program says that it is of this flavour.
    fn find(flavour: Flavour, family: Family) -> Result<Option<Self>, IptablesError> {
        let stem = stem(family);
        let named = |what: &str| Program::find(&format!("{stem}-{}-{what}", flavour.word()));
        if let (Some(save), Some(restore)) = (named("save"), named("restore")) {
            return Ok(Some(Self { save, restore }));
        }
        if let Some(multi) = Program::find(&format!("xtables-{}-multi", flavour.word())) {
            return Ok(Some(Self {
                save: multi.clone().applet(&format!("{stem}-save")),
                restore: multi.applet(&format!("{stem}-restore")),
            }));
        }
        let plain = |what: &str| Program::find(&format!("{stem}-{what}"));
        let (Some(save), Some(restore)) = (plain("save"), plain("restore")) else {
            return Ok(None);
        };
        let of_nft = restore.version()?.contains("(nf_tables)");
        Ok((of_nft == (flavour == Flavour::Nft)).then_some(Self { save, restore }))
    }
}

impl Tools {
    /// The programs of this flavour.
    pub(crate) fn of(flavour: Flavour) -> Result<Self, IptablesError> {
        let v4 = Pair::find(flavour, Family::V4)?;
        let v4 = v4.ok_or_else(|| not_found(&[flavour], Family::V4, None))?;
        Ok(Self {
            flavour,
            v4,
            v6: Pair::find(flavour, Family::V6)?,
        })
    }

    /// The programs for IPv6, without which IPv6 cannot be captured.
    pub(super) fn ipv6(&self) -> Result<&Pair, IptablesError> {
        let why = "because IPv6 is captured (`--ipv6 off` lets it pass the mesh by)";
        self.v6
            .as_ref()
            .ok_or_else(|| not_found(&[self.flavour], Family::V6, Some(why)))
    }

    /// The programs of the flavour that is in use here.
    pub(crate) fn choose() -> Result<Self, IptablesError> {
        let legacy = Self::of(Flavour::Legacy);
        if let Ok(legacy) = &legacy
            && legacy.has_rules()?
        {
            return Ok(legacy.clone());
        }
        // Without nf_tables in the kernel its programs only fail.
        let kernel_has_nft = Nft::open()
            .and_then(|mut nft| nft.has_iptables_rules())
            .is_ok();
        let nft = Self::of(Flavour::Nft);
        match (nft, legacy) {
            (Ok(nft), _) if kernel_has_nft => Ok(nft),
            (_, Ok(legacy)) => Ok(legacy),
            (Ok(nft), Err(_)) => Ok(nft),
            (Err(IptablesError::NotFound { .. }), Err(IptablesError::NotFound { .. })) => Err(
                not_found(&[Flavour::Nft, Flavour::Legacy], Family::V4, None),
            ),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Whether any rule of this flavour is there, whoever wrote it.
    fn has_rules(&self) -> Result<bool, IptablesError> {
        let families = [(Family::V4, Some(&self.v4)), (Family::V6, self.v6.as_ref())];
        for (family, pair) in families {
            let Some(pair) = pair else { continue };
            let has_rules = |saved: &str| {
                saved
                    .lines()
                    .any(|line| line.starts_with("-A ") || line.starts_with('['))
            };
            if legacy_tables(family) && has_rules(&pair.save()?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the network namespace of the calling thread has legacy tables of this family. They
/// come into being when a program looks at them, and stay.
pub(super) fn legacy_tables(family: Family) -> bool {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // It is missing without the module.
    std::fs::read_to_string(file).is_ok_and(|names| !names.trim().is_empty())
}

fn stem(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn not_found(flavours: &[Flavour], family: Family, why: Option<&'static str>) -> IptablesError {
    let stem = stem(family);
    let mut names: Vec<_> = flavours
        .iter()
        .map(|flavour| format!("{stem}-{}-restore", flavour.word()))
        .collect();
    names.push(match flavours {
        [flavour] => format!("a {stem}-restore of flavour {}", flavour.word()),
        _ => format!("{stem}-restore"),
    });
    IptablesError::NotFound { names, why }
}

impl Flavour {
    /// As it stands in the names of programs.
    fn word(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iptables-{}", self.word())
    }
}
