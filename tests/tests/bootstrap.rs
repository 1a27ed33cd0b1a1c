//! Bad bootstrap files: each is refused with the path of the field that is wrong.
//!
//! The files are in `tests/data/bad-bootstrap`. Each says in its first comment what is wrong with
//! it, and in lines `# expect:` which words the message must have.

use std::fs;
use std::path::{Path, PathBuf};

use shunt_tests::prelude::*;

/// `ConfigInvalid` of docs/exit-codes.md.
const CONFIG_INVALID: i32 = 11;
/// `ConfigUnreadable` of docs/exit-codes.md.
const CONFIG_UNREADABLE: i32 = 10;

fn bad_bootstraps(group: &str) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/bad-bootstrap")
        .join(group);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// Starts a sidecar with each file of a group, which must end with the right words and code.
fn check(group: &str, at_least: usize) -> Result<()> {
    let net = Network::new(group)?;
    let pod = net.pod("pod").build()?;
    let files = bad_bootstraps(group)?;
    assert!(
        files.len() >= at_least,
        "{group} has {} files only",
        files.len()
    );
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file)?;
        let finished = pod
            .sidecar_command(&text)?
            .finish()
            .with_context(|| file.display().to_string())?;
        let words: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .collect();
        let missing: Vec<_> = words
            .iter()
            .filter(|word| !finished.stderr.contains(**word))
            .collect();
        let panicked = finished.stderr.contains("panicked");
        if finished.code() != Some(CONFIG_INVALID) || !missing.is_empty() || panicked {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            wrong.push(format!("{name}: {missing:?} missing; {finished}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn errors_of_syntax_are_told_with_their_place() -> Result<()> {
    check("syntax", 6)
}

#[test]
fn unknown_fields_and_extensions_are_refused_by_their_path() -> Result<()> {
    check("unknown", 6)
}

#[test]
fn contradictions_are_refused_by_their_path() -> Result<()> {
    check("contradictory", 8)
}

#[test]
fn what_envoy_knows_and_shunt_does_not_is_refused_by_its_path() -> Result<()> {
    check("not-implemented", 6)
}

#[test]
fn a_file_that_cannot_be_read_is_named() -> Result<()> {
    let net = Network::new("unreadable")?;
    let pod = net.pod("pod").build()?;
    let closed = tempfile::NamedTempFile::new()?;
    let closed = closed.path().display().to_string();
    for path in ["/nowhere/bootstrap.yaml", "/etc", &closed] {
        let finished = pod
            .command(programs::shunt_agent()?)
            .args(["sidecar", "--config", path])
            .user(User::PROXY)
            .finish()?;
        assert_eq!(
            finished.code(),
            Some(CONFIG_UNREADABLE),
            "{path}: {finished}"
        );
        assert!(finished.stderr.contains(path), "{finished}");
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    let net = Network::new("taken")?;
    let pod = net.pod("pod").build()?;
    let _other = pod.echo("other", 15006)?;
    let finished = pod
        .sidecar_command(include_str!("../data/demo/reviews.yaml"))?
        .finish()?;
    assert_eq!(finished.code(), Some(12), "{finished}");
    assert!(finished.stderr.contains("15006"), "{finished}");
    Ok(())
}
