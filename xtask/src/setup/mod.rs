//! `cargo xtask setup`: installs what the tests and benches need, and nothing that is there.

mod debian;
mod go;
mod python;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use shunt_tests::peers::{self, Pins};

pub use shunt_tests::peers::Purpose;

use crate::workspace::{capture, cargo, run};

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct SetupArgs {
    /// Also what the benches measure against: HAProxy, nginx
    #[arg(long)]
    bench: bool,
}

/// `cargo xtask setup`.
///
/// # Errors
/// As [`install`].
pub fn verb(args: &SetupArgs) -> Result<()> {
    install(Purpose::Test)?;
    if args.bench {
        install(Purpose::Bench)?;
    }
    Ok(())
}

/// Installs everything that `purpose` needs.
///
/// # Errors
/// When something is missing and cannot be installed here; says what and why.
pub fn install(purpose: Purpose) -> Result<()> {
    toolchain()?;
    let pins = Pins::read()?;
    debian::install(pins.debian.iter().filter(|pin| pin.needed_by == purpose))?;
    for pin in pins.python.iter().filter(|pin| pin.needed_by == purpose) {
        let program = python::install(pin)?;
        println!(
            "ok: {} {} ({})",
            pin.package,
            pin.release,
            program.display()
        );
    }
    go::install(pins.go.iter().filter(|pin| pin.needed_by == purpose))
}

/// The program of a Python package; fetched where it is missing.
///
/// # Errors
/// When the package is not pinned or cannot be installed.
pub fn peer_program(package: &str) -> Result<PathBuf> {
    let pins = Pins::read()?;
    match pins.python.iter().find(|pin| pin.package == package) {
        Some(pin) => python::install(pin),
        None => bail!("{package} is not listed in {}", peers::FILE),
    }
}

/// Makes sure that rustfmt and clippy are there: a minimal toolchain comes without them.
///
/// # Errors
/// When they are missing and rustup cannot add them.
pub fn toolchain() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if capture(&mut cargo(&[verb, "--version"])).is_ok() {
            continue;
        }
        println!("installing the toolchain component {component}");
        if let Err(error) = run(Command::new("rustup").args(["component", "add", component])) {
            bail!(
                "`cargo {verb}` is missing and could not be added ({error:#}); install {component} for this toolchain"
            );
        }
    }
    println!("ok: rustfmt, clippy");
    Ok(())
}
