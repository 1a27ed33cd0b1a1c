//! Endpoints in turn by weight: earliest deadline first.
//!
//! Each endpoint is due every `1 / weight`, and the one whose time comes first is picked. So turns
//! of a heavy endpoint lie between those of others, never many in a row.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One worker's schedule of one cluster's endpoints.
#[derive(Debug, Clone)]
pub struct Schedule {
    heap: BinaryHeap<Turn>,
}

/// When an endpoint is due.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    due: f64,
    endpoint: u32,
}

impl Eq for Turn {}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        // The greatest of a heap comes out first: the one that is due first.
        let by_time = other.due.total_cmp(&self.due);
        by_time.then_with(|| other.endpoint.cmp(&self.endpoint))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Schedule {
    /// A schedule that begins at a random moment: workers and pods that all begin at the same one
    /// load the first endpoint in step. `random` gives numbers from 0 to 1.
    pub fn new(weights: impl Iterator<Item = f64>, mut random: impl FnMut() -> f64) -> Self {
        let turns = (0..).zip(weights).map(|(endpoint, weight)| Turn {
            due: random() / weight,
            endpoint,
        });
        Self {
            heap: turns.collect(),
        }
    }

    /// The endpoint that is due, and when it is due again by the weight that it has now, which is
    /// more than 0; `None` where there is no endpoint.
    pub fn pick(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut turn = self.heap.peek_mut()?;
        let endpoint = turn.endpoint;
        turn.due += 1.0 / weight(endpoint);
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests;
