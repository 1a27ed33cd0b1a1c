//! Kernel parameters: the one that Linkerd's init sets, and whether there is IPv6.

use std::fs;
use std::io;
use std::num::NonZeroU32;

use crate::error::Cause;

/// Linkerd's.
pub(crate) const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

/// How many seconds conntrack kept a connection that the other side has closed, before that was
/// set.
#[derive(Debug)]
pub struct CloseWaitBefore(String);

/// Sets how many seconds conntrack keeps a connection that the other side has closed, in the
/// network namespace of the calling thread.
///
/// # Errors
/// If the kernel has no such parameter, or this process may not write it.
pub fn set_close_wait_timeout(seconds: NonZeroU32) -> Result<CloseWaitBefore, SysctlError> {
    let failed = SysctlError::with(seconds.to_string());
    let before = fs::read_to_string(CLOSE_WAIT).map_err(&failed)?;
    fs::write(CLOSE_WAIT, format!("{seconds}\n")).map_err(&failed)?;
    Ok(CloseWaitBefore(before.trim().to_owned()))
}

impl CloseWaitBefore {
    /// Puts the number back.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn restore(self) -> Result<(), SysctlError> {
        let written = fs::write(CLOSE_WAIT, format!("{}\n", self.0));
        written.map_err(SysctlError::with(self.0))
    }
}

/// Whether IPv6 is disabled on an interface of the network namespace of the calling thread.
pub(crate) fn ipv6_disabled(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}

/// The parameter cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set net.netfilter.nf_conntrack_tcp_timeout_close_wait to {seconds}: {source}{}", self.hint())]
pub struct SysctlError {
    seconds: String,
    source: io::Error,
}

impl SysctlError {
    fn with(seconds: String) -> impl Fn(io::Error) -> Self {
        move |source| Self {
            seconds: seconds.clone(),
            source,
        }
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self.source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Cause::Permission
            }
            io::ErrorKind::NotFound => Cause::KernelLacks,
            _ => Cause::KernelRefused,
        }
    }

    fn hint(&self) -> &'static str {
        match self.cause() {
            Cause::Permission => {
                "; /proc/sys is read only in containers that are not privileged: run this with \
                 `securityContext.privileged: true`, set the sysctl on the node, or leave the \
                 flag out"
            }
            Cause::KernelLacks => {
                "; the kernel does not track connections here: `modprobe nf_conntrack` on the \
                 node, or leave the flag out"
            }
            _ => "; leave the flag out, or give another number",
        }
    }
}
