//! The thread a lab lives on, apart from the rest of the process.
//!
//! It has a view of the file system of its own: the programs under test read `/etc/resolv.conf` and
//! lock files in `/run`, and two labs must not share either. And it has descriptors of its own:
//! what is closed must be gone. A program that another thread is starting would hold a copy for a
//! moment, and a socket that is bound as long as that takes packets which are for another.

use std::cell::OnceCell;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::cgroup::Cgroups;
use super::{Owner, socket};

/// What stands in for `/etc/resolv.conf`.
const RESOLV_CONF: &str = "/run/resolv.conf";

/// Proof that the calling thread has its own view of the file system.
#[derive(Debug)]
pub struct Bench {
    cgroups: OnceCell<Cgroups>,
}

impl Bench {
    /// Runs `work` on a thread of its own, which has none of the process's open files but the
    /// standard ones.
    ///
    /// # Errors
    /// Not root, or what `work` returns.
    pub fn run<T: Send>(work: impl FnOnce(&Self) -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    let bench = Self::new().context("setting a lab's thread apart")?;
                    work(&bench)
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn new() -> Result<Self> {
        own_descriptors()?;
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace (needs root)")?;
        let mount = |source: &str, target: &Path, kind: Option<&str>, flags| {
            mount(Some(source), target, kind, flags, None::<&str>)
                .with_context(|| format!("mounting {}", target.display()))
        };
        mount(
            "none",
            Path::new("/"),
            None,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        )?;
        mount("none", Path::new("/run"), Some("tmpfs"), MsFlags::empty())?;
        let bench = Self {
            cgroups: OnceCell::new(),
        };
        bench.set_nameservers(&[])?;
        let file = fs::canonicalize("/etc/resolv.conf").context("looking for /etc/resolv.conf")?;
        mount(RESOLV_CONF, &file, None, MsFlags::MS_BIND)?;
        Ok(bench)
    }

    /// Sets the servers in `/etc/resolv.conf`, as this thread and the programs it starts see it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_nameservers(&self, servers: &[IpAddr]) -> Result<()> {
        let text: String = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        fs::write(RESOLV_CONF, text).context("writing the lab's /etc/resolv.conf")
    }

    /// The lab's cgroups, made when they are first asked for.
    pub(super) fn cgroups(&self) -> Result<&Cgroups> {
        if let Some(cgroups) = self.cgroups.get() {
            return Ok(cgroups);
        }
        let cgroups = Cgroups::new().context("making cgroups")?;
        Ok(self.cgroups.get_or_init(|| cgroups))
    }

    /// Runs `work` so that the sockets it makes belong to `owner`, marks aside.
    pub(super) fn as_owner<T>(&self, owner: Owner, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match owner.cgroup {
            None => socket::as_owner(owner, work),
            Some(cgroup) => self
                .cgroups()?
                .within(cgroup, || socket::as_owner(owner, work))?,
        }
    }

    /// Runs a program to its end in the namespaces of this thread, with a text as standard input.
    /// Returns what it printed.
    ///
    /// # Errors
    /// There is no such program, or it fails; the error holds what it said.
    pub fn program(&self, command: &mut Command, input: &str) -> Result<String> {
        let name = format!("{command:?}");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        if let Some(stdin) = child.stdin.take() {
            // A program that ends without reading is judged by its status.
            let _ended = std::io::Write::write_all(&mut { stdin }, input.as_bytes());
        }
        let output = child
            .wait_with_output()
            .with_context(|| format!("waiting for {name}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!(
                "{name}: {}\n{}{}\ninput:\n{input}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            );
        }
        Ok(text(&output.stdout))
    }
}

/// Parts the calling thread's descriptors from those of the process, and keeps the standard ones.
fn own_descriptors() -> Result<()> {
    let unshare = libc::c_int::try_from(libc::CLOSE_RANGE_UNSHARE)?;
    // SAFETY: no memory is passed. What is closed are copies, in a table that no other thread has;
    // this thread has just started and holds none of them.
    let outcome = unsafe { libc::close_range(3, libc::c_uint::MAX, unshare) };
    Errno::result(outcome)
        .map(drop)
        .context("parting from the descriptors of the process (needs Linux 5.9)")
}
