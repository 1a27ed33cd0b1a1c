//! A run of Shunt as a process of its own, whose programs are wrapped: they fail, are counted, or
//! end the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use shunt_redirect::backend;
use shunt_redirect::iptables::Flavour;

use super::{FAMILIES, choice, program};
use crate::cases;

const POLICY: &str = "SHUNT_TEST_POLICY";
const BACKEND: &str = "SHUNT_TEST_BACKEND";
const ANSWER: &str = "SHUNT_TEST_ANSWER";

/// A folder with programs of ours, which goes with it.
pub(crate) struct Wrapped {
    folder: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Cause and message of its error; empty if there was none.
    pub(crate) error: String,
    /// The backend that applied, and why it is not nf_tables.
    pub(crate) backend: String,
}

impl Wrapped {
    /// Before each of a flavour's programs is carried out, these lines of `sh` are, with `$REAL`
    /// for the program and `$DIR` for a folder of their own.
    pub(crate) fn new(flavour: Flavour, lines: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("shunt-wrapped-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        for family in FAMILIES {
            for what in ["-save", "-restore", ""] {
                let name = program(flavour, family, what);
                let script = format!(
                    "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nDIR={}\nNAME={name}\n\
                     REAL=/usr/sbin/{name}\n{lines}\nexec $REAL \"$@\"\n",
                    folder.display()
                );
                let file = folder.join(&name);
                fs::write(&file, script).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        Self { folder }
    }

    /// Applies a policy (`remove` is none: removes) in the namespace of this thread.
    pub(crate) fn run(&self, policy: &str, backend: &str) -> Ended {
        self.run_by(
            Command::new(std::env::current_exe().unwrap()),
            policy,
            backend,
        )
    }

    /// The same in a kernel that answers its first requests for sockets by saying that it does not
    /// know their protocol.
    pub(crate) fn run_without_nf_tables(&self, sockets: u32, policy: &str, backend: &str) -> Ended {
        let mut strace = Command::new("/usr/bin/strace");
        // The first is that of the turn.
        let last = sockets + 1;
        let inject = format!("inject=socket:error=EPROTONOSUPPORT:when=2..{last}");
        // Threads, but not the programs that they run; each counts its own.
        strace.args(["-f", "-b", "execve", "-o", "/dev/null"]);
        strace.args(["-e", "trace=socket", "-e", &inject]);
        strace.arg(std::env::current_exe().unwrap());
        self.run_by(strace, policy, backend)
    }

    fn run_by(&self, mut command: Command, policy: &str, backend: &str) -> Ended {
        let answer = self.folder.join("answer");
        let applied = self.folder.join("answer.backend");
        let _none = (fs::remove_file(&answer), fs::remove_file(&applied));
        let output = command
            .args(["--exact", "iptables::child::run", "--ignored"])
            .env("PATH", &self.folder)
            .env(POLICY, policy)
            .env(BACKEND, backend)
            .env(ANSWER, &answer)
            .output()
            .unwrap();
        Ended {
            status: output.status,
            error: fs::read_to_string(&answer).unwrap_or_default(),
            backend: fs::read_to_string(&applied).unwrap_or_default(),
        }
    }

    pub(crate) fn apply(&self, policy: &str, flavour: Flavour) -> Ended {
        self.run(policy, &choice(flavour).to_string())
    }

    /// A file that the lines wrote.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let _kept = fs::remove_dir_all(&self.folder);
    }
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn run() {
    let policy = std::env::var(POLICY).unwrap();
    let answer = std::env::var(ANSWER).unwrap();
    let error = if policy == "remove" {
        let removed = backend::remove();
        removed
            .err()
            .map(|error| (error.cause(), error.to_string()))
    } else {
        let backend = std::env::var(BACKEND).unwrap().parse().unwrap();
        match backend::apply(&cases::named(&policy), backend) {
            Ok(applied) => {
                let backend = format!("{}, {:?}", applied.backend, applied.fallback);
                fs::write(format!("{answer}.backend"), backend).unwrap();
                None
            }
            Err(error) => Some((error.cause(), error.to_string())),
        }
    };
    if let Some((cause, error)) = error {
        fs::write(answer, format!("{cause:?}: {error}")).unwrap();
    }
}
