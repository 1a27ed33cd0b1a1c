//! What can go wrong with iptables' programs.

use std::io;
use std::process::ExitStatus;

use shunt_abi::SCHEMA_VERSION;

use super::Flavour;
use crate::error::Cause;
use crate::preflight::capability::{self, Capabilities, NET_ADMIN, NET_RAW};
use crate::ruleset::Family;

/// iptables did not do it.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// A program is not there.
    #[error(
        "{} is not found in PATH or /usr/sbin{}; install the package iptables (1.8 or later) in \
         this image, or let Shunt use nf_tables (`--backend nft`), which needs no program",
        names.join(" nor "),
        because(why)
    )]
    NotFound {
        /// The names looked for.
        names: Vec<String>,
        /// What it is needed for, where that is not plain.
        why: Option<&'static str>,
    },
    /// A program cannot be started.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// The system's word.
        source: io::Error,
    },
    /// A program does not end.
    #[error(
        "{program} did not end within {seconds} s and was killed; another program may hold the \
         lock /run/xtables.lock: end it, and run this again"
    )]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// A program refused.
    #[error("{program} failed ({status}): {}{}", line(said), hint(said))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// Written by a Shunt that knows more.
    #[error(
        "the iptables rules of Shunt were written by a newer one (schema {found}, this one knows \
         {SCHEMA_VERSION}); use that version, or run its `shunt-init remove` first"
    )]
    Newer {
        /// Their schema version.
        found: u32,
    },
    /// The program reported success, but the rules are others.
    #[error(
        "{} ({}) does not hold what was written ({difference}); another program may be changing \
         it, else please report this with the versions of iptables and the kernel",
        tables(*family), flavour
    )]
    NotAsWritten {
        /// Whose tables.
        family: Family,
        /// Which of iptables' two kernel interfaces.
        flavour: Flavour,
        /// The first difference.
        difference: String,
    },
    /// A failure, and then the way back failed too.
    #[error(
        "{first}. Taking back what had been done failed as well: {second}. Run this again, or `shunt-init remove`"
    )]
    NotRolledBack {
        /// Why the rules were not written.
        first: Box<Self>,
        /// Why they could not be taken back.
        second: Box<Self>,
    },
}

impl IptablesError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::NotFound { .. } => Cause::ProgramMissing,
            Self::Run { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Cause::ProgramMissing,
                io::ErrorKind::PermissionDenied => Cause::Permission,
                _ => Cause::KernelRefused,
            },
            Self::Failed { said, .. } => meaning(said, capability::effective())
                .map_or(Cause::KernelRefused, |(cause, _)| cause),
            Self::TimedOut { .. } => Cause::KernelRefused,
            Self::Newer { .. } => Cause::Conflict,
            Self::NotAsWritten { .. } => Cause::Internal,
            Self::NotRolledBack { first, .. } => first.cause(),
        }
    }
}

fn because(why: &Option<&str>) -> String {
    why.map(|why| format!(", which is needed {why}"))
        .unwrap_or_default()
}

fn tables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// The line of a program's complaint that says most: the last one that is not about usage.
fn line(said: &str) -> &str {
    let mut lines = said.lines().map(str::trim);
    let telling = |line: &&str| {
        !line.is_empty()
            && ![
                "Try `",
                "Error occurred at",
                "Perhaps iptables or your kernel",
            ]
            .iter()
            .any(|usual| line.starts_with(usual))
    };
    lines.rfind(telling).unwrap_or("it did not say why")
}

fn hint(said: &str) -> String {
    meaning(said, capability::effective())
        .map(|(_, remedy)| format!(". {remedy}"))
        .unwrap_or_default()
}

/// What the known complaints mean to a process that holds these capabilities, and the remedy.
fn meaning(said: &str, held: Option<Capabilities>) -> Option<(Cause, String)> {
    refusal(said, held).or_else(|| {
        KNOWN
            .into_iter()
            .find(|(words, _, _)| said.contains(words))
            .map(|(_, cause, remedy)| (cause, remedy.to_owned()))
    })
}

