//! What `--keep` leaves standing, and how it is removed.
//!
//! Without `--keep` nothing has a name or a file: namespaces are held by descriptors, and the
//! kernel kills the processes when this one ends. What is kept is written down under one folder
//! before it is made, so that `--clean` finds all of it, also after a run that was interrupted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_tests::DEADLINE;
use shunt_tests::expect::eventually::eventually;
use shunt_tests::net::Namespace;

const FOLDER: &str = "/run/shunt-demo";
const PREFIX: &str = "shunt-demo-";
const PID: &str = "pid";

/// Refuses to run beside an earlier run that was kept.
pub(super) fn refuse_if_any() -> Result<()> {
    ensure!(
        !Path::new(FOLDER).exists() && Namespace::pinned(PREFIX)?.is_empty(),
        "an earlier demonstration was kept; remove it with: cargo xtask demo --clean"
    );
    Ok(())
}

/// Gives a namespace a name, by which it outlives this process.
pub(super) fn remember_namespace(namespace: &Namespace, name: &str) -> Result<()> {
    namespace.pin(&format!("{PREFIX}{name}")).map(drop)
}

/// Where a kept process writes.
pub(super) fn output(name: &str) -> Result<PathBuf> {
    fs::create_dir_all(FOLDER).with_context(|| format!("making {FOLDER}"))?;
    Ok(Path::new(FOLDER).join(name).with_extension("log"))
}

/// Writes down a process that outlives this one. Its start time tells it from a later process
/// with the same number.
pub(super) fn remember_process(name: &str, pid: u32) -> Result<()> {
    let path = Path::new(FOLDER).join(name).with_extension(PID);
    let started = started(pid).with_context(|| format!("{name} ended at once"))?;
    fs::write(&path, format!("{pid} {started}"))
        .with_context(|| format!("writing {}", path.display()))
}

/// Removes everything that was kept. Nothing there is no error.
pub(super) fn clean() -> Result<()> {
    for pid in kept_processes()? {
        // Fails only if it has just ended.
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).ok();
        eventually(&format!("process {pid} ends"), || has_ended(pid))?;
    }
    for name in Namespace::pinned(PREFIX)? {
        Namespace::unpin(&name)?;
    }
    if Path::new(FOLDER).exists() {
        fs::remove_dir_all(FOLDER).with_context(|| format!("removing {FOLDER}"))?;
    }
    super::say("gone", "no namespace, rule, process or file is left");
    Ok(())
}

/// Checks that nothing is left of a run that was not to be kept.
pub(super) fn expect_none(pids: &[u32]) -> Result<()> {
    for pid in pids {
        ensure!(
            has_ended(*pid),
            "process {pid} is still there after {DEADLINE:?}"
        );
    }
    refuse_if_any()
}

/// Whether there is no such process, or only its shell that nobody has reaped.
pub(super) fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z")
}

/// How to look around in what was kept.
pub(super) fn how_to_look_around() -> String {
    let (client, v1) = (format!("{PREFIX}client"), format!("{PREFIX}reviews-v1"));
    let service = super::SERVICE;
    format!(
        "\
All of it is left standing. To look around:
  ip netns exec {client} curl -s http://{service}/           a captured request
  ip netns exec {client} curl -s -H 'x-canary: always' http://{service}/
  ip netns exec {client} nft list table inet shunt                     the rules and their counters
  ip netns exec {client} curl -s http://127.0.0.1:15000/stats/prometheus
  ip netns exec {client} curl -s http://127.0.0.1:15000/config_dump
  ip netns exec {v1} curl -s http://127.0.0.1:15000/stats/prometheus
  tail -f {FOLDER}/*.log                                       access logs
To remove it:
  cargo xtask demo --clean"
    )
}

/// Processes written down that are still the ones that were.
fn kept_processes() -> Result<Vec<u32>> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {FOLDER}")),
    };
    let mut pids = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != PID) {
            continue;
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let Some((pid, wrote)) = text.split_once(' ') else {
            continue;
        };
        let pid = pid
            .parse()
            .with_context(|| format!("`{pid}` in {} is no process id", path.display()))?;
        if started(pid).is_some_and(|started| started == wrote) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// When a process started, in clock ticks since boot.
fn started(pid: u32) -> Option<String> {
    stat(pid).map(|(_, started)| started)
}

/// State and start time, the third and 22nd field of proc_pid_stat(5).
fn stat(pid: u32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    Some(((*fields.first()?).to_owned(), (*fields.get(19)?).to_owned()))
}
