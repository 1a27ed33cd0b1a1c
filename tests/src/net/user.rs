//! Who a socket belongs to, as the rules' owner match sees it.

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// A numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id, the only group.
    pub gid: u32,
}

impl User {
    /// The superuser.
    pub const ROOT: Self = Self::new(0);
    /// An ordinary application.
    pub const APP: Self = Self::new(1000);
    /// The sidecar.
    pub const PROXY: Self = Self::new(shunt_abi::identity::PROXY_UID);

    /// A user whose group has the same number.
    pub const fn new(id: u32) -> Self {
        Self { uid: id, gid: id }
    }

    /// Makes the calling thread create files and sockets as this user, for good.
    ///
    /// The owner match reads the file system ids that were in force when the socket was made
    /// (`nft_meta.c`, `f_cred->fsuid`). Unlike `setuid` these are per thread and leave the
    /// capabilities that have nothing to do with files.
    pub(super) fn assume(self) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setfsgid(gid);
        setfsuid(uid);
        // Both calls answer with the id that was in force before, never with an error.
        let in_force = (setfsuid(uid), setfsgid(gid));
        ensure!(
            in_force == (uid, gid),
            "taking on uid {uid} and gid {gid} (needs root)"
        );
        Ok(())
    }

    /// Runs a closure on the calling thread as this user; the thread is expected to end soon.
    pub(super) fn act<T>(self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.assume()?;
        work().with_context(|| format!("as uid {}", self.uid))
    }
}
