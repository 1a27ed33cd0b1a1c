//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::cluster::Image;
use crate::peers;

/// `shunt-init`, built if need be.
///
/// # Errors
/// It does not build.
pub fn shunt_init() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "shunt-init")
}

/// `shunt-agent`, built if need be.
///
/// # Errors
/// It does not build.
pub fn shunt_agent() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "shunt-agent")
}

/// `shunt-test-node`, the guard and the first process of a cluster.
///
/// # Errors
/// It does not build.
pub fn test_node() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "shunt-test-node")
}

/// `shunt-test-app`, the application in pods of a cluster.
///
/// # Errors
/// It does not build.
pub fn test_app() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "shunt-test-app")
}

/// Istio's own `istio-iptables`, the original of `shunt-init istio-iptables`.
///
/// # Errors
/// `cargo xtask setup` has not built it.
pub fn istio_iptables() -> Result<PathBuf> {
    peers::program("istio-iptables")
}

/// Envoy.
///
/// # Errors
/// `cargo xtask setup` has not installed it.
pub fn envoy() -> Result<PathBuf> {
    peers::program("envoy")
}

/// The container image with all programs of this project, and the application of the tests; the
/// folder of each is in its `PATH`. It runs `shunt-init`, as injectors expect it that name no
/// command; Linkerd's names one.
///
/// # Errors
/// One of them does not build.
pub fn shunt_image() -> Result<Image> {
    Image::scratch("shunt.test/shunt:1")
        .program("/usr/local/bin/shunt-init", &shunt_init()?)?
        .program("/usr/local/bin/shunt-agent", &shunt_agent()?)?
        .program("/usr/local/bin/shunt-test-app", &test_app()?)?
        .link(
            "/usr/lib/linkerd/linkerd2-proxy-init",
            "/usr/local/bin/shunt-init",
        )
        .map(|image| image.entrypoint(&["shunt-init"]))
}

/// The container image with Envoy, and the application of the tests.
///
/// # Errors
/// `cargo xtask setup` has not installed Envoy.
pub fn envoy_image() -> Result<Image> {
    Image::scratch("shunt.test/envoy:1")
        .program("/usr/local/bin/envoy", &envoy()?)?
        .program("/usr/local/bin/shunt-test-app", &test_app()?)
}

/// The container image with `nft`: a program of others that changes rules.
///
/// # Errors
/// It is not installed.
pub fn nft_image() -> Result<Image> {
    let program = ["/usr/sbin/nft", "/usr/bin/nft", "/sbin/nft"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .context("`nft` is not installed; on Debian it is in the package nftables")?;
    Image::scratch("shunt.test/nft:1").program("/usr/local/bin/nft", program)
}

fn once(built: &OnceLock<Result<PathBuf, String>>, program: &str) -> Result<PathBuf> {
    built
        .get_or_init(|| build(program).map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

/// Builds a package in the profile of the running executable, next to it: quick when nothing has
/// changed, and a test can never meet a program older than its source.
fn build(program: &str) -> Result<PathBuf> {
    // The programs of the harness are in its own package, every other is named as its package.
    let package = match program {
        "shunt-test-node" | "shunt-test-app" => env!("CARGO_PKG_NAME"),
        own => own,
    };
    let folder = profile_folder()?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => bail!("{} names no profile", folder.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            package,
            "--bin",
            program,
            "--profile",
            profile,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .with_context(|| format!("running cargo build --bin {program}"))?;
    if !output.status.success() {
        bail!(
            "cargo build --bin {program} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let program = folder.join(program);
    if !program.is_file() {
        bail!(
            "{} is not there though cargo built it; is CARGO_TARGET_DIR set for one of the two only?",
            program.display()
        );
    }
    Ok(program)
}

/// `target/<profile>`, from where the running executable is: in it, in `deps` or in `examples`.
fn profile_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("looking for the own executable")?;
    let folder = executable
        .parent()
        .with_context(|| format!("{} has no folder", executable.display()))?;
    let inner = folder
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    Ok(if inner {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    }
    .to_owned())
}
