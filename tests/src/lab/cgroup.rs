//! Cgroups (version 2) of a lab, in which the sockets of flows are made.
//!
//! ```text
//! outer ─┬─ middle ── inner
//!        └─ beside
//! ```
//!
//! They are threaded, so that the lab's thread can be in one while the rest of the process stays
//! where it is; and below the process's own cgroup, because a thread can go nowhere else.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::gettid;
use shunt_redirect::capture::CgroupPath;

const PREFIX: &str = "shunt-lab-";

/// Where `nft` looks for it.
const ROOT: &str = "/sys/fs/cgroup";

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cgroup {
    /// Holds all others.
    Outer,
    /// Within it.
    Middle,
    /// Within that.
    Inner,
    /// Beside the one in the middle.
    Beside,
}

impl Cgroup {
    /// All of them, each after the one that holds it.
    pub const ALL: [Self; 4] = [Self::Outer, Self::Middle, Self::Inner, Self::Beside];

    /// That of a policy, if it is one of a lab.
    pub fn of(path: &CgroupPath) -> Option<Self> {
        let all = Self::ALL.into_iter();
        let mut same = all.filter(|cgroup| path.as_str().ends_with(cgroup.steps()));
        same.next()
    }

    /// From the lab's own folder.
    fn steps(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Middle => "outer/middle",
            Self::Inner => "outer/middle/inner",
            Self::Beside => "outer/beside",
        }
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.steps())
    }
}

/// The cgroups of one thread; gone when dropped.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The process's own cgroup, from the root of the tree.
    own: String,
    /// The lab's, from there.
    home: String,
}

impl Cgroups {
    /// Makes them, and removes what labs of processes that were killed have left. The calling
    /// thread has a view of the file system of its own, in which the tree is then at [`ROOT`].
    pub(super) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let none = None::<&str>;
        mount(none, ROOT, Some("cgroup2"), MsFlags::empty(), none)
            .with_context(|| format!("mounting the tree of cgroups at {ROOT}"))?;
        let own = own()?;
        remove_remains(&Path::new(ROOT).join(&own));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        let home = Path::new(&own).join(name).display().to_string();
        let cgroups = Self { own, home };
        cgroups.make(&Path::new(ROOT).join(&cgroups.home))?;
        for cgroup in Cgroup::ALL {
            cgroups.make(&cgroups.folder(cgroup))?;
        }
        Ok(cgroups)
    }

    fn make(&self, folder: &Path) -> Result<()> {
        let kind = folder.join("cgroup.type");
        fs::create_dir(folder)
            .and_then(|()| fs::write(kind, "threaded"))
            .with_context(|| format!("making {} (needs root)", folder.display()))
    }

    fn folder(&self, cgroup: Cgroup) -> PathBuf {
        Path::new(ROOT).join(&self.home).join(cgroup.steps())
    }

    /// Its path from the root of the tree.
    pub(super) fn path(&self, cgroup: Cgroup) -> Result<CgroupPath> {
        let path = format!("{}/{}", self.home, cgroup.steps());
        CgroupPath::new(&path).with_context(|| format!("{path} is no path"))
    }

    /// Runs `work` with the calling thread in a cgroup.
    pub(super) fn within<T>(&self, cgroup: Cgroup, work: impl FnOnce() -> T) -> Result<T> {
        enter(&self.folder(cgroup))?;
        let outcome = work();
        enter(&Path::new(ROOT).join(&self.own))?;
        Ok(outcome)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = remove(&Path::new(ROOT).join(&self.home)) {
            eprintln!("removing the cgroups of a lab: {error}");
        }
    }
}

/// Moves the calling thread.
fn enter(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.threads");
    fs::write(&file, gettid().to_string()).with_context(|| format!("writing {}", file.display()))
}

fn remove_remains(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let is_dead = number.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if is_dead {
            // Somebody else may be removing it.
            let _removed = remove(&entry.path());
        }
    }
}

/// Folders only, from the leaves up: a cgroup's files need not be removed.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// The cgroup of this process, without the first slash.
fn own() -> Result<String> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(str::to_owned)
        .context("this process is in no cgroup2")
}
