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
        let answer = self.folder.join("answer");
        let _none = fs::remove_file(&answer);
        let output = Command::new(std::env::current_exe().unwrap())
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
    let error = if policy == "remove" {
        let removed = backend::remove();
        removed
            .err()
            .map(|error| (error.cause(), error.to_string()))
    } else {
        let backend = std::env::var(BACKEND).unwrap().parse().unwrap();
        let applied = backend::apply(&cases::named(&policy), backend);
        applied
            .err()
            .map(|error| (error.cause(), error.to_string()))
    };
    if let Some((cause, error)) = error {
        fs::write(
            std::env::var_os(ANSWER).unwrap(),
            format!("{cause:?}: {error}"),
        )
        .unwrap();
    }
}
