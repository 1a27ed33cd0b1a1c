//! Where a cluster keeps its files, and how the remains of a dead one are told from a living one.
//!
//! Folder and cgroups carry the process id and the start time of the cluster's guard in their
//! name. So a name is unique, says who may still need what it names, and comes into being in one
//! step with it: there is no moment at which another process could mistake it for remains.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::node::cgroup;

const PREFIX: &str = "shunt-cluster-";

/// The folder of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// Makes the folder of a cluster of this `kind` whose guard is the calling process.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub(super) fn create(kind: &str) -> Result<Self> {
        let pid = std::process::id();
        let started = start_time(pid).context("asking for the own start time (is /proc there?)")?;
        let home = Self::at(std::env::temp_dir().join(format!("{PREFIX}{kind}-{pid}-{started}")));
        // Keys are in it.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&home.folder)
            .with_context(|| format!("making {}", home.folder.display()))?;
        Ok(home)
    }

    /// A folder made by [`Home::create`].
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The homes of all clusters of a kind, dead ones included.
    ///
    /// # Errors
    /// The folder for temporary files cannot be read.
    pub fn all(kind: &str) -> Result<Vec<Self>> {
        let base = std::env::temp_dir();
        let prefix = format!("{PREFIX}{kind}-");
        let entries = fs::read_dir(&base).with_context(|| format!("reading {}", base.display()))?;
        let mut homes = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", base.display()))?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                homes.push(Self::at(entry.path()));
            }
        }
        homes.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(homes)
    }

    /// Removes what clusters of a kind left whose guards were killed. Their processes died with
    /// them.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clean(kind: &str) -> Result<()> {
        for home in Self::all(kind)? {
            if home.guard().is_none() {
                home.remove()?;
            }
        }
        Ok(())
    }

    /// The process that guards the cluster, if it is alive.
    pub fn guard(&self) -> Option<u32> {
        let mut words = self.name().rsplit('-');
        let started = words.next()?;
        let pid = words.next()?.parse().ok()?;
        (start_time(pid)? == started).then_some(pid)
    }

    /// Removes cgroups and files.
    pub(super) fn remove(&self) -> Result<()> {
        cgroup::remove(self.name())?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its cgroups are called.
    pub fn name(&self) -> &str {
        self.folder
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What `kubectl` needs to reach the cluster from outside, as the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// The socket of containerd.
    pub(super) fn containerd(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    /// Where a part of the cluster writes its log.
    pub fn log(&self, part: &str) -> PathBuf {
        self.file("var-log").join(format!("{part}.log"))
    }
}

/// The start time of a living process in clock ticks since boot, the 22nd field of
/// proc_pid_stat(5).
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    // Only the entry of a zombie is left: nobody has reaped it.
    (*fields.first()? != "Z").then(|| fields.get(19).map(|field| (*field).to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_alive_as_long_as_its_guard_and_then_can_be_cleaned() {
        let home = Home::create("unit").unwrap();
        assert_eq!(home.guard(), Some(std::process::id()));
        Home::clean("unit").unwrap();
        assert!(home.folder().is_dir());

        // The same process id at another time.
        let dead = Home::at(home.folder().with_file_name(format!("{}9", home.name())));
        fs::rename(home.folder(), dead.folder()).unwrap();
        assert_eq!(dead.guard(), None);
        Home::clean("unit").unwrap();
        assert_eq!(Home::all("unit").unwrap(), []);
    }
}
