//! `MAGLEV`: a table of endpoints, as long as a prime number, that a hash is an index of.
//!
//! Each endpoint has an order of its own in which it would like to have the slots; they take turns
//! in choosing the first one that is free, more often the greater their weight. When an endpoint
//! leaves, few slots of others change hands. (Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, section 3.4.)

use super::hash::{xx64, xx64_from};
use super::shares::{Share, Shares};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The table of one version of a cluster's endpoints.
#[derive(Debug)]
pub struct Maglev {
    slots: Slots,
    /// Which endpoint a number in a slot is.
    endpoints: Box<[u32]>,
}

/// Numbers of endpoints, as small as they can be: there may be many tables.
#[derive(Debug)]
enum Slots {
    Few(Box<[u8]>),
    Some(Box<[u16]>),
    Many(Box<[u32]>),
}

/// An endpoint that takes turns.
struct Chooser {
    /// The slot that it would like next.
    wants: u64,
    /// How far it is to the one after that; less than the table is long, and not 0.
    skip: u64,
    part: f64,
    /// What it has to have saved up for its next turn.
    costs: f64,
}

impl Chooser {
    fn new(share: &Share<'_>, size: u64) -> Self {
        let key = share.key.as_bytes();
        Self {
            wants: xx64(key) % size,
            skip: xx64_from(1, key) % (size - 1) + 1,
            part: share.part,
            costs: 0.0,
        }
    }

    /// The first round, after `round`, in which it has its next turn.
    fn next_round(&self, round: u32) -> u32 {
        let has_turn = |round: u32| f64::from(round) * self.part >= self.costs;
        let earliest = round.saturating_add(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and a cast of what is too large saturates"
        )]
        let near = (self.costs / self.part) as u32;
        let mut next = near.saturating_sub(1).max(earliest);
        while !has_turn(next) && next < u32::MAX {
            next += 1;
        }
        next
    }

    /// Take the first free slot.
    fn choose(&mut self, taken: &mut [bool], greatest: f64) -> usize {
        self.costs += greatest;
        let size = taken.len() as u64;
        loop {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is less than the length of a slice"
            )]
            let slot = self.wants as usize;
            self.wants = (self.wants + self.skip) % size;
            if !std::mem::replace(&mut taken[slot], true) {
                return slot;
            }
        }
    }
}

impl Maglev {
    /// Build a table of this many slots, a prime number.
    pub fn build(shares: &Shares<'_>, size: u32) -> Self {
        // By key: the order in which they take turns must not be that of the configuration.
        let mut sorted: Vec<&Share<'_>> = shares.all.iter().collect();
        sorted.sort_by_key(|share| share.key);
        let size = size as usize;
        if sorted.is_empty() || size < 2 {
            return Self {
                slots: Slots::Few(Box::default()),
                endpoints: Box::default(),
            };
        }
        let slots = if u8::try_from(sorted.len()).is_ok() {
            Slots::Few(fill(&sorted, shares, size, |number| {
                u8::try_from(number).unwrap_or(u8::MAX)
            }))
        } else if u16::try_from(sorted.len()).is_ok() {
            Slots::Some(fill(&sorted, shares, size, |number| {
                u16::try_from(number).unwrap_or(u16::MAX)
            }))
        } else {
            Slots::Many(fill(&sorted, shares, size, |number| number))
        };
        Self {
            slots,
            endpoints: sorted.iter().map(|share| share.endpoint).collect(),
        }
    }

    /// The endpoint for a hash; `None` where there is none at all.
    pub fn pick(&self, hash: u64) -> Option<u32> {
        let number = match &self.slots {
            Slots::Few(slots) => usize::from(*at(slots, hash)?),
            Slots::Some(slots) => usize::from(*at(slots, hash)?),
            Slots::Many(slots) => *at(slots, hash)? as usize,
        };
        self.endpoints.get(number).copied()
    }
}

fn at<T>(slots: &[T], hash: u64) -> Option<&T> {
    let at = hash.checked_rem(slots.len() as u64)?;
    slots.get(usize::try_from(at).ok()?)
}

/// Let them take turns until the table is full.
fn fill<T: Copy + Default>(
    sorted: &[&Share<'_>],
    shares: &Shares<'_>,
    size: usize,
    number: impl Fn(u32) -> T,
) -> Box<[T]> {
    let mut slots = vec![T::default(); size].into_boxed_slice();
    let mut taken = vec![false; size];
    let mut choosers: Vec<Chooser> = sorted
        .iter()
        .map(|share| Chooser::new(share, size as u64))
        .collect();
    #[expect(
        clippy::float_cmp,
        reason = "where all are the same, the least is the greatest"
    )]
    let alike = shares.least == shares.greatest;
    // Who is next: in each round all that have a turn, in order. Where all are alike all have one
    // in the same rounds.
    let mut turns: BinaryHeap<Reverse<(u32, u32)>> = if alike {
        BinaryHeap::new()
    } else {
        (0..).zip(&choosers).map(|(i, _)| Reverse((1, i))).collect()
    };
    let mut in_turn = (0..u32::try_from(choosers.len()).unwrap_or(u32::MAX)).cycle();
    for _ in 0..size {
        let turn = turns.pop();
        let who = match turn {
            Some(Reverse((_, who))) => who,
            None => in_turn.next().unwrap_or_default(),
        };
        let chooser = &mut choosers[who as usize];
        let slot = chooser.choose(&mut taken, shares.greatest);
        slots[slot] = number(who);
        if let Some(Reverse((round, who))) = turn {
            turns.push(Reverse((chooser.next_round(round), who)));
        }
    }
    slots
}

#[cfg(test)]
mod tests;
