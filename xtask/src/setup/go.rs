//! Programs built from Go modules, once, into the user's cache.
//!
//! Nothing is taken from a module but what its own `go.mod` and `go.sum` in the tree fix, so the
//! same sources are built everywhere. The first build takes many minutes, so it says how far it is.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use shunt_tests::peers::{GoPin, cache};

use crate::workspace::shown;

/// How often a build that takes long says that it goes on.
const STILL_THERE: Duration = Duration::from_secs(30);

/// Makes sure that the programs of all `pins` are in the cache.
///
/// # Errors
/// There is no Go, or something does not build.
pub(super) fn install<'a>(pins: impl Iterator<Item = &'a GoPin>) -> Result<()> {
    let pins: Vec<_> = pins.collect();
    if !missing(&pins)?.is_empty() {
        let _held = lock()?;
        // Whoever held the lock before may have built them.
        build_all(&missing(&pins)?)?;
    }
    for pin in pins {
        let names: Vec<_> = pin.targets().into_iter().map(|(name, _)| name).collect();
        println!("ok: {} {}", names.join(", "), pin.release);
    }
    Ok(())
}

fn missing<'a>(pins: &[&'a GoPin]) -> Result<Vec<&'a GoPin>> {
    let mut missing = Vec::new();
    for pin in pins {
        // A folder gets its name when all in it is complete.
        if !pin.home()?.is_dir() {
            missing.push(*pin);
        }
    }
    Ok(missing)
}

/// One build at a time: two would each take twice as long.
fn lock() -> Result<File> {
    let folder = cache()?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join("go.lock");
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("another `cargo xtask` builds Go programs; waiting for it");
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

fn build_all(pins: &[&GoPin]) -> Result<()> {
    if pins.is_empty() {
        return Ok(());
    }
    if Command::new("go").arg("version").output().is_err() {
        bail!(
            "no `go` here, and {} is built from Go modules: install Go 1.21 or later (package \
             `golang` of your distribution or its backports); it fetches the toolchain that the \
             modules ask for itself",
            names(pins)
        );
    }
    let total: usize = pins.iter().map(|pin| pin.targets().len()).sum();
    println!(
        "building {}, once; 10 to 15 minutes on 2 cores",
        names(pins)
    );
    let begun = Instant::now();
    let mut done = 0;
    for pin in pins {
        let home = pin.home()?;
        let partial = home.with_added_extension("partial");
        // Left by a build that was interrupted; nobody else has it, since the lock is ours.
        remove(&partial)?;
        for (name, import) in pin.targets() {
            done += 1;
            println!(
                "[{done}/{total}] {name} {} ({}); {} s so far",
                pin.release,
                pin.why,
                begun.elapsed().as_secs()
            );
            build(pin, import, &partial.join(name), begun)?;
        }
        fs::rename(&partial, &home)
            .with_context(|| format!("moving {} into place", partial.display()))?;
    }
    println!("built in {} s", begun.elapsed().as_secs());
    Ok(())
}

fn build(pin: &GoPin, import: &str, program: &Path, begun: Instant) -> Result<()> {
    let mut command = Command::new("go");
    command
        .args(["build", "-trimpath", "-mod=readonly", "-ldflags"])
        .arg(format!("-s -w {}", pin.link.join(" ")).trim_end())
        .arg("-o")
        .arg(program)
        .arg(import)
        .current_dir(pin.sources())
        // Static programs, of this module alone, whatever the caller's own projects need.
        .envs([("CGO_ENABLED", "0"), ("GOWORK", "off")]);
    let line = shown(&command);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{line}`"))?;
    let mut said = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for go")? {
            break status;
        }
        if said.elapsed() >= STILL_THERE {
            said = Instant::now();
            println!("    still building; {} s so far", begun.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        bail!(
            "`{line}` failed in {} ({status}); is there a network, a proxy setting (GOPROXY)?",
            pin.sources().display()
        );
    }
    Ok(())
}

fn names(pins: &[&GoPin]) -> String {
    let names: Vec<_> = pins
        .iter()
        .flat_map(|pin| pin.targets().into_iter().map(|(name, _)| name))
        .collect();
    names.join(", ")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