/// What it means where this process may not do it.
fn refusal(said: &str, held: Option<Capabilities>) -> Option<(Cause, String)> {
    let has = |number| held.is_some_and(|held| held.has(number));
    let refused = ["Permission denied", "Operation not permitted"]
        .iter()
        .any(|words| said.contains(words));
    let missing: Vec<&str> = [(NET_ADMIN, "NET_ADMIN"), (NET_RAW, "NET_RAW")]
        .into_iter()
        .filter(|(number, _)| !has(*number))
        .map(|(_, name)| name)
        .collect();
    match (refused, missing.is_empty()) {
        (false, _) => None,
        (true, true) => Some((
            Cause::UserNamespace,
            "This process has CAP_NET_ADMIN and CAP_NET_RAW, but in another user namespace than \
             the one that this network namespace belongs to: enter that one too (`nsenter --user \
             --net`), or run in the pod itself"
                .to_owned(),
        )),
        (true, false) => Some((
            Cause::Permission,
            format!(
                "CAP_{} is missing over this network namespace (legacy tables take NET_RAW beside \
                 NET_ADMIN): run as root with `securityContext.capabilities.add: [NET_ADMIN, \
                 NET_RAW]`",
                missing.join(" and CAP_")
            ),
        )),
    }
}

/// What holds the matches and targets that rules use.
macro_rules! modules {
    () => {
        "`modprobe -a xt_owner xt_comment xt_multiport xt_conntrack xt_mark xt_connmark xt_CT \
         xt_REDIRECT xt_TPROXY xt_cgroup` on the node, or use `--backend nft`"
    };
}

const KNOWN: [(&str, Cause, &str); 10] = [
    (
        "CHAIN_ADD failed",
        Cause::Conflict,
        "Another program keeps chains in a table of iptables' name that iptables cannot use: \
         see `nft list table ip nat` (and `raw`, `mangle`, `ip6`), delete or rename that table, \
         or use `--backend nft`, which works beside it",
    ),
    (
        "xtables lock",
        Cause::KernelRefused,
        "Another program holds the lock of the legacy tables, or its file cannot be used: \
         make /run writable (an emptyDir volume does), or end that program, and run this again",
    ),
    ("Table does not exist", Cause::KernelLacks, NO_TABLE),
    ("can't initialize", Cause::KernelLacks, NO_TABLE),
    ("unable to initialize table", Cause::KernelLacks, NO_TABLE),
    (
        "Protocol not supported",
        Cause::KernelLacks,
        "The kernel has no nf_tables: use `--backend iptables-legacy`",
    ),
    ("Couldn't load match", Cause::KernelLacks, NO_LIBRARY),
    ("Couldn't load target", Cause::KernelLacks, NO_LIBRARY),
    (
        "No chain/target/match by that name",
        Cause::KernelLacks,
        concat!("The kernel lacks a match or target: ", modules!()),
    ),
    (
        "-restore: line ",
        Cause::KernelRefused,
        concat!(
            "The program does not say why; mostly the kernel lacks a match or target: ",
            modules!()
        ),
    ),
];
const NO_TABLE: &str = "The kernel lacks a table: `modprobe -a iptable_raw iptable_mangle \
                        iptable_nat` (`ip6table_…` for IPv6) on the node, or use `--backend nft`";
const NO_LIBRARY: &str =
    "A library of iptables is missing: install the complete package iptables in this image";

#[cfg(test)]
mod tests {
    use super::{Cause, meaning};
    use crate::preflight::capability::{Capabilities, NET_ADMIN, NET_RAW};

    #[test]
    fn a_complaint_is_explained_by_the_capabilities_that_are_missing() {
        const LEGACY: &str = "iptables-restore v1.8.9 (legacy): iptables-restore: unable to \
                              initialize table 'nat'";
        const SAVE: &str = "iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied \
                            (you must be root)";
        let both: &[u32] = &[NET_ADMIN, NET_RAW];
        for (said, held, cause, words) in [
            (LEGACY, both, Cause::KernelLacks, "iptable_nat"),
            (
                SAVE,
                &both[..1],
                Cause::Permission,
                "CAP_NET_RAW is missing",
            ),
            (
                SAVE,
                &[],
                Cause::Permission,
                "CAP_NET_ADMIN and CAP_NET_RAW",
            ),
            (SAVE, both, Cause::UserNamespace, "nsenter --user --net"),
        ] {
            let held = Capabilities::of(held);
            let (found, remedy) = meaning(said, Some(held)).unwrap();
            assert_eq!(found, cause, "{said}");
            assert!(remedy.contains(words), "{remedy}");
        }
    }
}
