//! Which series there are: sets of families that share their labels, and where each is counted.

use super::Labels;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

/// Upper bounds of histogram buckets in milliseconds, as they are shown: Envoy's default.
pub(super) const BUCKETS: [&str; 19] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000",
    "30000", "60000", "300000", "600000", "1800000", "3600000",
];

/// The same for whole milliseconds: a value is in the first bucket that is not below it.
pub(super) const BUCKETS_MS: [u64; BUCKETS.len()] = [
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Durations in milliseconds, by bucket.
    Histogram,
}

impl Kind {
    /// Cells of one series. A gauge has one for what was added and one for what was taken away,
    /// so that one which is back at 0 is known to have been used. A histogram has one more bucket
    /// for what is beyond the last bound, then the sum.
    pub(super) const fn cells(self) -> usize {
        match self {
            Self::Counter => 1,
            Self::Gauge => 2,
            Self::Histogram => BUCKETS.len() + 2,
        }
    }

    /// As Prometheus' `# TYPE` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name, as Envoy's Prometheus endpoint has it.
    pub name: &'static str,
    /// What it tells, in a line.
    pub help: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// A label that stands before those of the set and is always the same.
    pub fixed: Option<(&'static str, &'static str)>,
}

/// Families with the same labels, and the label values for which they exist. One text of labels
/// and one number stand for all series of a resource: with ten thousand clusters this is what
/// statistics cost.
#[derive(Debug)]
struct Set {
    families: Cow<'static, [Family]>,
    /// By rendered labels: where the first family is counted; the others follow.
    at: HashMap<Arc<str>, usize>,
}

/// A family as it is shown: its parts in the order in which they came to be.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) parts: Vec<Part>,
}

/// Where a family is found: in which set, how far behind the set's first cell.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) set: usize,
    pub(super) offset: usize,
    /// The fixed label, rendered; may be empty.
    pub(super) fixed: String,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    next: usize,
    sets: Vec<Set>,
    shown: BTreeMap<&'static str, Shown>,
}

impl Names {
    /// Where the first cell of this set is, for these labels.
    pub(super) fn place(&mut self, families: Cow<'static, [Family]>, labels: Labels<'_>) -> usize {
        let labels = render_labels(labels);
        let known = self.sets.iter().position(|set| set.families == families);
        let index = known.unwrap_or_else(|| self.add_set(families));
        let set = &mut self.sets[index];
        if let Some(at) = set.at.get(labels.as_str()) {
            return *at;
        }
        let at = self.next;
        self.next += set.families.iter().map(|f| f.kind.cells()).sum::<usize>();
        set.at.insert(labels.into(), at);
        at
    }

    fn add_set(&mut self, families: Cow<'static, [Family]>) -> usize {
        let index = self.sets.len();
        let mut offset = 0;
        for family in families.iter() {
            let shown = self.shown.entry(family.name).or_insert_with(|| Shown {
                kind: family.kind,
                help: family.help,
                parts: Vec::new(),
            });
            shown.parts.push(Part {
                set: index,
                offset,
                fixed: family
                    .fixed
                    .map_or_else(String::new, |label| render_labels(&[label])),
            });
            offset += family.kind.cells();
        }
        self.sets.push(Set {
            families,
            at: HashMap::new(),
        });
        index
    }

    /// What the series of this name and these labels is, and where.
    pub(super) fn find(&self, family: &str, labels: Labels<'_>) -> Option<(Kind, usize)> {
        let shown = self.shown.get(family)?;
        let labels = render_labels(labels);
        let at = |part: &Part| {
            let own = labels.strip_prefix(part.fixed.as_str())?;
            let own = if part.fixed.is_empty() {
                own
            } else {
                own.trim_start_matches(',')
            };
            Some(self.sets[part.set].at.get(own)? + part.offset)
        };
        Some((shown.kind, shown.parts.iter().find_map(at)?))
    }

    /// All there is, in the order in which it is shown, to be read without the lock.
    pub(super) fn snapshot(&self) -> Snapshot {
        let of_set = |set: &Set| set.at.iter().map(|(l, at)| (Arc::clone(l), *at)).collect();
        Snapshot {
            shown: self.shown.clone(),
            sets: self.sets.iter().map(of_set).collect(),
        }
    }
}

/// Names at a moment.
pub(super) struct Snapshot {
    pub(super) shown: BTreeMap<&'static str, Shown>,
    /// Labels and first cell of each series of each set.
    pub(super) sets: Vec<Vec<(Arc<str>, usize)>>,
}

/// `a="x",b="y"`, escaped as Prometheus' text format wants it.
fn render_labels(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}
