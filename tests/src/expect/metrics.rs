//! Metrics in the Prometheus text format.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// A scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text format, version 0.0.4.
    ///
    /// # Errors
    /// A line that is none of comment, sample and empty; it is told.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            samples.push(sample(line).with_context(|| format!("not a sample: `{line}`"))?);
        }
        Ok(Self { samples })
    }

    /// The sum of all series of that name that have at least these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        self.samples
            .iter()
            .filter(wanted)
            .map(|sample| sample.value)
            .sum()
    }

    /// As [`Metrics::sum`], for counts.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts of a test are small"
        )]
        let count = self.sum(name, labels) as u64;
        count
    }

    /// The names of all series, for errors.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self
            .samples
            .iter()
            .map(|sample| sample.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").context("a label without value")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().context("no value")?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse()?,
    })
}

/// Splits after the closing quote and undoes the escapes.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    bail!("a label value without closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE rq counter
rq{cluster=\"a\",code=\"200\"} 3
rq{cluster=\"a\",code=\"503\"} 1
rq{cluster=\"b, \\\"quoted\\\"\"} 5

up 1
";

    #[test]
    fn series_are_summed_over_the_labels_that_are_not_named() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert_eq!(metrics.count("rq", &[]), 9);
        assert_eq!(metrics.count("rq", &[("cluster", "a")]), 4);
        assert_eq!(metrics.count("rq", &[("cluster", "a"), ("code", "503")]), 1);
        assert_eq!(metrics.count("rq", &[("cluster", "b, \"quoted\"")]), 5);
        assert_eq!(metrics.count("up", &[]), 1);
        assert_eq!(metrics.count("rq", &[("zone", "")]), 0);
    }

    #[test]
    fn a_broken_line_is_told() {
        for text in ["rq", "rq{a=\"1\" 3", "rq{a} 3", "rq three"] {
            let error = format!("{:#}", Metrics::parse(text).unwrap_err());
            assert!(error.contains(text), "{error}");
        }
    }
}
