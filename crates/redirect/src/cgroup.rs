//! Cgroups (version 2) by path and by number: the kernel compares numbers, people know paths.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::capture::CgroupPath;
use crate::facts::Missing;
use crate::ruleset::Cgroup;

/// The cgroup of this path.
pub(crate) fn find(path: &CgroupPath) -> Result<Cgroup, Missing> {
    let root = root().ok_or_else(|| Missing::NoCgroups {
        path: path.to_string(),
    })?;
    let folder = root.join(path.as_str());
    let missing = |reason: String| Missing::Cgroup {
        path: path.to_string(),
        folder: folder.display().to_string(),
        reason,
    };
    let metadata = fs::metadata(&folder).map_err(|error| missing(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(missing("it is not a folder".to_owned()));
    }
    Ok(Cgroup {
        path: path.clone(),
        id: metadata.ino(),
    })
}

/// The path of the cgroup with this number, so many steps below the root.
pub(crate) fn path_of(id: u64, level: u32) -> Option<CgroupPath> {
    let root = root()?;
    let found = search(&root, id, level)?;
    CgroupPath::new(found.strip_prefix(&root).ok()?.to_str()?)
}

fn search(folder: &Path, id: u64, level: u32) -> Option<PathBuf> {
    let below = fs::read_dir(folder).ok()?;
    for entry in below.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !metadata.is_dir() {
            continue;
        }
        if level == 1 {
            if metadata.ino() == id {
                return Some(entry.path());
            }
        } else if level > 1
            && let Some(found) = search(&entry.path(), id, level - 1)
        {
            return Some(found);
        }
    }
    None
}

/// Where the tree is mounted, as the calling thread sees it. A mount may be covered by another.
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    let mut roots = mounts.lines().filter_map(mount_point);
    roots.find(|root| root.join("cgroup.controllers").is_file())
}

/// The mount point in a line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)), if a cgroup2 tree
/// is mounted there.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    mount.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::mount_point;
    use std::path::PathBuf;

    #[test]
    fn the_tree_is_found_where_it_is_mounted() {
        let line = "35 24 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw";
        assert_eq!(
            mount_point(line),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let other = "36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point(other), None);
    }
}
