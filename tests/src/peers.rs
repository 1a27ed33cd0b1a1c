//! The programs of others that the tests run: `tests/peers/peers.toml` says which and in which
//! version, `cargo xtask setup` puts them into the user's cache, the tests find them there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Path of the list, from the root of the tree.
pub const FILE: &str = "tests/peers/peers.toml";

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
pub struct DebianPin {
    /// Its name.
    pub package: String,
    /// The files it is installed for, by name or by path; all found means installed.
    pub commands: Vec<String>,
    /// What the version in Debian 12 begins with, epoch left out.
    pub release: String,
    /// For what.
    pub needed_by: Purpose,
    /// What for, in words.
    pub why: String,
}

/// A package of the Python index that carries a program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonPin {
    /// Its name.
    pub package: String,
    /// Its version.
    pub release: String,
    /// Digests of the accepted files, in hex.
    pub sha256: Vec<String>,
    /// Path of the program inside the package.
    pub program: String,
    /// For what.
    pub needed_by: Purpose,
    /// What for, in words.
    pub why: String,
}

/// Programs built from Go modules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoPin {
    /// The folder beside the list that holds the `go.mod` and `go.sum` which fix every version.
    pub module: String,
    /// The version of the module that matters, as in that `go.mod`.
    pub release: String,
    /// Import path of each program; its last word is the program's name. None: the folder itself
    /// is the program.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Options of the linker.
    #[serde(default)]
    pub link: Vec<String>,
    /// For what.
    pub needed_by: Purpose,
    /// What for, in words.
    pub why: String,
}

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// From Debian.
    pub debian: Vec<DebianPin>,
    /// From the Python index.
    pub python: Vec<PythonPin>,
    /// From Go modules.
    pub go: Vec<GoPin>,
}

impl Pins {
    /// Reads the list of this tree.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn read() -> Result<Self> {
        let path = folder().join("peers.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {FILE}"))
    }
}

impl PythonPin {
    /// Where its files belong.
    ///
    /// # Errors
    /// As for [`cache`].
    pub fn home(&self) -> Result<PathBuf> {
        Ok(cache()?.join(format!("{}-{}", self.package, self.release)))
    }
}

impl GoPin {
    /// The folder with its `go.mod`.
    pub fn sources(&self) -> PathBuf {
        folder().join(&self.module)
    }

    /// Each program's name and import path.
    pub fn targets(&self) -> Vec<(&str, &str)> {
        if self.programs.is_empty() {
            return vec![(&self.module, ".")];
        }
        let name = |path: &'_ str| path.rfind('/').map_or(0, |at| at + 1);
        self.programs
            .iter()
            .map(|path| (&path[name(path)..], path.as_str()))
            .collect()
    }

    /// Where its programs belong. The name carries a digest of everything they are made of, so
    /// that a change of any version or source is a new folder.
    ///
    /// # Errors
    /// Its sources cannot be read.
    pub fn home(&self) -> Result<PathBuf> {
        let mut digest = Fnv::new();
        for word in [&self.programs, &self.link].into_iter().flatten() {
            digest.add(word.as_bytes());
        }
        let sources = self.sources();
        let mut files: Vec<_> = fs::read_dir(&sources)
            .and_then(Iterator::collect::<Result<_, _>>)
            .map(|entries: Vec<fs::DirEntry>| entries.iter().map(fs::DirEntry::path).collect())
            .with_context(|| format!("reading {}", sources.display()))?;
        files.sort();
        for file in files {
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            digest.add(&bytes);
        }
        let name = format!("{}-{}-{:016x}", self.module, self.release, digest.0);
        Ok(cache()?.join(name))
    }
}

/// A program that `cargo xtask setup` installs from the Python index or builds from Go modules.
///
/// # Errors
/// It is not listed, or not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let pins = Pins::read()?;
    let go = pins.go.iter().find_map(|pin| {
        let mut names = pin.targets().into_iter().map(|(name, _)| name);
        names
            .any(|own| own == name)
            .then(|| pin.home().map(|home| home.join(name)))
    });
    let python = pins.python.iter().find_map(|pin| {
        let named = Path::new(&pin.program)
            .file_name()
            .is_some_and(|own| own == name);
        named.then(|| pin.home().map(|home| home.join(&pin.program)))
    });
    let Some(path) = go.or(python) else {
        bail!("{name} is not listed in {FILE}");
    };
    let path = path?;
    if !path.is_file() {
        bail!(
            "{name} is not installed ({} is missing): run `cargo xtask setup`",
            path.display()
        );
    }
    Ok(path)
}

/// Where peers live: shared by all checkouts of a user, and not lost by `cargo clean`.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context(
            "neither XDG_CACHE_HOME nor HOME is set: set one, the peers are kept below it",
        )?)
        .join(".cache"),
    };
    Ok(base.join("shunt/peers"))
}

/// A Debian program's full path, also where the path of a plain user lacks it.
pub fn find(command: &str) -> Option<PathBuf> {
    const FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}

/// FNV-1a of 64 bits: tells versions apart, guards against nothing.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one piece, its length included, so that two pieces are not one.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&bytes.len().to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
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

    #[test]
    fn the_release_of_a_go_program_is_the_one_in_its_go_mod() {
        for pin in Pins::read().unwrap().go {
            let text = fs::read_to_string(pin.sources().join("go.mod")).unwrap();
            let required = text.lines().any(|line| {
                let line = line.trim_end_matches(" // indirect");
                line.ends_with(&format!(" v{}", pin.release)) && !line.contains("=>")
            });
            assert!(required, "{}: no v{} there", pin.module, pin.release);
        }
    }

    #[test]
    fn a_changed_option_is_another_folder() {
        let mut pin = Pins::read().unwrap().go.remove(0);
        let before = pin.home().unwrap();
        pin.link.push("-X a.b=c".into());
        assert_ne!(before, pin.home().unwrap());
    }

    #[test]
    fn what_is_not_listed_is_no_peer() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
    }

    #[test]
    fn a_program_outside_every_folder_is_not_found() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }
}
