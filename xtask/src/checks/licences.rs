//! The policy of `deny.toml`, checked without a tool that would have to be built first.
//!
//! `deny.toml` is in the form that cargo-deny reads; here the two rules are kept that matter for
//! every commit: which licences, and which crates never.

use std::iter::Peekable;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::metadata::Metadata;
use crate::workspace::{capture, cargo, root};

#[derive(Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Checks every package that takes part in a build.
///
/// # Errors
/// Names every package against the policy.
pub fn check() -> Result<()> {
    let path = root().join("deny.toml");
    let text = std::fs::read_to_string(&path).context("reading deny.toml")?;
    let policy: Policy = toml::from_str(&text).context("reading deny.toml")?;
    let metadata = Metadata::read()?;
    let mut wrong = Vec::new();
    let mut seen = 0;
    for package in metadata.resolved() {
        seen += 1;
        let shown = format!("{} {}", package.name, package.version);
        match package.license.as_deref() {
            None => wrong.push(format!("{shown} names no licence")),
            Some(licence) if !is_allowed(licence, &policy.licenses.allow) => {
                wrong.push(format!(
                    "{shown} is under {licence}, which deny.toml does not allow"
                ));
            }
            Some(_) => {}
        }
        let ban = policy.bans.deny.iter().find(|ban| ban.name == package.name);
        if let Some(ban) = ban.filter(|ban| is_built(&ban.name)) {
            wrong.push(format!("{shown} is banned: {}", ban.reason));
        }
    }
    println!("{seen} packages");
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// Whether anything here depends on the package. Cargo resolves an optional dependency as soon as a
/// feature names it (`ring?/alloc`), even if nothing asks for it; where that cannot be told, it is
/// taken to be built.
fn is_built(package: &str) -> bool {
    let arguments = ["tree", "--workspace", "--locked", "--invert", package];
    capture(&mut cargo(&arguments)).map_or(true, |dependents| !dependents.trim().is_empty())
}

/// Whether an SPDX expression can be met with the allowed licences alone. What cannot be read is
/// not allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Older packages write `MIT/Apache-2.0` for a choice.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) == Some(true) && words.next().is_none()
}

/// `a OR b`: binds weakest.
fn any_of<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    allowed: &[String],
) -> Option<bool> {
    let mut met = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed)?;
    }
    Some(met)
}

/// `a AND b`.
fn all_of<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    allowed: &[String],
) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Some(met)
}

/// A licence, with its exception if it has one, or a group in brackets.
fn one<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    allowed: &[String],
) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let met = any_of(words, allowed)?;
        return words.next_if_eq(&")").map(|_| met);
    }
    let mut name = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next()?);
    }
    Some(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_allowed(
            expression,
            &["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(String::from),
        )
    }

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_conjunction_all() {
        assert!(allowed("MIT"));
        assert!(allowed("GPL-3.0 OR MIT"));
        assert!(allowed("Unlicense/MIT"));
        assert!(allowed("(MIT OR GPL-3.0) AND Apache-2.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("GPL-3.0"));
        assert!(!allowed("(MIT OR GPL-3.0) AND GPL-3.0"));
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed() {
        for broken in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT"] {
            assert!(!allowed(broken), "{broken:?}");
        }
    }
}
