//! Runs of the program, and what they leave in a namespace.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shunt-init");
pub(crate) const INJECTOR: &str =
    "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020";

/// Runs `test` in a fresh network namespace, which ends with it.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Exit code, standard output, standard error.
pub(crate) struct Ran(pub(crate) i32, pub(crate) String, pub(crate) String);

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("these tests need {command:?}: {error}"));
    Ran(
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Runs the program; arguments are split at each space, so that two make an empty one.
pub(crate) fn init(arguments: &str) -> Ran {
    ran(Command::new(PROGRAM).args(arguments.split(' ')))
}

pub(crate) fn nft(command: &str) -> String {
    let Ran(code, output, error) = ran(Command::new("nft").arg(command));
    assert_eq!(code, 0, "nft {command}: {error}");
    output
}

pub(crate) fn ip(arguments: &str) -> String {
    let Ran(code, output, error) = ran(Command::new("ip").args(arguments.split(' ')));
    assert_eq!(code, 0, "ip {arguments}: {error}");
    output
}

/// With this on standard input.
pub(crate) fn init_reading(arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ran(
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
