//! The differences that are allowed, each with its reason: `differences.yaml`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::scenario::folder;
use super::transcript::Transcript;

/// Everything that may differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// Headers whose values are never twice the same; only that they are there is compared.
    volatile: Vec<String>,
    /// What is allowed.
    allowed: Vec<Allowed>,
}

/// One difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    /// Why ours is as it is.
    reason: String,
    /// Scenarios in which it occurs; every one where this is missing. `*` stands for any text.
    #[serde(default)]
    scenarios: Vec<String>,
    /// Lines that only Envoy has.
    #[serde(default)]
    envoy: Vec<String>,
    /// Lines that only Shunt has.
    #[serde(default)]
    shunt: Vec<String>,
    #[serde(skip)]
    used: AtomicBool,
}

impl Allowed {
    fn applies(&self, scenario: &str) -> bool {
        let named = |pattern: &String| matches(pattern, scenario);
        self.scenarios.is_empty() || self.scenarios.iter().any(named)
    }
}

impl Differences {
    /// Reads them.
    ///
    /// # Errors
    /// The file is not as it should be.
    pub fn read() -> Result<Self> {
        let file = folder().join("differences.yaml");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let differences: Self =
            serde_saphyr::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        for allowed in &differences.allowed {
            ensure!(
                allowed.reason.len() > 20 && allowed.envoy.len() + allowed.shunt.len() > 0,
                "a difference without a reason or without lines: {allowed:?}"
            );
        }
        Ok(differences)
    }

    /// What remains different, in a form to be read; empty where nothing does.
    pub fn compare(&self, scenario: &str, envoy: &Transcript, shunt: &Transcript) -> Vec<String> {
        let envoy_lines = self.stable(envoy);
        let shunt_lines = self.stable(shunt);
        let only = |of: &[String], other: &[String]| -> Vec<String> {
            let mut other: Vec<&String> = other.iter().collect();
            let mut only = Vec::new();
            for line in of {
                match other.iter().position(|found| *found == line) {
                    Some(at) => drop(other.remove(at)),
                    None => only.push(line.clone()),
                }
            }
            only
        };
        let mut envoy_only = only(&envoy_lines, &shunt_lines);
        let mut shunt_only = only(&shunt_lines, &envoy_lines);
        for allowed in self.allowed.iter().filter(|a| a.applies(scenario)) {
            let mut excused = false;
            for (patterns, lines) in [
                (&allowed.envoy, &mut envoy_only),
                (&allowed.shunt, &mut shunt_only),
            ] {
                lines.retain(|line| {
                    let found = patterns.iter().any(|pattern| matches(pattern, line));
                    excused |= found;
                    !found
                });
            }
            if excused {
                allowed.used.store(true, Ordering::SeqCst);
            }
        }
        let envoy_only = envoy_only.iter().map(|line| format!("  envoy  {line}"));
        let shunt_only = shunt_only.iter().map(|line| format!("  shunt  {line}"));
        envoy_only.chain(shunt_only).collect()
    }

    /// Reasons of allowed differences that were never met, for scenarios that were all run.
    pub fn unused(&self, scenarios: &BTreeSet<String>) -> Vec<&str> {
        let could = |allowed: &&Allowed| {
            let named = |pattern: &String| scenarios.iter().any(|name| matches(pattern, name));
            allowed.scenarios.iter().any(named)
        };
        let unused = self
            .allowed
            .iter()
            .filter(|allowed| !allowed.used.load(Ordering::SeqCst));
        unused.filter(could).map(|a| a.reason.as_str()).collect()
    }

    fn stable(&self, transcript: &Transcript) -> Vec<String> {
        let stable = |line: &String| {
            let volatile = self.volatile.iter().find_map(|name| {
                let mark = format!(": header {name}: ");
                line.to_ascii_lowercase()
                    .find(&mark)
                    .map(|at| at + mark.len())
            });
            match volatile {
                Some(at) => format!("{}*", &line[..at]),
                None => line.clone(),
            }
        };
        transcript.lines.iter().map(stable).collect()
    }
}

/// Whether a text is as a pattern says, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut open = false;
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        open = true;
        if index + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abbc", true),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("*", "", true),
            ("b*", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    fn transcript(lines: &[&str]) -> Transcript {
        Transcript {
            lines: lines.iter().map(ToString::to_string).collect(),
            ambiguous: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_allowed_may_differ_and_what_is_allowed_must_occur() {
        let differences: Differences = serde_saphyr::from_str(
            "volatile: [date]\n\
             allowed:\n\
             - reason: ours is better\n  scenarios: [one]\n  envoy: ['a: 1']\n  shunt: ['a: 2']\n",
        )
        .unwrap();
        let one = transcript(&["a: 1", "x: header date: today"]);
        let two = transcript(&["a: 2", "x: header date: tomorrow"]);
        let all = BTreeSet::from(["one".to_owned()]);
        assert_eq!(differences.unused(&all), ["ours is better"]);
        assert_eq!(differences.compare("two", &one, &two).len(), 2);
        assert_eq!(differences.compare("one", &one, &two), [""; 0]);
        assert_eq!(differences.unused(&all), [""; 0]);
        let three = transcript(&["a: 3"]);
        assert_eq!(
            differences.compare("one", &two, &three),
            [
                "  envoy  a: 2",
                "  envoy  x: header date: *",
                "  shunt  a: 3"
            ]
        );
    }
}
