//! A network namespace for one contestant. It has no name: it ends with the last process and the
//! last handle in it.

use std::fs::File;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

use crate::workspace::capture;

/// A network namespace with `lo` up.
pub(super) struct Namespace(File);

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Without the privilege to.
    pub(super) fn new() -> Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            capture(Command::new("ip").args(["link", "set", "lo", "up"]))?;
            let path = "/proc/thread-self/ns/net";
            File::open(path).with_context(|| format!("opening {path}"))
        });
        joined(made.join()).map(Self)
    }

    /// Makes one that looks like a pod's: an address of its own and a default route, so that a
    /// packet to any service address leaves the application and meets the rules.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn pod() -> Result<Self> {
        let namespace = Self::new()?;
        namespace.run(|| {
            for line in [
                "link add name eth0 type veth peer name eth1",
                "address add 10.244.0.2/24 dev eth0",
                "link set eth0 up",
                "link set eth1 up",
                "route add default via 10.244.0.1",
            ] {
                capture(Command::new("ip").args(line.split(' ')))?;
            }
            Ok(())
        })?;
        Ok(namespace)
    }

    /// Does `work` on a thread inside the namespace.
    ///
    /// # Errors
    /// What `work` gives, or that the namespace cannot be entered.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering a namespace")?;
                work()
            });
            joined(thread.join())
        })
    }

    /// The same, with the thread and what it starts bound to one core.
    ///
    /// # Errors
    /// As [`Self::run`], or when the core cannot be had.
    pub(super) fn run_on<T: Send>(
        &self,
        core: usize,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        self.run(|| {
            let mut set = CpuSet::new();
            set.set(core).context("naming a core")?;
            sched_setaffinity(Pid::from_raw(0), &set)
                .with_context(|| format!("binding a thread to core {core}"))?;
            work()
        })
    }
}

fn joined<T>(outcome: std::thread::Result<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|_panic| bail!("a thread of the bench panicked"))
}
