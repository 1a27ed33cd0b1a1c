//! One network namespace, held by a file descriptor.
//!
//! The namespace has no name in the file system and ends with its last descriptor, socket and
//! process, so even a killed test leaves nothing. [`Namespace::pin`] is for people who want to
//! look around afterwards.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;

use super::netlink::Rtnl;

/// Where `ip netns` looks for names.
const NAMED: &str = "/run/netns";

/// A network namespace; clones are the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl Namespace {
    /// Makes a namespace with `lo` up and duplicate address detection off (it would keep every
    /// new IPv6 address unusable for a second or two).
    ///
    /// # Errors
    /// Not root, or a kernel without network namespaces.
    pub fn new(label: &str) -> Result<Self> {
        raise_fd_limit()?;
        let fd = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<OwnedFd> {
                    unshare(CloneFlags::CLONE_NEWNET).with_context(|| {
                        format!(
                            "making the network namespace `{label}`: these tests need root \
                             (CAP_SYS_ADMIN and CAP_NET_ADMIN) and a kernel with CONFIG_NET_NS"
                        )
                    })?;
                    open_current()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let namespace = Self {
            fd: Arc::new(fd),
            label: label.into(),
        };
        namespace.set_up()?;
        Ok(namespace)
    }

    /// Does for a namespace that somebody else made what [`Namespace::new`] does for its own.
    ///
    /// # Errors
    /// Not root.
    pub fn set_up(&self) -> Result<()> {
        self.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        self.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        self.rtnl()?.up("lo")
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn current(label: &str) -> Result<Self> {
        raise_fd_limit()?;
        Ok(Self {
            fd: Arc::new(open_current()?),
            label: label.into(),
        })
    }

    /// The network namespace of another process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(pid: u32, label: &str) -> Result<Self> {
        raise_fd_limit()?;
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).with_context(|| format!("opening {path} of `{label}`"))?;
        Ok(Self {
            fd: Arc::new(file.into()),
            label: label.into(),
        })
    }

    /// Makes a new namespace usable for a node that no other node can reach: `lo` is up and has
    /// the node's address, and packets of its pods are forwarded.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn set_up_alone(&self, address: IpAddr) -> Result<()> {
        let mut rtnl = self.rtnl()?;
        rtnl.up("lo")?;
        rtnl.add_address("lo", address, 32)?;
        self.sysctl("net/ipv4/ip_forward", "1")
    }

    /// Runs a closure on a thread of its own inside the namespace, and waits for it.
    ///
    /// Sockets opened in it stay in the namespace and may be taken out. A panic of the closure
    /// goes on in the caller.
    ///
    /// # Errors
    /// What the closure returns, or that the namespace could not be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// Not root, and not in it already.
    pub fn enter(&self) -> Result<()> {
        let identity = |fd: BorrowedFd<'_>| -> Result<(u64, u64)> {
            let stat = fstat(fd).context("looking at a namespace")?;
            Ok((stat.st_dev, stat.st_ino))
        };
        if identity(self.as_fd())? == identity(open_current()?.as_fd())? {
            return Ok(());
        }
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering the network namespace `{}`", self.label))
    }

    /// Sets `/proc/sys/<key>` as seen from inside.
    ///
    /// # Errors
    /// The kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| {
            fs::write(Path::new("/proc/sys").join(key), value)
                .with_context(|| format!("setting sysctl {key}={value} in `{}`", self.label))
        })
    }

    /// Gives the namespace a name that `ip netns exec NAME` and `nsenter --net=PATH` find. It then
    /// outlives this process until [`Namespace::unpin`].
    ///
    /// # Errors
    /// The name is taken, or the mount is refused.
    pub fn pin(&self, name: &str) -> Result<PathBuf> {
        fs::create_dir_all(NAMED).with_context(|| format!("making {NAMED}"))?;
        let path = Path::new(NAMED).join(name);
        File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| {
                format!(
                    "naming the namespace `{}` as {}",
                    self.label,
                    path.display()
                )
            })?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        mount(
            Some(source.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| {
            format!(
                "binding the namespace `{}` to {}",
                self.label,
                path.display()
            )
        })?;
        Ok(path)
    }

    /// Takes a name given by [`Namespace::pin`] away again; the namespace ends if nothing else
    /// holds it.
    ///
    /// # Errors
    /// There is no such name.
    pub fn unpin(name: &str) -> Result<()> {
        let path = Path::new(NAMED).join(name);
        match umount2(&path, MntFlags::MNT_DETACH) {
            // Named, but the mount never came to be: the file alone is left.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("unmounting {}", path.display()));
            }
        }
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    /// The names given by [`Namespace::pin`] that start with `prefix`, sorted.
    ///
    /// # Errors
    /// The folder of names cannot be read.
    pub fn pinned(prefix: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(NAMED) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {NAMED}")),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// What errors call this namespace.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A netlink socket that belongs to the namespace.
    pub(super) fn rtnl(&self) -> Result<Rtnl> {
        self.run(|| Rtnl::open(&self.label))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tests hold hundreds of connections, of which both ends are often in this process; the usual
/// soft limit of 1024 is too low.
fn raise_fd_limit() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading RLIMIT_NOFILE")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising RLIMIT_NOFILE")?;
    }
    Ok(())
}

fn open_current() -> Result<OwnedFd> {
    let file =
        File::open("/proc/thread-self/ns/net").context("opening the own network namespace")?;
    Ok(file.into())
}
