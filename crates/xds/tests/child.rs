//! The converter as a child process. This program is its own child, as the agent is, so it has a
//! `main` of its own: each check is a function, run in turn.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and this one has no harness that prints"
)]

use shunt_xds::{Converter, LoadErrorKind, load_bootstrap, to_json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{env, fs};

/// Asks this program how much memory loading adds to it.
const GROWTH: &str = "growth";

fn main() -> ExitCode {
    if shunt_xds::is_convert_child() {
        return shunt_xds::convert_main();
    }
    // A fresh process for each measurement.
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some(GROWTH) {
        let child = arguments.next().as_deref() == Some("child");
        let converter = if child {
            Converter::Child
        } else {
            Converter::InProcess
        };
        println!("{}", growth(&converter));
        return ExitCode::SUCCESS;
    }
    let checks: [(&str, fn()); 4] = [
        (
            "the_child_loads_what_this_process_would",
            the_child_loads_what_this_process_would,
        ),
        (
            "problems_and_syntax_errors_come_back_from_the_child",
            problems_and_syntax_errors_come_back_from_the_child,
        ),
        (
            "a_file_larger_than_a_pipe_goes_through",
            a_file_larger_than_a_pipe_goes_through,
        ),
        (
            "the_parent_does_not_hold_the_descriptors",
            the_parent_does_not_hold_the_descriptors,
        ),
    ];
    for (name, check) in checks {
        let start = Instant::now();
        check();
        println!("test {name} ... ok ({:?})", start.elapsed());
    }
    ExitCode::SUCCESS
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A file that is gone with the value.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn the_child_loads_what_this_process_would() {
    let child = load_bootstrap(&data("sidecar.yaml"), &Converter::Child).unwrap();
    let here = load_bootstrap(&data("sidecar.yaml"), &Converter::InProcess).unwrap();
    assert_eq!(format!("{:?}", child.model), format!("{:?}", here.model));
    // Maps are written in no order, so what is shown is compared, not the bytes.
    let show = |wire: &[u8], converter| {
        let json = to_json(wire, None, &converter).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    assert_eq!(
        show(&child.wire, Converter::Child),
        show(&here.wire, Converter::InProcess)
    );
}

fn problems_and_syntax_errors_come_back_from_the_child() {
    let (_folder, path) = file("a.yaml", "static_resources: { listener: [] }");
    let error = load_bootstrap(&path, &Converter::Child)
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Invalid);
    assert!(
        error.to_string().contains("did you mean listeners?"),
        "{error}"
    );

    let (_folder, path) = file("a.json", "{\n  \"a\": 1,\n  \"a\": 2\n}");
    let error = load_bootstrap(&path, &Converter::Child)
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Syntax);
    assert!(error.to_string().contains("line 3"), "{error}");

    let error = to_json(b"no protobuf", None, &Converter::Child).unwrap_err();
    assert!(
        error.to_string().contains("decoding the configuration"),
        "{error}"
    );
}

fn a_file_larger_than_a_pipe_goes_through() {
    let small = fs::read_to_string(data("small.yaml")).unwrap();
    let mut text = small.clone();
    for i in 0..2_000 {
        text.push_str(&format!("  - {{ name: \"outbound|9080||service-{i}\" }}\n"));
    }
    let (_folder, path) = file("large.yaml", &text);
    let loaded = load_bootstrap(&path, &Converter::Child).unwrap();
    assert_eq!(loaded.model.resources.clusters.len(), 2_001);
}

/// Memory of this process that is backed by no file, in KiB.
fn anonymous_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// What loading adds to a process that has only just started.
fn growth(converter: &Converter) -> u64 {
    let before = anonymous_memory();
    let loaded = load_bootstrap(&data("sidecar.yaml"), converter).unwrap();
    let dump = to_json(&loaded.wire, None, converter).unwrap();
    drop(dump);
    let after = anonymous_memory();
    drop(loaded);
    after - before.min(after)
}

fn the_parent_does_not_hold_the_descriptors() {
    let growth_of = |converter: &str| -> u64 {
        let output = Command::new("/proc/self/exe")
            .args([GROWTH, converter])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim()
            .parse()
            .unwrap_or_else(|e| panic!("{text:?}: {e}"))
    };
    let (child, here) = (growth_of("child"), growth_of("here"));
    println!("loading adds {child} KiB with a child, {here} KiB without");
    // The model and the wire bytes of a small configuration are some tens of KiB; unpacked, the
    // descriptors are megabytes, also after they are dropped.
    assert!(child < 1024, "{child} KiB");
    assert!(
        here > 2 * child,
        "{here} KiB without a child: this proves nothing any more"
    );
}
