//! Debian packages, by apt-get.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use shunt_tests::peers::{DebianPin, find};

use crate::workspace::{capture, run};

/// Installs the packages of which a program is missing.
///
/// # Errors
/// When one is missing and there is no apt-get, no root or no network.
pub(super) fn install<'a>(pins: impl Iterator<Item = &'a DebianPin>) -> Result<()> {
    let (present, missing): (Vec<_>, Vec<_>) = pins.partition(|pin| is_installed(pin));
    if !missing.is_empty() {
        fetch(&missing)?;
    }
    if let Some(pin) = missing.iter().find(|pin| !is_installed(pin)) {
        bail!(
            "{} was installed but {} is still not found",
            pin.package,
            absent_commands(pin).join(", ")
        );
    }
    for pin in present.iter().chain(&missing) {
        note_release(pin);
    }
    Ok(())
}

fn absent_commands(pin: &DebianPin) -> Vec<&str> {
    let commands = pin.commands.iter().map(String::as_str);
    commands.filter(|command| find(command).is_none()).collect()
}

fn is_installed(pin: &DebianPin) -> bool {
    absent_commands(pin).is_empty()
}

fn fetch(missing: &[&DebianPin]) -> Result<()> {
    let names: Vec<_> = missing.iter().map(|pin| pin.package.as_str()).collect();
    for pin in missing {
        println!("missing: {} ({})", pin.package, pin.why);
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "no apt-get here: install these packages of your distribution by hand: {}",
            names.join(" ")
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "not root: run with sudo, or first: apt-get install {}",
            names.join(" ")
        );
    }
    // No question may wait for an answer: there may be no terminal.
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    apt(&["update", "--quiet"])
        .context("fetching Debian's package lists (is there a network, a proxy setting?)")?;
    let _nothing_starts = NothingStarts::begin()?;
    let mut words = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    words.extend(&names);
    apt(&words).with_context(|| format!("installing {}", names.join(" ")))
}

/// Where packages ask whether a service may be started (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no service is started that is installed: tests and benches run the programs
/// themselves, and nobody asked for a server on port 80.
struct NothingStarts {
    written: bool,
}

impl NothingStarts {
    fn begin() -> Result<Self> {
        // A policy that is there is its owner's.
        let written = !Path::new(POLICY).exists();
        if written {
            fs::write(
                POLICY,
                "#!/bin/sh\n# Until `cargo xtask setup` has installed.\nexit 101\n",
            )
            .and_then(|()| fs::set_permissions(POLICY, Permissions::from_mode(0o755)))
            .with_context(|| format!("writing {POLICY}"))?;
        }
        Ok(Self { written })
    }
}

impl Drop for NothingStarts {
    fn drop(&mut self) {
        if self.written {
            // Fails only where somebody else removed it.
            fs::remove_file(POLICY).ok();
        }
    }
}

/// Says which version is used, and that results may differ when it is not the pinned one.
fn note_release(pin: &DebianPin) {
    let query = capture(Command::new("dpkg-query").args(["-W", "-f", "${Version}", &pin.package]));
    match query {
        Ok(version) if upstream(&version).starts_with(&pin.release) => {
            println!("ok: {} {version}", pin.package);
        }
        Ok(version) => {
            println!(
                "note: {} is {version}, written against {}",
                pin.package, pin.release
            );
        }
        Err(_) => println!("note: {} is not from a package", pin.commands.join(", ")),
    }
}

/// A Debian version without its epoch: `1:2.3-4` is `2.3-4`.
fn upstream(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_no_part_of_the_release() {
        assert_eq!(upstream("1:2.6.12-1+deb12u4"), "2.6.12-1+deb12u4");
        assert_eq!(upstream("1.0.6-2"), "1.0.6-2");
    }
}
