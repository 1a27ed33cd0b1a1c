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
fn captured() -> Result<()> {
    compare("captured")
}
