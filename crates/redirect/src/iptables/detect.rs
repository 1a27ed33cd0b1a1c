//! Which of iptables' two kernel interfaces, and by which programs.
//!
//! A node's programs and a container's may differ, and rules of both flavours would act one after
//! the other. So ours go where others' are: to the legacy tables if any *rule* is in them (that a
//! table exists says nothing), else to nf_tables if the kernel has it, else to the legacy tables.
//! Nothing is written to find that out.

use std::collections::HashMap;
use std::fmt;

use shunt_abi::name::iptables;

use super::error::IptablesError;
use super::program::Program;
use super::state::{STAGES, State, key, table_name, words};
use super::{Flavour, render};
use crate::error::Cause;
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
    flavour: Flavour,
    family: Family,
    save: Program,
    restore: Program,
    main: Program,
}

impl Pair {
    /// What of them is ours.
    pub(super) fn state(&self) -> Result<State, IptablesError> {
        match self.save.save() {
            Ok(saved) => Ok(State::parse(&saved)),
            // The program stops at the first rule with a match that it has no library for. One that
            // may not look sees nothing, which does not mean that there is nothing.
            Err(error @ IptablesError::Failed { .. })
                if !matches!(error.cause(), Cause::Permission | Cause::UserNamespace) =>
            {
                self.piece_by_piece()
            }
            Err(error) => Err(error),
        }
    }

    /// The same without a look at what others wrote: our chains by their names, and the jumps to
    /// them by asking for each. A jump that is there twice is not seen so.
    fn piece_by_piece(&self) -> Result<State, IptablesError> {
        let mut text = String::new();
        for stage in STAGES {
            let table = table_name(stage);
            if self.flavour == Flavour::Legacy && !has_legacy_table(self.family, table) {
                continue;
            }
            let (saved, complete) = self.save.save_table(table)?;
            if complete {
                text.push_str(&saved);
                continue;
            }
            text.push_str(&format!("*{table}\n"));
            let declared = saved.lines().filter_map(|line| line.strip_prefix(':'));
            for declared in declared.filter(|chain| chain.starts_with(iptables::PREFIX)) {
                let name = declared.split(' ').next().unwrap_or_default();
                let rules = self.main.list_chain(table, name)?;
                text.push_str(&format!(":{declared}\n{rules}\n"));
                for built_in in ["PREROUTING", "OUTPUT"] {
                    let jump = render::jump(built_in, name);
                    let rule = words(&jump.rule);
                    let rule: Vec<_> = rule.iter().map(String::as_str).collect();
                    if self.main.has_rule(table, built_in, &rule)? {
                        text.push_str(&format!("-A {built_in} {}\n", jump.rule));
                    }
                }
            }
        }
        Ok(State::parse(&text))
    }

    /// What is printed of one table before the program stops, if it does.
    pub(super) fn saved_table(&self, table: &str) -> Result<String, IptablesError> {
        match self.save.save_table(table)? {
            (text, false) if text.is_empty() => self.save.save_whole_table(table),
            (text, _) => Ok(text),
        }
    }

    /// All tables with the counters of each rule.
    pub(super) fn saved_with_counters(&self) -> Result<String, IptablesError> {
        self.save.save_with_counters()
    }

    /// How many packets each rule of ours has decided on, by key.
    fn count(&self, counters: &mut HashMap<String, u64>) -> Result<(), IptablesError> {
        let saved = self.saved_with_counters()?;
        for line in saved.lines() {
            let counted = line.strip_prefix('[').and_then(|line| line.split_once(':'));
            if let Some((packets, rule)) = counted
                && let (Ok(packets), Some(key)) = (packets.parse::<u64>(), key(rule))
            {
                *counters.entry(key).or_default() += packets;
            }
        }
        Ok(())
    }

    /// Has a script carried out.
    pub(super) fn restore(&self, script: &str) -> Result<(), IptablesError> {
        let done = self.restore.restore(script);
        if let Err(IptablesError::Failed {
            program,
            status,
            said,
        }) = &done
            && let Some(table) = unusable_table(said)
            && let Err(IptablesError::Failed { said: why, .. }) = self.main.list_table(table)
        {
            return Err(IptablesError::Failed {
                program: program.clone(),
                status: *status,
                said: format!("{said}\n{why}"),
            });
        }
        done
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
        let pair = |program: &dyn Fn(&str) -> Option<Program>| {
            Some(Self {
                flavour,
                family,
                save: program("-save")?,
                restore: program("-restore")?,
                main: program("")?,
            })
        };
        let named = |what: &str| Program::find(&format!("{stem}-{}{what}", flavour.word()));
        if let Some(named) = pair(&named) {
            return Ok(Some(named));
        }
        if let Some(multi) = Program::find(&format!("xtables-{}-multi", flavour.word())) {
            let applet = |what: &str| Some(multi.clone().applet(&format!("{stem}{what}")));
            return Ok(pair(&applet));
        }
        let Some(plain) = pair(&|what| Program::find(&format!("{stem}{what}"))) else {
            return Ok(None);
        };
        let of_nft = plain.restore.version()?.contains("(nf_tables)");
        Ok((of_nft == (flavour == Flavour::Nft)).then_some(plain))
    }
}

/// The table that `iptables-legacy-restore` cannot use; the reason is said by `iptables-legacy` alone.
fn unusable_table(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("unable to initialize table '")?;
    rest.split('\'').next()
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

    /// How many packets each rule of ours has decided on, by key.
    pub(crate) fn counters(&self) -> Result<HashMap<String, u64>, IptablesError> {
        let mut counters = HashMap::new();
        self.v4.count(&mut counters)?;
        if let Some(pair) = &self.v6 {
            pair.count(&mut counters)?;
        }
        Ok(counters)
    }

    /// The programs for IPv6, without which IPv6 cannot be captured.
    pub(super) fn ipv6(&self) -> Result<&Pair, IptablesError> {
        let why = "because IPv6 is captured (`--ipv6 never` lets it pass the mesh by)";
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
            let Some(pair) = pair.filter(|_| legacy_tables(family)) else {
                continue;
            };
            match pair.save.save() {
                Ok(saved) if !saved.lines().any(|line| line.starts_with("-A ")) => {}
                // A rule that it cannot print is a rule.
                Ok(_) | Err(IptablesError::Failed { .. }) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Whether the network namespace of the calling thread has legacy tables of this family. They
/// come into being when a program looks at them, and stay.
pub(super) fn legacy_tables(family: Family) -> bool {
    !legacy_table_names(family).trim().is_empty()
}

fn has_legacy_table(family: Family, table: &str) -> bool {
    legacy_table_names(family).lines().any(|name| name == table)
}

pub(super) fn legacy_table_names(family: Family) -> String {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // It is missing without the module.
    std::fs::read_to_string(file).unwrap_or_default()
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
