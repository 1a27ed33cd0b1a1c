//! A program that was started, until it ends or is dropped.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, ExitStatus};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::Output;
use crate::DEADLINE;
use crate::expect::eventually::poll;

/// A running program; it is killed and reaped on drop.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
    /// The end of a standard output that nobody is to read; closed with the handle.
    unread: Option<ChildStdout>,
    readers: Vec<JoinHandle<()>>,
    /// Its process group, as long as the number is sure to be its own.
    group: Option<Pid>,
}

/// What a program has said, and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// How long it ran, as its parent saw it.
    pub took: Duration,
}

impl Running {
    pub(super) fn new(name: String, mut child: Child, leave_stdout_unread: bool) -> Self {
        let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
        let mut readers = Vec::new();
        let mut unread = None;
        let mut stdout = Output::default();
        match child.stdout.take() {
            Some(pipe) if leave_stdout_unread => unread = Some(pipe),
            Some(pipe) => {
                let (output, reader) = Output::follow(pipe);
                stdout = output;
                readers.push(reader);
            }
            None => {}
        }
        let mut stderr = Output::default();
        if let Some(pipe) = child.stderr.take() {
            let (output, reader) = Output::follow(pipe);
            stderr = output;
            readers.push(reader);
        }
        Self {
            name,
            child,
            stdout,
            stderr,
            unread,
            readers,
            group,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output.
    pub fn stdout(&self) -> &Output {
        &self.stdout
    }

    /// Its standard error.
    pub fn stderr(&self) -> &Output {
        &self.stderr
    }

    /// Begins to read a standard output that was left unread.
    pub fn read_stdout(&mut self) {
        if let Some(pipe) = self.unread.take() {
            let (output, reader) = Output::follow(pipe);
            self.stdout = output;
            self.readers.push(reader);
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.as_pid()?, signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Sends a signal to its only child, where it is a wrapper around the program that counts.
    ///
    /// # Errors
    /// It has no child, or several.
    pub fn signal_child(&self, signal: Signal) -> Result<()> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let child = children
            .trim()
            .parse()
            .with_context(|| format!("{} has not one child but these: `{children}`", self.name))?;
        kill(Pid::from_raw(child), signal)
            .with_context(|| format!("sending {signal} to the child of {}", self.name))
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// The kernel does not know it any more.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self
            .child
            .try_wait()
            .with_context(|| format!("asking whether {} has ended", self.name))?;
        if status.is_some() {
            self.kill_group();
        }
        Ok(status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within [`DEADLINE`]; it is killed then.
    pub fn finish(mut self) -> Result<Finished> {
        let begun = Instant::now();
        let status = match poll(DEADLINE, || self.ended().transpose()) {
            Some(status) => status?,
            None => {
                self.kill_and_reap();
                bail!(
                    "{} has not ended within {DEADLINE:?}; it said:\n{}{}",
                    self.name,
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
        };
        self.join_readers();
        Ok(Finished {
            name: std::mem::take(&mut self.name),
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            took: begun.elapsed(),
        })
    }

    /// The CPU time it has used, all threads, user and kernel. Resolution is a clock tick (10 ms).
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The second field is the name in brackets, which may hold anything.
        let (_, fields) = stat
            .rsplit_once(") ")
            .with_context(|| format!("{path} has no name"))?;
        let ticks = |index: usize| -> Result<u64> {
            let field = fields
                .split(' ')
                .nth(index)
                .with_context(|| format!("{path} is short"))?;
            Ok(field.parse()?)
        };
        // utime and stime, the 14th and 15th field of proc_pid_stat(5); 100 ticks a second are
        // part of the kernel's interface on every architecture that Kubernetes runs on.
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// The number of files it has open.
    ///
    /// # Errors
    /// It has ended.
    pub fn open_files(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.pid());
        Ok(fs::read_dir(&path)
            .with_context(|| format!("reading {path}"))?
            .count())
    }

    fn as_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.pid())?))
    }

    fn kill_and_reap(&mut self) {
        self.kill_group();
        self.child.wait().ok();
        self.join_readers();
    }

    /// Kills the whole group, once: a grandchild would hold the pipes open, and later the number
    /// may be someone else's. Fails only if there is none left, which is what is wanted.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            killpg(group, Signal::SIGKILL).ok();
        }
    }

    /// Lets the readers read to the end of the output: at once, unless a process that left the
    /// group still holds it open.
    fn join_readers(&mut self) {
        self.unread = None;
        poll(DEADLINE, || {
            self.readers
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(())
        });
        self.readers.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_and_reap();
    }
}

impl Finished {
    /// Its exit code; none if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Passes if it ended with exit code 0.
    ///
    /// # Errors
    /// Another code or a signal, with everything it said.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "{self}");
        Ok(self)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "{} ended with code {code}", self.name)?,
            (None, signal) => write!(f, "{} was ended by signal {signal:?}", self.name)?,
        }
        write!(f, "; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
    }
}
