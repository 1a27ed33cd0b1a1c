//! The same traffic through Envoy and through Shunt, folder by folder of tests/data/differential.
//!
//! `SCENARIO=<word> cargo test -p shunt-tests --test differential <folder>` runs the scenarios
//! with this word in their names, and shows what both did.

use shunt_tests::differential;
use shunt_tests::prelude::*;

fn compare(folder: &str) -> Result<()> {
    let only = std::env::var("SCENARIO").ok();
    differential::run(folder, only.as_deref())
}

#[test]
fn http() -> Result<()> {
    compare("http")
}

#[test]
fn tcp() -> Result<()> {
    compare("tcp")
}

#[test]
fn heads() -> Result<()> {
    compare("heads")
}

#[test]
fn limits() -> Result<()> {
    compare("limits")
}

#[test]
fn attempts() -> Result<()> {
    compare("attempts")
}

#[test]
fn captured() -> Result<()> {
    compare("captured")
}

#[test]
fn negotiated() -> Result<()> {
    compare("negotiated")
}

#[test]
fn every_folder_is_a_test_and_there_are_more_than_two_hundred_scenarios() -> Result<()> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(differential::scenario::folder())? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            folders.push(name.to_string_lossy().into_owned());
        }
    }
    folders.sort();
    assert_eq!(
        folders,
        [
            "attempts",
            "captured",
            "heads",
            "http",
            "limits",
            "negotiated",
            "tcp"
        ]
    );
    let mut scenarios = 0;
    for folder in &folders {
        scenarios += differential::scenario::Group::read(folder)?.scenarios.len();
    }
    assert!(scenarios > 200, "{scenarios}");
    Ok(())
}
