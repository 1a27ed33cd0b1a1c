//! Which part may depend on which (the dependency rule of the design).

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::metadata::Metadata;
use crate::workspace::{files_ending_in, root};

/// Every package of the workspace, and the ones of the workspace it may name in its Cargo.toml,
/// for tests too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("shunt-abi", &[]),
    ("shunt-redirect", &["shunt-abi"]),
    ("shunt-proxy", &["shunt-abi"]),
    ("shunt-xds", &["shunt-abi", "shunt-proxy"]),
    ("shunt-init", &["shunt-abi", "shunt-redirect"]),
    (
        "shunt-agent",
        &["shunt-abi", "shunt-redirect", "shunt-proxy", "shunt-xds"],
    ),
    ("shunt-tests", &["shunt-abi", "shunt-redirect"]),
    ("shunt-bench", &["shunt-abi", "shunt-proxy", "shunt-xds"]),
    ("xtask", &["shunt-abi", "shunt-tests"]),
];

/// Folders of the proxy that decide and never act: no I/O, no clock, no runtime. Time comes in
/// as an argument.
const PURE: &[&str] = &[
    "crates/proxy/src/model",
    "crates/proxy/src/route",
    "crates/proxy/src/cluster/lb",
];

/// What would break that.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "socket2",
    "nix",
    "libc",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
];

/// Checks both rules.
///
/// # Errors
/// Names every edge and every line against the rule.
pub fn check() -> Result<()> {
    let metadata = Metadata::read()?;
    let mut wrong = Vec::new();
    for package in metadata.members() {
        let names = package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str());
        wrong.extend(forbidden_edges(&package.name, names));
    }
    for folder in PURE {
        wrong.extend(impure_lines(&root().join(folder))?);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("against the dependency rule:\n{}", wrong.join("\n"))
}

fn forbidden_edges<'a>(package: &str, dependencies: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package) else {
        return vec![format!(
            "{package} has no line in {}: say what it may depend on",
            file!()
        )];
    };
    dependencies
        // Its own tests may ask it for more than it gives others.
        .filter(|name| *name != package)
        .filter(|name| ALLOWED.iter().any(|(ours, _)| ours == name) && !allowed.contains(name))
        .map(|name| format!("{package} -> {name}"))
        .collect()
}

/// The lines below a folder, outside tests and comments, that use something impure. A folder
/// that does not exist yet has none.
fn impure_lines(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut wrong = Vec::new();
    for file in files_ending_in("rs", folder)? {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display();
        for (number, line) in super::sizes::lines_outside_tests(&text) {
            if let Some(word) = impure_word(line) {
                wrong.push(format!(
                    "{shown}:{number} uses {word}: this folder only decides"
                ));
            }
        }
    }
    Ok(wrong)
}

/// The first impure path in a line of code, compared word by word.
fn impure_word(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    IMPURE.iter().copied().find(|word| {
        code.match_indices(word).any(|(at, _)| {
            let boundary = |byte: Option<&u8>| {
                byte.is_none_or(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
            };
            let before = at
                .checked_sub(1)
                .and_then(|index| code.as_bytes().get(index));
            boundary(before) && boundary(code.as_bytes().get(at + word.len()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_may_not_import_the_redirect_rules() {
        let edges = forbidden_edges(
            "shunt-proxy",
            ["shunt-abi", "tokio", "shunt-redirect"].into_iter(),
        );
        assert_eq!(edges, ["shunt-proxy -> shunt-redirect"]);
    }

    #[test]
    fn a_package_without_a_rule_is_refused() {
        assert_eq!(forbidden_edges("shunt-new", std::iter::empty()).len(), 1);
    }

    #[test]
    fn a_clock_is_seen_in_code_but_not_in_a_comment_or_within_another_word() {
        assert_eq!(
            impure_word("let now = Instant::now();"),
            Some("Instant::now")
        );
        assert_eq!(impure_word("use tokio::time;"), Some("tokio"));
        assert_eq!(impure_word("/// never calls Instant::now"), None);
        assert_eq!(impure_word("let hyperbola = libc_like;"), None);
    }
}
