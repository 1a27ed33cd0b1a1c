//! Sorted, merged intervals: what a set of ports or addresses is, whoever wrote it.
//!
//! Policies name ports and CIDRs in any order and overlapping; the kernel keeps disjoint intervals.
//! Both become [`Ranges`], so equal sets compare equal.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A number type whose intervals are kept: ports (`u16`), IPv4 (`u32`) and IPv6 (`u128`) addresses
/// in host byte order.
pub trait Scalar: Copy + Ord + std::fmt::Debug {
    /// The largest value.
    const MAX: Self;
    /// The value after this one; `None` at [`Self::MAX`].
    fn successor(self) -> Option<Self>;
}

macro_rules! scalar {
    ($($number:ty),+) => {$(
        impl Scalar for $number {
            const MAX: Self = <$number>::MAX;
            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )+};
}
scalar!(u16, u32, u128);

/// Disjoint, sorted, inclusive intervals that do not touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranges<T>(Vec<(T, T)>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Scalar> Ranges<T> {
    /// The intervals in ascending order, both ends included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no interval.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each value of each interval: of some, more than can be counted.
    pub(crate) fn values(&self) -> impl Iterator<Item = T> + '_ {
        self.iter().flat_map(|(first, last)| {
            std::iter::successors(Some(first), move |value| {
                value.successor().filter(|next| *next <= last)
            })
        })
    }

    /// Whether `value` lies in one of the intervals.
    #[must_use]
    pub fn contains(&self, value: T) -> bool {
        self.contains_all((value, value))
    }

    /// Whether each value from `first` to `last` lies in one of the intervals.
    #[must_use]
    pub fn contains_all(&self, (first, last): (T, T)) -> bool {
        // They do not touch: what lies in two of them lies between them, too.
        let after = self.0.partition_point(|&(begin, _)| begin <= first);
        after > 0 && last <= self.0[after - 1].1
    }
}

impl<T: Scalar> FromIterator<(T, T)> for Ranges<T> {
    /// Takes intervals in any order. One whose ends are swapped is read as if they were not.
    fn from_iter<I: IntoIterator<Item = (T, T)>>(intervals: I) -> Self {
        let mut sorted: Vec<(T, T)> = intervals
            .into_iter()
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        sorted.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(previous) if previous.1.successor().is_none_or(|next| first <= next) => {
                    previous.1 = previous.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

/// First and last address of a CIDR block, host byte order.
#[must_use]
pub fn v4_block(block: &ipnet::Ipv4Net) -> (u32, u32) {
    (
        Ipv4Addr::to_bits(block.network()),
        Ipv4Addr::to_bits(block.broadcast()),
    )
}

/// First and last address of a CIDR block, host byte order.
#[must_use]
pub fn v6_block(block: &ipnet::Ipv6Net) -> (u128, u128) {
    (
        Ipv6Addr::to_bits(block.network()),
        Ipv6Addr::to_bits(block.broadcast()),
    )
}

/// An address as `inet_ntop` prints it: Rust does not write the end of a block below `::/96` as
/// IPv4, as tools do.
pub(crate) fn v6_text(address: Ipv6Addr) -> String {
    match u32::try_from(address.to_bits()) {
        Ok(low) if low > 0xffff => format!("::{}", Ipv4Addr::from_bits(low)),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;
    use proptest::prelude::*;

    fn ranges(intervals: &[(u16, u16)]) -> Vec<(u16, u16)> {
        intervals
            .iter()
            .copied()
            .collect::<Ranges<u16>>()
            .iter()
            .collect()
    }

    #[test]
    fn overlapping_and_touching_intervals_merge() {
        assert_eq!(
            ranges(&[(5, 9), (1, 4), (20, 30), (25, 26)]),
            [(1, 9), (20, 30)]
        );
        assert_eq!(ranges(&[(65535, 65535), (0, 65534)]), [(0, 65535)]);
        assert_eq!(ranges(&[(60000, 65535), (65535, 65535)]), [(60000, 65535)]);
        assert_eq!(ranges(&[(1, 2), (4, 5)]), [(1, 2), (4, 5)]);
    }

    proptest! {
        #[test]
        fn membership_is_that_of_the_intervals_given(
            intervals in prop::collection::vec((0u16..200, 0u16..200), 0..20),
            value in 0u16..220,
        ) {
            let merged: Ranges<u16> = intervals.iter().copied().collect();
            let naive = intervals.iter().any(|&(a, b)| a.min(b) <= value && value <= a.max(b));
            prop_assert_eq!(merged.contains(value), naive);
            let all = (value..value + 7).all(|value| merged.contains(value));
            prop_assert_eq!(merged.contains_all((value, value + 6)), all);
            let again: Ranges<u16> = merged.iter().collect();
            prop_assert_eq!(again, merged);
        }
    }
}
