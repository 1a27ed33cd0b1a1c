//! Clusters come and go.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_tests::cluster::{Cluster, FOR_TESTS, Home};
use shunt_tests::expect::eventually::eventually;

use crate::cluster;

#[test]
fn a_cluster_leaves_nothing_when_it_is_stopped_or_its_guard_is_killed() -> Result<()> {
    // Not while the shared one starts: two at once are slow on a small machine.
    cluster()?;
    let stopped = Cluster::start()?;
    let home = stopped.home().clone();
    ensure!(
        Cluster::traces(&home)?.len() > 10,
        "it left no traces alive"
    );
    stopped.stop()?;
    ensure!(Cluster::traces(&home)? == [""; 0]);

    let killed = Cluster::start()?;
    let home = killed.home().clone();
    let guard = home.guard().context("it has no guard")?;
    kill(Pid::from_raw(guard.try_into()?), Signal::SIGKILL)?;
    drop(killed);
    // Its processes die with it; files and cgroups wait for whoever comes next.
    ensure!(home.folder().exists());
    eventually("every process of it is gone", || {
        Cluster::traces(&home).is_ok_and(|left| !left.iter().any(|one| one.starts_with("/proc")))
    })?;
    Home::clean(FOR_TESTS)?;
    ensure!(Cluster::traces(&home)? == [""; 0]);
    Ok(())
}
