//! iptables' programs: found without a shell, run with an empty environment and a time limit.

use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::IptablesError;

/// Where programs are looked for, after `PATH`.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// How long a program waits for others' lock on the legacy tables, in seconds.
const LOCK_WAIT: &str = "30";
/// How long a program may take, the lock included.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A program, and the first argument that tells it which of its many it is, where it needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    applet: Option<String>,
}

impl Program {
    /// The first executable of this name.
    pub(super) fn find(name: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
        folders
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
            .map(|path| Self { path, applet: None })
    }

    /// One of the programs within a program of many.
    pub(super) fn applet(self, name: &str) -> Self {
        Self {
            applet: Some(name.to_owned()),
            ..self
        }
    }

    /// What `--version` prints; empty if the program does not know it, as before 1.4.
    pub(super) fn version(&self) -> Result<String, IptablesError> {
        let output = self.run(&["--version"], "", &[])?;
        Ok(output.out)
    }

    /// What `*-save` prints.
    pub(super) fn save(&self) -> Result<String, IptablesError> {
        self.must(&[], "")
    }

    /// Has `*-restore` carry out a script.
    pub(super) fn restore(&self, script: &str) -> Result<(), IptablesError> {
        self.must(&["--noflush", "--wait", LOCK_WAIT], script)?;
        Ok(())
    }

    fn must(&self, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
        let mut output = self.run(arguments, input, &[])?;
        if output.lock_unusable() {
            // The file belongs to a file system that is read only, or to root. The lock guards the
            // tables of one network namespace, whose own file serves as well (since 1.8.6).
            let lock = ("XTABLES_LOCKFILE", "/proc/self/ns/net");
            output = self.run(arguments, input, &[lock])?;
        }
        if output.status.success() {
            return Ok(output.out);
        }
        Err(IptablesError::Failed {
            program: self.to_string(),
            status: output.status,
            said: output.err,
        })
    }

    fn run(
        &self,
        arguments: &[&str],
        input: &str,
        environment: &[(&str, &str)],
    ) -> Result<Output, IptablesError> {
        let failed = |source| IptablesError::Run {
            program: self.to_string(),
            source,
        };
        let child = Command::new(&self.path)
            .args(&self.applet)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/")
            .spawn()
            .map_err(failed)?;
        let output = collect(child, input.as_bytes().to_vec()).map_err(failed)?;
        output.ok_or_else(|| IptablesError::TimedOut {
            program: self.to_string(),
            seconds: TIME_LIMIT.as_secs(),
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        match &self.applet {
            Some(applet) => write!(f, " {applet}"),
            None => Ok(()),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// How a program ended, and what it said.
#[derive(Debug)]
struct Output {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Output {
    fn lock_unusable(&self) -> bool {
        !self.status.success() && self.err.contains("lock") && self.err.contains("open")
    }
}

/// Feeds a program and hears it out. `None`: it took too long, and was killed.
fn collect(mut child: Child, input: Vec<u8>) -> std::io::Result<Option<Output>> {
    let deadline = Instant::now() + TIME_LIMIT;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its input; its status tells why.
        thread::spawn(move || stdin.write_all(&input));
    }
    let out = listen(child.stdout.take());
    let err = listen(child.stderr.take());
    let heard = |channel: &mpsc::Receiver<Vec<u8>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        channel.recv_timeout(left).ok()
    };
    let output = match (heard(&out), heard(&err)) {
        (Some(out), Some(err)) => wait(&mut child, deadline)?.map(|status| Output {
            status,
            out: String::from_utf8_lossy(&out).into_owned(),
            err: String::from_utf8_lossy(&err).into_owned(),
        }),
        _ => None,
    };
    if output.is_none() {
        // It may have ended this very moment.
        let _ended = child.kill();
        child.wait()?;
    }
    Ok(output)
}

/// All that a pipe gives, once it ends.
fn listen(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is worth as much as without one.
            let _cut_short = pipe.read_to_end(&mut bytes);
        }
        let _given_up = sender.send(bytes);
    });
    receiver
}

/// A program that has closed its outputs ends at once, or is stuck.
fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
