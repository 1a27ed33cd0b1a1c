//! `shunt-init preflight`: it names what is missing as a run does, and changes nothing.
//!
//! Needs root, `nft`, `ip` and `strace`; without them the tests fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

mod causes;

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_shunt-init");
const APPLY: &[&str] = &["istio-iptables", "-i", "*", "-b", "*", "--backend", "nft"];

/// Runs `test` in a fresh network namespace, which ends with it. `lo` is up.
fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            ran(&["ip", "link", "set", "lo", "up"]);
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Exit code, standard output, standard error.
fn ran(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("these tests need {words:?}: {error}"));
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// The program under strace, which makes some of its system calls fail.
fn with_error(injected: &str, arguments: &[&str]) -> (i32, String, String) {
    let inject = format!("inject={injected}");
    let strace = ["strace", "-f", "-o", "/dev/null", "-e", &inject, PROGRAM];
    ran(&[&strace, arguments].concat())
}

/// Everything that a run could change.
fn everything() -> Vec<String> {
    let all = [
        &["nft", "list", "ruleset"][..],
        &["ip", "-d", "address"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
    ];
    // The kernel's own route to an address follows it some time later.
    let own = |line: &&str| !line.starts_with("local ::6 dev lo");
    all.map(|words| ran(words).1.split_inclusive('\n').filter(own).collect())
        .to_vec()
}

#[test]
fn it_changes_nothing_with_and_without_our_table() {
    in_namespace(|| {
        for arguments in [&["remove"][..], APPLY] {
            assert_eq!(ran(&[&[PROGRAM], arguments].concat()).0, 0);
            let before = everything();
            let (code, output, error) = ran(&[PROGRAM, "preflight"]);
            assert_eq!((code, error.as_str()), (0, ""), "{output}");
            assert!(output.ends_with("rules can be written here\n"), "{output}");
            assert!(
                output.contains("good     nf_tables: would take "),
                "{output}"
            );
            assert_eq!(everything(), before);
        }
    });
}

#[test]
fn what_cannot_be_printed_is_no_success() {
    in_namespace(|| {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = Command::new(PROGRAM);
        let output = command.arg("preflight").stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with("shunt-init: cannot write to standard output: "),
            "{error}"
        );
    });
}

#[test]
fn what_is_missing_is_named_with_the_code_of_a_run() {
    in_namespace(|| {
        for (injected, nth, code, words) in [
            ("socket:error=EPERM", 1, 9, "seccomp profile"),
            ("socket:error=EACCES", 1, 9, "SELinux or AppArmor"),
            ("socket:error=ENOSYS", 1, 9, "seccomp profile"),
            ("socket:error=EPERM", 2, 9, "seccomp profile"),
            ("socket:error=EMFILE", 1, 7, "limit of open files"),
            ("sendto:error=ENOBUFS", 1, 7, "cannot send to the kernel"),
        ] {
            let before = everything();
            let at = |nth: u32| format!("{injected}:when={nth}");
            let (found, output, error) = with_error(&at(nth), &["preflight"]);
            assert_eq!(found, code, "{injected}: {output}{error}");
            assert!(error.contains(words), "{injected}: {error}");
            assert!(output.contains("missing  "), "{injected}: {output}");
            // The first socket of a run is that of its turn.
            let first = u32::from(injected.starts_with("socket"));
            let (found, _, error) = with_error(&at(nth + first), APPLY);
            assert_eq!(found, code, "{injected}: {error}");
            assert!(error.contains(words), "{injected}: {error}");
            assert_eq!(everything(), before, "{injected}");
        }
    });
}

#[test]
fn without_nf_tables_a_run_and_preflight_agree_on_iptables() {
    in_namespace(|| {
        let injected = "socket:error=EPROTONOSUPPORT:when=1";
        for json in ["--json", "--log_as_json"] {
            let (code, output, error) = with_error(injected, &["preflight", json]);
            assert_eq!(code, 0, "{output}{error}");
            let line = output
                .lines()
                .find(|line| line.contains("iptables is used instead"));
            let found: Value = serde_json::from_str(line.unwrap()).unwrap();
            assert_eq!(
                (&found["check"], &found["state"]),
                (&Value::from("netlink sockets"), &Value::from("note"))
            );
        }
    });
}

#[test]
fn without_the_capability_or_in_another_user_namespace_the_cause_is_told_apart() {
    in_namespace(|| {
        let before = everything();
        let dropped = ["setpriv", "--bounding-set=-all", PROGRAM];
        let elsewhere = ["unshare", "--user", "--map-root-user", PROGRAM];
        for (prefix, code, words) in [
            (dropped.to_vec(), 4, "capabilities.add: [NET_ADMIN]"),
            (elsewhere.to_vec(), 10, "in another user namespace"),
        ] {
            for arguments in [&["preflight"][..], APPLY] {
                let (found, _, error) = ran(&[&prefix, arguments].concat());
                assert_eq!(found, code, "{arguments:?}: {error}");
                assert!(error.contains(words), "{arguments:?}: {error}");
            }
        }
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_foreign_table_is_a_conflict_and_istios_chains_are_noted() {
    in_namespace(|| {
        ran(&["iptables-nft", "-t", "nat", "-N", "ISTIO_OUTPUT"]);
        let (code, output, _) = ran(&[PROGRAM, "preflight"]);
        assert_eq!(code, 0, "{output}");
        assert!(
            output.contains("note     other rules: istio-iptables has chains"),
            "{output}"
        );
        // That of Istio, not a link of its name to this one, which leaves them.
        assert!(
            output.contains("`pilot-agent istio-iptables --cleanup-only` in Istio's own image"),
            "{output}"
        );
        assert_eq!(ran(&[PROGRAM, "istio-iptables", "--cleanup-only"]).0, 0);
        let chains = ran(&["iptables-nft", "-t", "nat", "-S"]).1;
        assert!(chains.contains("ISTIO_OUTPUT"), "{chains}");
        ran(&["nft", "add", "table", "inet", "shunt"]);
        let (code, output, error) = ran(&[PROGRAM, "preflight"]);
        assert_eq!(code, 6, "{output}{error}");
        assert!(
            error.contains("a table inet shunt exists that Shunt did not write"),
            "{error}"
        );
    });
}
