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

    /// What `*-save` prints of all tables.
    pub(super) fn save(&self) -> Result<String, IptablesError> {
        self.must(&[], "")
    }

    /// The same, with the counters of each rule.
    pub(super) fn save_with_counters(&self) -> Result<String, IptablesError> {
        self.must(&["-c"], "")
    }

    /// What `*-save` prints of one table before it stops, and whether that is all.
    pub(super) fn save_table(&self, table: &str) -> Result<(String, bool), IptablesError> {
        let output = self.run_with_lock(&["-t", table], "")?;
        Ok((output.out, output.status.success()))
    }

    /// What `*-save` prints of one table, which must be all of it.
    pub(super) fn save_whole_table(&self, table: &str) -> Result<String, IptablesError> {
        self.must(&["-t", table], "")
    }

    /// What `iptables` lists of one table.
    pub(super) fn list_table(&self, table: &str) -> Result<String, IptablesError> {
        self.must(&["--wait", LOCK_WAIT, "-t", table, "-S"], "")
    }

    /// What `iptables` lists of one chain.
    pub(super) fn list_chain(&self, table: &str, chain: &str) -> Result<String, IptablesError> {
        self.must(&["--wait", LOCK_WAIT, "-t", table, "-S", chain], "")
    }

    /// Whether `iptables` finds a rule in a chain.
    pub(super) fn has_rule(
        &self,
        table: &str,
        chain: &str,
        rule: &[&str],
    ) -> Result<bool, IptablesError> {
        let place = ["--wait", LOCK_WAIT, "-t", table, "-C", chain];
        let output = self.run_with_lock(&[&place, rule].concat(), "")?;
        Ok(output.status.success())
    }

    /// Has `*-restore` carry out a script.
    pub(super) fn restore(&self, script: &str) -> Result<(), IptablesError> {
        self.must(&["--noflush", "--wait", LOCK_WAIT], script)?;
        Ok(())
    }

    fn must(&self, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
        let output = self.run_with_lock(arguments, input)?;
        if output.status.success() {
            return Ok(output.out);
        }
        Err(IptablesError::Failed {
            program: self.to_string(),
            status: output.status,
            said: output.err,
        })
    }

    fn run_with_lock(&self, arguments: &[&str], input: &str) -> Result<Output, IptablesError> {
        let output = self.run(arguments, input, &[])?;
        if !output.lock_unusable() {
            return Ok(output);
        }
        // The file belongs to a file system that is read only, or to root. The lock guards the
        // tables of one network namespace, whose own file serves as well (since 1.8.6).
        let lock = ("XTABLES_LOCKFILE", "/proc/self/ns/net");
        self.run(arguments, input, &[lock])
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
        let output = collect(child, input.as_bytes().to_vec(), TIME_LIMIT).map_err(failed)?;
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
fn collect(mut child: Child, input: Vec<u8>, limit: Duration) -> std::io::Result<Option<Output>> {
    let deadline = Instant::now() + limit;
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

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{Program, collect};

    fn sh(line: &str) -> Child {
        Command::new("/bin/sh")
            .args(["-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn much_input_and_output_at_once_blocks_nobody() {
        let input = vec![b'x'; 1 << 20];
        let output = collect(sh("tee /dev/stderr; exit 3"), input, LONG);
        let output = output.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((output.out.len(), output.err.len()), (1 << 20, 1 << 20));
        let deaf = collect(sh("exec <&-; echo done"), vec![b'x'; 1 << 20], LONG);
        assert_eq!(deaf.unwrap().unwrap().out, "done\n");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let short = Duration::from_millis(100);
        let begun = Instant::now();
        for line in ["exec sleep 600", "exec >&- 2>&-; exec sleep 600"] {
            let child = sh(line);
            let id = child.id();
            assert!(collect(child, Vec::new(), short).unwrap().is_none());
            let process = format!("/proc/{id}");
            assert!(!std::path::Path::new(&process).exists(), "{line}");
        }
        assert!(begun.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn programs_are_found_without_a_shell() {
        let sh = Program::find("sh").unwrap();
        assert!(sh.to_string().starts_with('/'), "{sh}");
        assert_eq!(Program::find("no-such-program"), None);
        assert_eq!(
            sh.applet("iptables-save").to_string().rsplit('/').next(),
            Some("sh iptables-save")
        );
    }
}
