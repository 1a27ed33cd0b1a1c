//! The guard: everything of a cluster that lies outside its namespaces.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::{cgroup, config, forward, say, word};
use crate::cluster::Home;
use crate::net::Namespace;

/// Why a cluster comes to its end.
enum End {
    /// Whoever started it wants it or is gone.
    Asked,
    /// The init has ended.
    Init(io::Result<ExitStatus>),
}

/// Makes a cluster, guards it, removes it.
#[expect(clippy::print_stdout, reason = "whoever started the guard reads it")]
pub(super) fn run(kind: &str, on_a_rope: bool, pause: &Path) -> Result<()> {
    let (sender, ends) = channel();
    // Before there is any other thread, since threads inherit which signals they leave to others.
    listen_to_signals(&sender)?;
    if on_a_rope {
        listen_to_the_rope(&sender);
    }
    Home::clean(kind)?;
    let home = Home::create(kind)?;
    println!("{}{}", say::HOME, home.folder().display());
    let outcome = live(&home, pause, sender, &ends);
    let removed = home.remove();
    outcome.and(removed)
}

fn live(home: &Home, pause: &Path, sender: Sender<End>, ends: &Receiver<End>) -> Result<()> {
    config::write(home)?;
    cgroup::make(home.name())?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on a loopback port")?;
    config::write_outside(home, listener.local_addr()?)?;
    let init = start_init(home, pause, sender)?;
    let node = Namespace::of_process(init, "node")?;
    thread::spawn(move || forward::serve(&listener, &node));

    match ends.recv().context("nobody is left to end the cluster")? {
        End::Init(Ok(status)) => bail!("the cluster's first process ended ({status})"),
        End::Init(Err(error)) => Err(error).context("waiting for the cluster's first process"),
        End::Asked => {
            // The kernel kills all other processes of the namespace before the init is reaped.
            kill(Pid::from_raw(init.try_into()?), Signal::SIGKILL).context("killing the init")?;
            while !matches!(ends.recv(), Ok(End::Init(_)) | Err(_)) {}
            Ok(())
        }
    }
}

fn listen_to_signals(sender: &Sender<End>) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals
        .thread_block()
        .context("taking over SIGINT and SIGTERM")?;
    let sender = sender.clone();
    thread::spawn(move || {
        signals.wait().ok();
        sender.send(End::Asked).ok();
    });
    Ok(())
}

/// Standard input is a pipe that nobody writes to: it ends with the process that holds the other
/// end, however that comes to its end.
fn listen_to_the_rope(sender: &Sender<End>) {
    let sender = sender.clone();
    thread::spawn(move || {
        io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        sender.send(End::Asked).ok();
    });
}

/// Starts this program as process 1 of new namespaces, on a thread that waits for its end: the
/// process namespace is made for the children of one thread, and the parent-death signal is sent
/// when the thread that forked ends.
fn start_init(home: &Home, pause: &Path, ends: Sender<End>) -> Result<u32> {
    let mut command = Command::new(std::env::current_exe().context("looking for the own program")?);
    command
        .arg(word::INIT)
        .args([home.folder(), pause])
        .stdin(Stdio::null());
    // SAFETY: the closure makes three system calls between fork and exec and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            SigSet::empty().thread_set_mask()?;
            Ok(unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?)
        });
    }
    let (sender, started) = channel();
    thread::spawn(move || {
        let child = unshare(CloneFlags::CLONE_NEWPID)
            .map_err(io::Error::from)
            .and_then(|()| command.spawn());
        match child {
            Err(error) => drop(sender.send(Err(error))),
            Ok(mut child) => {
                sender.send(Ok(child.id())).ok();
                ends.send(End::Init(child.wait())).ok();
            }
        }
    });
    started
        .recv()
        .context("the thread that starts the init has ended")?
        .context("making the cluster's namespaces (root? CONFIG_PID_NS, CONFIG_NET_NS?)")
}
