//! The thread a lab lives on, with a view of the file system of its own: the programs under test
//! read `/etc/resolv.conf` and lock files in `/run`, and two labs must not share either.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What stands in for `/etc/resolv.conf`.
const RESOLV_CONF: &str = "/run/resolv.conf";

/// Proof that the calling thread has its own view of the file system.
#[derive(Debug)]
pub struct Bench {
    /// Not to be made elsewhere.
    _private: (),
}

impl Bench {
    /// Runs `work` on a thread of its own.
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
        let bench = Self { _private: () };
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
