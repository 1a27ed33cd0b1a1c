//! Sets in a language that has none: address blocks, one a rule, and ports, fifteen a rule.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::ranges::{Ranges, Scalar, v6_text};

/// Ports that one `multiport` holds; a range takes two places
/// (`XT_MULTI_PORTS`, include/uapi/linux/netfilter/xt_multiport.h).
const PLACES: usize = 15;

/// The fewest CIDR blocks that cover an interval exactly, as iptables prints them; the whole
/// address space is `None`, because iptables prints no test for it.
pub(super) fn v4_blocks(ranges: &Ranges<u32>) -> Vec<Option<String>> {
    let blocks = ranges
        .iter()
        .flat_map(|(first, last)| blocks(first.into(), last.into(), 32));
    blocks
        .map(|(first, length)| {
            let bits = u32::try_from(first).unwrap_or_default();
            (length > 0).then(|| format!("{}/{length}", Ipv4Addr::from_bits(bits)))
        })
        .collect()
}

/// The same for IPv6.
pub(super) fn v6_blocks(ranges: &Ranges<u128>) -> Vec<Option<String>> {
    let blocks = ranges
        .iter()
        .flat_map(|(first, last)| blocks(first, last, 128));
    blocks
        .map(|(first, length)| {
            (length > 0).then(|| format!("{}/{length}", v6_text(Ipv6Addr::from_bits(first))))
        })
        .collect()
}

/// First address and prefix length of each block, in addresses of `width` bits.
fn blocks(first: u128, last: u128, width: u32) -> Vec<(u128, u32)> {
    let mut blocks = Vec::new();
    let mut next = Some(first);
    while let Some(start) = next.filter(|start| *start <= last) {
        // As large as the alignment of its first address and what is left allow.
        let aligned = start.trailing_zeros().min(width);
        let fits = (aligned + 1).min(128);
        let size = (0..=fits)
            .rev()
            .filter(|bits| *bits <= aligned)
            .find(|bits| last - start >= mask(*bits))
            .unwrap_or_default();
        blocks.push((start, width - size));
        next = start.checked_add(mask(size)).and_then(u128::successor);
    }
    blocks
}

/// The lowest `bits` bits.
fn mask(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}

/// Lists of ports and ranges as `multiport` takes them.
pub(super) fn multiports(ports: &Ranges<u16>) -> Vec<String> {
    let mut lists: Vec<(usize, String)> = Vec::new();
    for (first, last) in ports.iter() {
        let places = if first == last { 1 } else { 2 };
        let text = port_range(first, last);
        match lists.last_mut() {
            Some((taken, list)) if *taken + places <= PLACES => {
                *taken += places;
                list.push(',');
                list.push_str(&text);
            }
            _ => lists.push((places, text)),
        }
    }
    lists.into_iter().map(|(_, list)| list).collect()
}

/// `port` or `first:last`.
pub(super) fn port_range(first: u16, last: u16) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}:{last}")
    }
}

/// `id` or `first-last`, for each interval.
pub(super) fn ids(ids: &Ranges<u32>) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{blocks, mask, multiports, v4_blocks, v6_blocks};
    use crate::ranges::Ranges;

    fn v4(first: u32, last: u32) -> Vec<String> {
        let ranges: Ranges<u32> = [(first, last)].into_iter().collect();
        let blocks = v4_blocks(&ranges).into_iter();
        blocks.map(|block| block.unwrap_or_default()).collect()
    }

    #[test]
    fn intervals_become_the_fewest_blocks() {
        assert_eq!(v4(0x0a00_0000, 0x0aff_ffff), ["10.0.0.0/8"]);
        assert_eq!(
            v4(0x0a00_0001, 0x0a00_0006),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]
        );
        assert_eq!(v4(u32::MAX, u32::MAX), ["255.255.255.255/32"]);
        assert_eq!(v4(0, u32::MAX), [""], "no test");
        let all: Ranges<u128> = [(0, u128::MAX)].into_iter().collect();
        assert_eq!(v6_blocks(&all), [None]);
        let most: Ranges<u128> = [(1, u128::MAX)].into_iter().collect();
        let blocks = v6_blocks(&most);
        assert_eq!(blocks.len(), 128);
        assert_eq!(blocks[0].as_deref(), Some("::1/128"));
        assert_eq!(blocks[127].as_deref(), Some("8000::/1"));
    }

    #[test]
    fn a_range_takes_two_of_fifteen_places() {
        let ports: Ranges<u16> = (0..14)
            .map(|n| (n * 10 + 1, n * 10 + 1))
            .chain([(1000, 1009), (2000, 2000)])
            .collect();
        assert_eq!(
            multiports(&ports),
            [
                "1,11,21,31,41,51,61,71,81,91,101,111,121,131",
                "1000:1009,2000"
            ]
        );
    }

    proptest! {
        #[test]
        fn blocks_cover_the_interval_and_nothing_else(a in any::<u32>(), b in any::<u32>()) {
            let (first, last) = (u128::from(a.min(b)), u128::from(a.max(b)));
            let mut next = first;
            for (start, length) in blocks(first, last, 32) {
                prop_assert_eq!(start, next);
                next = start + mask(32 - length) + 1;
            }
            prop_assert_eq!(next, last + 1);
        }
    }
}
