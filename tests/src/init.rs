//! `shunt-init` in a pod, as Istio's injector runs it.

use anyhow::Result;

use crate::net::Pod;
use crate::process::{Command, Finished};
use crate::programs;

/// The arguments that Istio 1.x's injector gives its init container by default.
pub const INJECTED: [&str; 17] = [
    "istio-iptables",
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
];

impl Pod {
    /// `shunt-init` with the injector's arguments, to be completed or run.
    ///
    /// # Errors
    /// It does not build.
    pub fn init(&self) -> Result<Command> {
        Ok(self.command(programs::shunt_init()?).args(INJECTED))
    }

    /// Writes the redirect rules with the injector's arguments and `more`.
    ///
    /// # Errors
    /// `shunt-init` fails; what it said is in the error.
    pub fn apply_rules(&self, more: &[&str]) -> Result<Finished> {
        self.init()?.args(more).finish()?.success()
    }

    /// `shunt-init remove`.
    ///
    /// # Errors
    /// `shunt-init` fails; what it said is in the error.
    pub fn remove_rules(&self) -> Result<Finished> {
        self.command(programs::shunt_init()?)
            .arg("remove")
            .finish()?
            .success()
    }
}
