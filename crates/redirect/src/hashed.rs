//! Which addresses nf_tables keeps in a hash table, and which in a tree of intervals.
//!
//! The kernel fills a table, when it knows the size beforehand, in a quarter of the time that a
//! tree of as many intervals takes (docs/bench.md), but a table holds single addresses only. So of a
//! long list of CIDRs the addresses stand in a table, and the blocks in a tree beside it.
//!
//! What a set is follows from what it holds, so that equal rule sets stay equal on their way to the
//! kernel and back.

use crate::ranges::{Ranges, Scalar};
use crate::ruleset::Elements;

/// From how many addresses on a table is worth it.
const FEWEST: usize = 256;

/// The longest interval that a table holds, address by address. Three addresses cost there as much
/// as their interval does in a tree.
const LONGEST: usize = 2;

/// How many addresses the table holds that these elements stand in; `None`: they stand in a tree.
pub(crate) fn size(elements: &Elements) -> Option<u32> {
    fn of<T: Scalar>(addresses: &Ranges<T>) -> Option<usize> {
        addresses
            .iter()
            .all(is_short)
            .then(|| addresses.values().count())
    }
    let size = match elements {
        Elements::V4(addresses) => of(addresses),
        Elements::V6(addresses) => of(addresses),
        Elements::Ports(_) | Elements::Uids(_) | Elements::Gids(_) => None,
    };
    size.filter(|size| *size >= FEWEST)?.try_into().ok()
}

/// What of these addresses stands in a table, and what in a tree; one of both may be empty.
pub(crate) fn split<T: Scalar>(addresses: Ranges<T>) -> [Ranges<T>; 2] {
    let [short, long] = [true, false].map(|short| {
        let part = addresses.iter().filter(|range| is_short(*range) == short);
        part.collect::<Ranges<T>>()
    });
    if short.values().count() < FEWEST {
        return [Ranges::default(), addresses];
    }
    [short, long]
}

fn is_short<T: Scalar>((first, last): (T, T)) -> bool {
    let range: Ranges<T> = [(first, last)].into_iter().collect();
    range.values().take(LONGEST + 1).count() <= LONGEST
}

#[cfg(test)]
mod tests {
    use super::{FEWEST, size, split};
    use crate::ranges::Ranges;
    use crate::ruleset::Elements;
    use proptest::prelude::*;

    /// `count` addresses of which no two are neighbours.
    fn apart(count: usize) -> impl Iterator<Item = (u32, u32)> {
        (0..count).map(|n| {
            let address = 0x0a00_0000 + 2 * u32::try_from(n).unwrap();
            (address, address)
        })
    }

    fn of(ranges: impl IntoIterator<Item = (u32, u32)>) -> Ranges<u32> {
        ranges.into_iter().collect()
    }

    #[test]
    fn pairs_count_twice_and_nothing_longer_is_hashed() {
        let addresses = |ranges| Elements::V4(of(ranges));
        assert_eq!(
            size(&addresses(apart(FEWEST - 1).collect::<Vec<_>>())),
            None
        );
        assert_eq!(size(&addresses(apart(FEWEST).collect())), Some(256));
        let with = |more: (u32, u32)| addresses(apart(FEWEST - 1).chain([more]).collect());
        assert_eq!(size(&with((1, 2))), Some(257), "two neighbours");
        assert_eq!(size(&with((1, 3))), None, "three");
        assert_eq!(size(&with((0, u32::MAX))), None, "all");
        let ports = (0..600).map(|n| (2 * n, 2 * n)).collect();
        assert_eq!(size(&Elements::Ports(ports)), None);
    }

    #[test]
    fn a_block_among_many_addresses_stands_alone() {
        let blocks = [(0x0b00_0000, 0x0bff_ffff), (1, 2)];
        let [hashed, tree] = split(of(apart(1000).chain(blocks)));
        assert_eq!(hashed, of(apart(1000).chain([(1, 2)])));
        assert_eq!(tree, of([(0x0b00_0000, 0x0bff_ffff)]));

        let few = of(apart(FEWEST - 1).chain([(0x0b00_0000, 0x0bff_ffff)]));
        assert_eq!(split(few.clone()), [Ranges::default(), few]);
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_and_what_they_are_called(
            ranges in prop::collection::vec((0u32..4000, 0u32..5), 0..600),
        ) {
            let whole: Ranges<u32> = of(ranges.into_iter().map(|(at, more)| (at, at + more)));
            let [hashed, tree] = split(whole.clone());
            let again = of(hashed.iter().chain(tree.iter()));
            prop_assert_eq!(&again, &whole);
            prop_assert_eq!(again.iter().len(), hashed.iter().len() + tree.iter().len());
            let is_hashed = |part: &Ranges<u32>| size(&Elements::V4(part.clone())).is_some();
            prop_assert_eq!(is_hashed(&hashed), !hashed.is_empty());
            prop_assert!(!is_hashed(&tree));
        }
    }
}
