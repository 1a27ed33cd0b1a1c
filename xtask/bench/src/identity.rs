//! Who sends: behind capture the load must be an application, not the proxy.

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, setgid, setuid};

/// Gives up root for this uid and gid, if one is asked for.
///
/// # Errors
/// Without the privilege to.
pub fn take(id: Option<u32>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    setgid(Gid::from_raw(id)).with_context(|| format!("taking gid {id}"))?;
    setuid(Uid::from_raw(id)).with_context(|| format!("taking uid {id}"))
}
