//! A program to be started inside a pod, and the conditions it must live under.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as StdCommand, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setpgid, setsid, setuid};

use super::running::{Finished, Running};
use super::sandbox;
use crate::net::{Namespace, User};

/// A program with its arguments, user, limits and sandbox. Environment variables of the tests are
/// not passed on, except `PATH` and `RUST_BACKTRACE`.
#[derive(Debug)]
#[must_use = "nothing runs before start(), finish() or detach()"]
pub struct Command {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    namespace: Namespace,
    conditions: Conditions,
    stdin: Option<File>,
    leave_stdout_unread: bool,
}

/// What happens between fork and exec.
#[derive(Debug, Clone, Default)]
struct Conditions {
    user: Option<User>,
    no_new_privs: bool,
    read_only_root: bool,
    runtime_default_seccomp: bool,
    soft_fd_limit: Option<u64>,
}

impl Command {
    pub(crate) fn new(program: &OsStr, namespace: Namespace) -> Self {
        let env = ["PATH", "RUST_BACKTRACE"]
            .iter()
            .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
            .collect();
        Self {
            program: program.to_owned(),
            arg0: None,
            args: Vec::new(),
            env,
            namespace,
            conditions: Conditions::default(),
            stdin: None,
            leave_stdout_unread: false,
        }
    }

