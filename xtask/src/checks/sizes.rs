//! How long a file may be.

use anyhow::{Context as _, Result, bail};

use crate::workspace::{files_ending_in, root};

/// Hard limit for one file, tests not counted.
const LIMIT: usize = 800;

/// Checks every Rust file of the tree.
///
/// # Errors
/// Names every file that is too long.
pub fn check() -> Result<()> {
    let mut wrong = Vec::new();
    let mut sizes = Vec::new();
    for file in files_ending_in("rs", root())? {
        let shown = file.strip_prefix(root()).unwrap_or(&file);
        if is_test_file(&shown.to_string_lossy()) {
            continue;
        }
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let size = lines_outside_tests(&text).count();
        if size > LIMIT {
            wrong.push(format!("{} has {size} lines", shown.display()));
        }
        sizes.push(size);
    }
    sizes.sort_unstable();
    let quantile = |percent: usize| sizes.get(sizes.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "{} files, median {} lines, p90 {}",
        sizes.len(),
        quantile(50),
        quantile(90)
    );
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "longer than {LIMIT} lines without tests; split by stage:\n{}",
        wrong.join("\n")
    )
}

/// `x/tests.rs`, `x/tests/y.rs` and a package's `tests/`; the harness in tests/src is no test.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The numbered lines of a file, without its inline test modules. Relies on rustfmt: the module
/// and its closing brace stand at the start of a line.
pub(super) fn lines_outside_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_tests = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        if !in_tests && *line == "#[cfg(test)]" {
            in_tests = true;
            return false;
        }
        let skipped = in_tests;
        // `mod tests;` ends at once, `mod tests {` at its brace.
        if in_tests && (*line == "}" || line.ends_with(';') && !line.starts_with(' ')) {
            in_tests = false;
        }
        !skipped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_tests_are_not_counted_and_code_after_them_is() {
        let text = "one\n#[cfg(test)]\nmod tests {\n    use a;\n    fn x() {\n    }\n}\nlast\n";
        let kept: Vec<_> = lines_outside_tests(text).collect();
        assert_eq!(kept, [(1, "one"), (8, "last")]);
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_hides_only_its_declaration() {
        let text = "#[cfg(test)]\nmod tests;\ncode\n";
        assert_eq!(lines_outside_tests(text).collect::<Vec<_>>(), [(3, "code")]);
    }

    #[test]
    fn the_harness_is_counted_and_the_tests_are_not() {
        assert!(!is_test_file("tests/src/lib.rs"));
        assert!(is_test_file("tests/tests/redirect.rs"));
        assert!(is_test_file("crates/xds/src/convert/tests.rs"));
    }
}
