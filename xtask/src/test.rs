//! `cargo xtask test` and `cargo xtask ci`: the order of the checks.

use anyhow::Result;

use crate::report::Report;
use crate::workspace::{cargo, run};
use crate::{checks, preflight, setup};

/// `cargo xtask ci`: what needs no privilege and no other program.
///
/// # Errors
/// When a check failed.
pub fn static_checks() -> Result<()> {
    let mut report = Report::default();
    if report.step("toolchain", setup::toolchain) {
        add_static_checks(&mut report);
    }
    report.finish()
}

/// `cargo xtask test`: everything, on this machine, nothing left out.
///
/// # Errors
/// When the machine lacks something or a check or test failed.
pub fn everything() -> Result<()> {
    let mut report = Report::default();
    // Without these every later failure would be about the machine, not about the code.
    if !report.step("setup", || setup::install(setup::Purpose::Test))
        || !report.step("prerequisites", preflight::check)
    {
        return report.finish();
    }
    add_static_checks(&mut report);
    let built = report.step("build the programs under test", || {
        run(&mut cargo(&[
            "build",
            "--package",
            "shunt-init",
            "--package",
            "shunt-agent",
            "--package",
            "shunt-tests",
        ]))
    });
    if built {
        report.step("unit, in-process, namespace and cluster tests", || {
            run(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))
        });
    }
    report.finish()
}

fn add_static_checks(report: &mut Report) {
    report.step("rustfmt", || run(&mut cargo(&["fmt", "--all", "--check"])));
    report.step("dependency arrows", checks::arrows::check);
    report.step("file sizes", checks::sizes::check);
    report.step("paths named in the documents", checks::documents::check);
    report.step("licences and bans", checks::licences::check);
    report.step("clippy", || {
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ]))
    });
    // Private items have pages too, so a public page may link to them.
    report.step("cargo doc", || {
        run(cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ])
        .env(
            "RUSTDOCFLAGS",
            "--deny warnings --allow rustdoc::private_intra_doc_links",
        ))
    });
}