    /// A program to be started in a network namespace that is no pod's.
    pub fn inside(namespace: Namespace, program: impl AsRef<OsStr>) -> Self {
        Self::new(program.as_ref(), namespace)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets the name by which the program is called.
    pub fn arg0(mut self, name: &str) -> Self {
        self.arg0 = Some(name.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it as a user without any other group. A user other than root has no capability.
    pub fn user(mut self, user: User) -> Self {
        self.conditions.user = Some(user);
        self
    }

    /// Sets `no_new_privs` (`allowPrivilegeEscalation: false`).
    pub fn no_new_privs(mut self) -> Self {
        self.conditions.no_new_privs = true;
        self
    }

    /// Makes every mount read-only for it, `/tmp` included (`readOnlyRootFilesystem: true`).
    pub fn read_only_root(mut self) -> Self {
        self.conditions.read_only_root = true;
        self
    }

    /// Denies the system calls that container runtimes deny to a container without capabilities
    /// (`seccompProfile: RuntimeDefault`). Implies [`Command::no_new_privs`].
    pub fn runtime_default_seccomp(mut self) -> Self {
        self.conditions.runtime_default_seccomp = true;
        self.no_new_privs()
    }

    /// Sets the soft limit of open files; it cannot be raised again, since the hard limit is set
    /// to the same.
    pub fn fd_limit(mut self, files: u64) -> Self {
        self.conditions.soft_fd_limit = Some(files);
        self
    }

    /// Gives it a text as standard input: a file in memory, which it may also open as
    /// `/dev/stdin`, whoever it runs as. Nothing is left on disk.
    ///
    /// # Errors
    /// The kernel refuses a file in memory.
    pub fn stdin_text(mut self, text: &str) -> Result<Self> {
        self.stdin = Some(memory_file(text)?);
        Ok(self)
    }

    /// Gives it a standard output that nobody reads: a pipe that fills up.
    pub fn stdout_unread(mut self) -> Self {
        self.leave_stdout_unread = true;
        self
    }

    /// Starts it, as a process group of its own. It is killed, with its group, when the returned
    /// handle is dropped, and when this process ends in whatever way.
    ///
    /// # Errors
    /// There is no such program, or one of its conditions cannot be met.
    pub fn start(self) -> Result<Running> {
        let name = self.name();
        let unread = self.leave_stdout_unread;
        let mut command = self.prepare(Some(Signal::SIGKILL));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = keeper_spawn(command).with_context(|| format!("starting {name}"))?;
        Ok(Running::new(name, child, unread))
    }

    /// Starts it, waits for its end, and returns what it said.
    ///
    /// # Errors
    /// As for [`Command::start`]; or it has not ended within [`crate::DEADLINE`].
    pub fn finish(self) -> Result<Finished> {
        self.start()?.finish()
    }

    /// Starts it so that it outlives this process, its output appended to a file. Returns its
    /// process id.
    ///
    /// # Errors
    /// As for [`Command::start`]; or the file cannot be made.
    pub fn detach(self, output: &Path) -> Result<u32> {
        let name = self.name();
        let file = File::options()
            .create(true)
            .append(true)
            .open(output)
            .with_context(|| format!("opening {} for the output of {name}", output.display()))?;
        let mut command = self.prepare(None);
        command.stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(child.id())
    }

    fn name(&self) -> String {
        let program = Path::new(&self.program);
        program
            .file_name()
            .unwrap_or(&self.program)
            .to_string_lossy()
            .into_owned()
    }

    /// The program, called relative to its folder, into which the child changes while it is still
    /// root: the folders above may be closed to its user, as those below `/root` are.
    fn in_its_folder(&self) -> StdCommand {
        let path = Path::new(&self.program);
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(file)) if path.is_absolute() => {
                let mut command = StdCommand::new(Path::new(".").join(file));
                command.current_dir(folder).arg0(path);
                command
            }
            _ => StdCommand::new(path),
        }
    }

    fn prepare(self, parent_death: Option<Signal>) -> StdCommand {
        let mut command = self.in_its_folder();
        command.args(&self.args).env_clear().envs(self.env);
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        if let Some(name) = &self.arg0 {
            command.arg0(name);
        }
        let Self {
            namespace,
            conditions,
            ..
        } = self;
        // SAFETY: the closure runs in the child between fork and exec, where other threads' locks
        // may be held for ever: it makes system calls on values that were made before, and
        // allocates nothing (an io::Error made from an errno does not allocate).
        unsafe {
            command.pre_exec(move || {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
                // A parent that waits for signals on a thread blocks them everywhere.
                SigSet::empty().thread_set_mask()?;
                conditions.impose()?;
                match parent_death {
                    // After the change of user, which clears it.
                    Some(signal) => {
                        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                        prctl::set_pdeathsig(signal)?;
                    }
                    None => drop(setsid()?),
                }
                Ok(())
            });
        }
        command
    }
}

impl Conditions {
    /// Imposes the conditions on the calling process. Must not allocate: see its caller.
    fn impose(&self) -> io::Result<()> {
        if self.read_only_root {
            sandbox::make_all_mounts_read_only()?;
        }
        if let Some(files) = self.soft_fd_limit {
            setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
        }
        if let Some(user) = self.user {
            setgroups(&[])?;
            setgid(Gid::from_raw(user.gid))?;
            setuid(Uid::from_raw(user.uid))?;
        }
        if self.no_new_privs {
            prctl::set_no_new_privs()?;
        }
        if self.runtime_default_seccomp {
            sandbox::deny_what_runtimes_deny()?;
        }
        Ok(())
    }
}

/// A file in memory, to be read from its beginning.
fn memory_file(text: &str) -> Result<File> {
    let fd = memfd_create(c"text", MFdFlags::MFD_CLOEXEC).context("making a file in memory")?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())
        .context("filling a file in memory")?;
    file.rewind().context("rewinding a file in memory")?;
    Ok(file)
}

type Job = (StdCommand, Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as this process: the parent-death signal is sent when
/// the *thread* that forked ends (prctl(2)), and tests run on threads that come and go.
fn keeper_spawn(command: StdCommand) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                drop(answer.send(command.spawn()));
            }
        });
        jobs
    });
    let (answer, outcome) = channel();
    let handed_over = keeper.send((command, answer)).is_ok();
    match outcome.recv() {
        Ok(outcome) if handed_over => outcome,
        _ => Err(io::Error::other("the thread that starts processes is gone")),
    }
}
