//! Entering another network namespace, before anything else is done.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::error::Cause;

/// Moves the calling thread into the network namespace that this file stands for
/// (`/proc/1234/ns/net`, `/run/netns/name`). Files are still those of the mount namespace that the
/// thread is in: `/etc/resolv.conf` too.
///
/// # Errors
/// If there is no such file, it is none of a network namespace, or the process may not enter.
pub fn enter(path: &Path) -> Result<(), NetnsError> {
    let file = File::open(path).map_err(|source| NetnsError::Open {
        path: path.to_owned(),
        source,
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EPERM => NetnsError::Permission {
            path: path.to_owned(),
        },
        errno => NetnsError::Enter {
            path: path.to_owned(),
            errno,
        },
    })
}

/// A network namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file cannot be opened.
    #[error(
        "cannot open the network namespace {}: {source}; name a file like /proc/<pid>/ns/net or \
         /run/netns/<name> that exists in this mount namespace",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A capability is missing.
    #[error(
        "cannot enter the network namespace {}: CAP_SYS_ADMIN is missing, in this process's user \
         namespace and in the one that owns the network namespace; add it \
         (`securityContext.capabilities.add: [SYS_ADMIN]`), or run this inside the pod",
        path.display()
    )]
    Permission {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error(
        "cannot enter the network namespace {}: {errno}; name a file like /proc/<pid>/ns/net or \
         /run/netns/<name>",
        path.display()
    )]
    Enter {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
}

impl NetnsError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Cause::Permission
            }
            Self::Permission { .. } => Cause::Permission,
            Self::Open { .. } | Self::Enter { .. } => Cause::Missing,
        }
    }
}
