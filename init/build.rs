//! Gives a program the commit it was built from, and a static `shunt-init` the addresses it runs at.
//! The build script of `shunt-agent` as well.

use std::process::Command;

fn main() {
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |hash| hash.trim().to_owned());
    println!("cargo:rustc-env=SHUNT_COMMIT={commit}");
    // A commit changes no file of this crate, but always the log of HEAD.
    if let Some(log) = Command::new("git")
        .args(["rev-parse", "--git-path", "logs/HEAD"])
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
    {
        println!("cargo:rerun-if-changed={}", log.trim());
    }
    if std::env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "shunt-init") {
        fixed_addresses();
    }
}

/// A static program that may lie anywhere puts thousands of its own addresses right whenever it
/// starts, which is a twentieth of the CPU time of a run. This one reads nothing from the network, and
/// lives for milliseconds.
fn fixed_addresses() {
    let of = |name| std::env::var(name).unwrap_or_default();
    let features = of("CARGO_CFG_TARGET_FEATURE");
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    // With musl, rustc itself chooses the start files, for one of the two.
    if is_static && of("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        println!("cargo:rustc-link-arg-bins=-static");
    }
}
