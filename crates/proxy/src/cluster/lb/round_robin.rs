//! `ROUND_ROBIN`: endpoints in turn.

/// One worker's place in one cluster's endpoints.
///
/// Each worker has a cursor of its own, so picking shares nothing. In any `len` picks in a row
/// from a set that does not change, each endpoint is picked once. When the set changes the cursor
/// goes on from where it is.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// A cursor that starts at `offset`, taken modulo the number of endpoints. Give each cursor a
    /// random one: workers and pods that all begin at the first endpoint load it in step.
    pub fn starting_at(offset: u16) -> Self {
        Self {
            next: usize::from(offset),
        }
    }

    /// The next of `len` endpoints, `0..len`; `None` where there is none.
    pub fn pick(&mut self, len: usize) -> Option<usize> {
        let index = self.next.checked_rem(len)?;
        self.next = self.next.wrapping_add(1);
        Some(index)
    }
}

#[cfg(test)]
mod tests;
