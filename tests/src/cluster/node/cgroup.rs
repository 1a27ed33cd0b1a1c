//! The cgroup under which all pods of a cluster are, in every hierarchy of either version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::DEADLINE;
use crate::expect::eventually::poll;

/// What version 2 must hand on for the kubelet.
const CONTROLLERS: &str = "+cpu +cpuset +io +memory +pids";

/// Makes the cgroup `name`.
pub(in crate::cluster) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let cgroup = hierarchy.path.join(name);
        fs::create_dir_all(&cgroup).with_context(|| {
            format!(
                "making {} (is something mounted over it?)",
                cgroup.display()
            )
        })?;
        match hierarchy.version {
            Version::One => inherit_cpuset(&hierarchy.path, &cgroup)?,
            Version::Two if hierarchy.path == Path::new("/sys/fs/cgroup") => {
                for parent in [&hierarchy.path, &cgroup] {
                    let file = parent.join("cgroup.subtree_control");
                    fs::write(&file, CONTROLLERS)
                        .with_context(|| format!("writing {}", file.display()))?;
                }
            }
            // Beside version 1 it has no controllers.
            Version::Two => {}
        }
    }
    Ok(())
}

/// Removes the cgroup `name` with all below it; its processes must be dead or dying.
pub(in crate::cluster) fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let cgroup = hierarchy.path.join(name);
        let mut outcome = Ok(());
        // Busy for a moment after the last process has died.
        poll(DEADLINE, || {
            outcome = remove_tree(&cgroup);
            outcome.is_ok().then_some(())
        });
        outcome.with_context(|| format!("removing {}", cgroup.display()))?;
    }
    Ok(())
}

/// Where a cgroup of this name exists.
///
/// # Errors
/// The mounts cannot be read.
pub(in crate::cluster) fn existing(name: &str) -> Result<Vec<PathBuf>> {
    let all = hierarchies()?.into_iter();
    Ok(all
        .map(|hierarchy| hierarchy.path.join(name))
        .filter(|cgroup| cgroup.exists())
        .collect())
}

enum Version {
    One,
    Two,
}

struct Hierarchy {
    path: PathBuf,
    version: Version,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let hierarchy = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?.into();
        let version = match words.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some(Hierarchy { path, version })
    };
    Ok(mounts.lines().filter_map(hierarchy).collect())
}

/// A new cpuset of version 1 is empty, and no process can be put into it.
fn inherit_cpuset(parent: &Path, cgroup: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let from = parent.join(file);
        if from.exists() {
            let value = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
            let to = cgroup.join(file);
            fs::write(&to, value).with_context(|| format!("writing {}", to.display()))?;
        }
    }
    Ok(())
}

/// Folders only, from the leaves up: a cgroup's files cannot be removed and need not be.
fn remove_tree(cgroup: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
