//! How the process begins: closed standard streams, pipes that nobody reads, arguments of any bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};

use crate::support::{INJECTOR, PROGRAM, Ran, in_namespace, nft, ran};

fn shell(line: &str) -> Ran {
    ran(Command::new("bash").args(["-c", line]))
}

#[test]
fn a_closed_standard_stream_is_nowhere_and_no_socket_gets_its_number() {
    let arguments = format!("istio-iptables {}", INJECTOR.replace("* -x ", "*"));
    let arguments = arguments.replace('*', "'*'");
    for closed in [">&-", "<&-", "2>&-", "<&- >&- 2>&-"] {
        in_namespace(|| {
            let Ran(code, _, error) = shell(&format!("{PROGRAM} {arguments} {closed}"));
            assert_eq!((code, error.as_str()), (0, ""), "{closed}");
            assert!(
                nft("list ruleset").contains("redirect to :15001"),
                "{closed}"
            );
            let trace = tempfile::NamedTempFile::new().unwrap();
            let file = trace.path().display();
            let traced = shell(&format!(
                "strace -o {file} -e trace=socket sh -c 'exec {PROGRAM} list {closed}'"
            ));
            assert_eq!(traced.0, 0, "{closed}");
            let calls = std::fs::read_to_string(trace.path()).unwrap();
            let numbers = calls.lines().filter_map(|line| line.split_once(") = "));
            let numbers: Vec<u32> = numbers.map(|(_, n)| n.trim().parse().unwrap()).collect();
            assert!(!numbers.is_empty(), "{calls}");
            assert!(
                numbers.iter().all(|number| *number > 2),
                "{closed}: {calls}"
            );
        });
    }
}

#[test]
fn what_nobody_reads_is_an_error_where_it_is_what_the_run_is_for() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = Command::new(PROGRAM)
        .args(["policy", "istio-iptables"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{error}");
    assert!(error.contains("Broken pipe"), "{error}");
}

#[test]
fn an_argument_that_is_no_text_is_told() {
    let argument = OsStr::from_bytes(b"bad\xff");
    let Ran(code, _, error) = ran(Command::new(PROGRAM).arg(argument));
    assert_eq!(code, 2);
    assert!(error.contains("bad\u{fffd}"), "{error}");
}
