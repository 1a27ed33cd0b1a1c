//! Prometheus' text format 0.0.4, as Envoy's admin interface serves it.
//!
//! Our own writer, because `prometheus-client` appends `_total` to the name of every counter and
//! so cannot say Envoy's names.

use super::names::{BUCKETS, Kind, Snapshot};
use super::slab::Slab;
use std::fmt::Write as _;
use std::sync::Arc;

/// The cells of all slabs, summed.
pub(super) struct Sum<'a>(pub(super) &'a [Arc<Slab>]);

impl Sum<'_> {
    fn at(&self, at: usize) -> u64 {
        let of_slab = |slab: &Arc<Slab>| slab.get(at);
        self.0.iter().map(of_slab).fold(0, u64::wrapping_add)
    }

    fn touched(&self, kind: Kind, at: usize) -> bool {
        (at..at + kind.cells()).any(|at| self.0.iter().any(|slab| slab.get(at) != 0))
    }

    /// A counter's value, a histogram's count, a gauge's level.
    pub(super) fn value(&self, kind: Kind, at: usize) -> i64 {
        let value = match kind {
            Kind::Counter => self.at(at),
            // What was taken away is read first: a gauge may seem higher for a moment, but never
            // below zero.
            Kind::Gauge => {
                let taken = self.at(at + 1);
                self.at(at).wrapping_sub(taken)
            }
            Kind::Histogram => (at..=at + BUCKETS.len()).map(|at| self.at(at)).sum(),
        };
        value.cast_signed()
    }
}

/// Everything that was ever touched, sorted by name and labels.
pub(super) fn render(mut names: Snapshot, sum: &Sum<'_>) -> String {
    names.sets.iter_mut().for_each(|set| set.sort_unstable());
    let mut out = String::new();
    let mut labels = String::new();
    for (name, family) in &names.shown {
        let mut headed = false;
        for part in &family.parts {
            for (own, at) in &names.sets[part.set] {
                let at = at + part.offset;
                if !sum.touched(family.kind, at) {
                    continue;
                }
                // Writing to a string cannot fail.
                if !std::mem::replace(&mut headed, true) {
                    let kind = family.kind.name();
                    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
                }
                labels.clear();
                labels.push_str(&part.fixed);
                if !labels.is_empty() && !own.is_empty() {
                    labels.push(',');
                }
                labels.push_str(own);
                match family.kind {
                    Kind::Counter | Kind::Gauge => {
                        let value = sum.value(family.kind, at);
                        let _ = writeln!(out, "{name}{{{labels}}} {value}");
                    }
                    Kind::Histogram => histogram(&mut out, name, &labels, at, sum),
                }
            }
        }
    }
    out
}

fn histogram(out: &mut String, name: &str, labels: &str, at: usize, sum: &Sum<'_>) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for (index, bound) in BUCKETS.iter().chain(&["+Inf"]).enumerate() {
        count += sum.at(at + index);
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
        );
    }
    let total = sum.at(at + BUCKETS.len() + 1);
    let _ = writeln!(
        out,
        "{name}_sum{{{labels}}} {total}\n{name}_count{{{labels}}} {count}"
    );
}
