//! `shunt-init` in a pod, as Istio's injector runs it.

use anyhow::{Context, Result};
use shunt_redirect::nft::{self, Installed};

use crate::net::Pod;
use crate::process::Finished;
use crate::programs;

/// The command line that Istio's injector gives its init container by default.
#[rustfmt::skip]
pub const INJECTED: &[&str] = &[
    "istio-iptables",
    "-p", "15001",
    "-z", "15006",
    "-u", "1337",
    "-m", "REDIRECT",
    "-i", "*",
    "-x", "",
    "-b", "*",
    "-d", "15090,15021,15020",
];

impl Pod {
    /// Writes the redirect rules with the injector's arguments; `other` flags, each followed by
    /// its value, stand in for the injector's or are added.
    ///
    /// # Errors
    /// `shunt-init` fails; what it said is in the error.
    pub fn apply_rules(&self, other: &[&str]) -> Result<Finished> {
        let mut args = INJECTED.to_vec();
        for flag in other.chunks(2) {
            match args.iter().position(|arg| *arg == flag[0]) {
                Some(at) => args[at + 1] = flag[1],
                None => args.extend(flag),
            }
        }
        self.init(&args)?.success()
    }

    /// `shunt-init remove`.
    ///
    /// # Errors
    /// `shunt-init` fails; what it said is in the error.
    pub fn remove_rules(&self) -> Result<Finished> {
        self.init(&["remove"])?.success()
    }

    /// The rules and their counters, read from the kernel.
    ///
    /// # Errors
    /// There are none, or somebody else's.
    pub fn rules(&self) -> Result<Installed> {
        self.run(|| nft::list()?.context("there are no rules"))
    }

    /// Runs `shunt-init` to its end, which may be a failure.
    ///
    /// # Errors
    /// It does not build, or does not end.
    pub fn init(&self, args: &[&str]) -> Result<Finished> {
        self.command(programs::shunt_init()?).args(args).finish()
    }
}
