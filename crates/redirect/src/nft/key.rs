//! Set elements as the kernel keeps them: bytes in network order, intervals as a first key and an
//! "interval end" key one past the last.

use crate::nft::attr::Malformed;
use crate::ranges::{Ranges, Scalar};

/// A number that can be an element of an interval set.
pub(crate) trait Key: Scalar {
    fn to_bytes(self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    fn predecessor(self) -> Option<Self>;
}

macro_rules! key {
    ($($number:ty),+) => {$(
        impl Key for $number {
            fn to_bytes(self) -> Vec<u8> {
                self.to_be_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_be_bytes)
            }
            fn predecessor(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )+};
}
key!(u16, u32, u128);

/// An element on the wire: its key, and whether it ends an interval.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) end: bool,
}

/// The elements of an interval set. An interval that reaches the largest value has no end.
pub(crate) fn to_elements<T: Key>(ranges: &Ranges<T>) -> Vec<Element> {
    let mut elements = Vec::new();
    for (first, last) in ranges.iter() {
        elements.push(Element {
            key: first.to_bytes(),
            end: false,
        });
        if let Some(end) = last.successor() {
            elements.push(Element {
                key: end.to_bytes(),
                end: true,
            });
        }
    }
    elements
}

/// The elements of a set without intervals.
pub(crate) fn to_singles<T: Key>(ranges: &Ranges<T>) -> Vec<Element> {
    let singles = ranges.values().map(|value| Element {
        key: value.to_bytes(),
        end: false,
    });
    singles.collect()
}

/// The intervals that the elements of a set without intervals make.
pub(crate) fn from_singles<T: Key>(elements: &[Element]) -> Result<Ranges<T>, Malformed> {
    let keys = elements.iter().map(|element| {
        let key = T::from_bytes(&element.key).ok_or(OTHER_SIZE)?;
        Ok((key, key))
    });
    keys.collect()
}

const OTHER_SIZE: Malformed = Malformed("a set key of another size");

/// The intervals of elements in any order. An end without a start is what `nft` puts below the
/// first interval; it means nothing.
pub(crate) fn from_elements<T: Key>(elements: &[Element]) -> Result<Ranges<T>, Malformed> {
    const NOT_INTERVALS: Malformed = Malformed("set elements that are not intervals");
    let mut keys = Vec::with_capacity(elements.len());
    for element in elements {
        let key = T::from_bytes(&element.key).ok_or(OTHER_SIZE)?;
        keys.push((key, !element.end));
    }
    // Where one interval ends and the next starts, the end comes first.
    keys.sort_unstable();
    let mut intervals = Vec::with_capacity(keys.len() / 2 + 1);
    let mut open = None;
    for (key, start) in keys {
        if start {
            if open.replace(key).is_some() {
                return Err(NOT_INTERVALS);
            }
        } else if let Some(first) = open.take() {
            intervals.push((first, key.predecessor().ok_or(NOT_INTERVALS)?));
        }
    }
    intervals.extend(open.map(|first| (first, T::MAX)));
    Ok(intervals.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::{Element, from_elements, to_elements};
    use crate::ranges::Ranges;
    use proptest::prelude::*;

    #[test]
    fn an_interval_to_the_largest_value_has_no_end() {
        let all: Ranges<u16> = [(9, 65535)].into_iter().collect();
        let start = Element {
            key: vec![0, 9],
            end: false,
        };
        assert_eq!(to_elements(&all), std::slice::from_ref(&start));
        assert_eq!(from_elements(&[start]), Ok(all));
    }

    #[test]
    fn keys_of_another_size_and_nested_starts_are_refused() {
        let start = |key: &[u8]| Element {
            key: key.to_vec(),
            end: false,
        };
        assert!(from_elements::<u32>(&[start(&[1, 2])]).is_err());
        assert!(from_elements::<u16>(&[start(&[0, 2]), start(&[0, 3])]).is_err());
    }

    proptest! {
        #[test]
        fn intervals_survive_the_wire_in_any_order(
            intervals in prop::collection::vec((any::<u32>(), any::<u32>()), 0..20),
            rotation in 0usize..40,
        ) {
            let ranges: Ranges<u32> = intervals.into_iter().collect();
            let mut elements = to_elements(&ranges);
            let middle = rotation.min(elements.len());
            elements.rotate_left(middle);
            prop_assert_eq!(from_elements(&elements), Ok(ranges));
        }
    }
}
