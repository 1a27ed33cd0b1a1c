//! Lists of CIDRs: a set and a rule for each family, or two where nf_tables looks up most of them
//! in a hash table.

use ipnet::IpNet;
use shunt_abi::name::set;

use super::Planner;
use crate::hashed;
use crate::ranges::{Ranges, Scalar, v4_block, v6_block};
use crate::ruleset::{AddressTest, Elements, Family};

/// What a list is called in a family, and what its blocks are called where they stand apart.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) list: &'static str,
    pub(super) blocks: &'static str,
}

/// The names for IPv4, and those for IPv6.
pub(super) type ByFamily = [Names; 2];

/// Sets of clients that pass.
pub(super) const INBOUND_EXCLUDE: ByFamily = [
    Names {
        list: set::INBOUND_EXCLUDE_V4,
        blocks: set::INBOUND_EXCLUDE_BLOCKS_V4,
    },
    Names {
        list: set::INBOUND_EXCLUDE_V6,
        blocks: set::INBOUND_EXCLUDE_BLOCKS_V6,
    },
];

/// Sets of destinations that pass.
pub(super) const OUTBOUND_EXCLUDE: ByFamily = [
    Names {
        list: set::OUTBOUND_EXCLUDE_V4,
        blocks: set::OUTBOUND_EXCLUDE_BLOCKS_V4,
    },
    Names {
        list: set::OUTBOUND_EXCLUDE_V6,
        blocks: set::OUTBOUND_EXCLUDE_BLOCKS_V6,
    },
];

/// Sets of destinations that are captured.
pub(super) const OUTBOUND_INCLUDE: ByFamily = [
    Names {
        list: set::OUTBOUND_INCLUDE_V4,
        blocks: set::OUTBOUND_INCLUDE_BLOCKS_V4,
    },
    Names {
        list: set::OUTBOUND_INCLUDE_V6,
        blocks: set::OUTBOUND_INCLUDE_BLOCKS_V6,
    },
];

impl Planner<'_> {
    /// CIDRs split by family, and within it as [`hashed`] does, into sets: for each that is not
    /// empty, the key of its rule and the test for it. Any may hold for the list to hold.
    pub(super) fn cidrs(
        &mut self,
        [sets_v4, sets_v6]: ByFamily,
        [keys_v4, keys_v6]: ByFamily,
        cidrs: &[IpNet],
    ) -> Vec<(&'static str, AddressTest)> {
        let v4 = cidrs.iter().filter_map(|cidr| match cidr {
            IpNet::V4(block) => Some(v4_block(block)),
            IpNet::V6(_) => None,
        });
        let v4 = self.parts(v4.collect()).map(Elements::V4);
        let v6 = cidrs.iter().filter_map(|cidr| match cidr {
            IpNet::V6(block) if self.ipv6 => Some(v6_block(block)),
            _ => None,
        });
        let v6 = self.parts(v6.collect()).map(Elements::V6);

        let mut tests = Vec::new();
        for (family, sets, keys, [list, blocks]) in [
            (Family::V4, sets_v4, keys_v4, v4),
            (Family::V6, sets_v6, keys_v6, v6),
        ] {
            for (set, key, elements) in [
                (sets.list, keys.list, list),
                (sets.blocks, keys.blocks, blocks),
            ] {
                let set = self.set(set, is_empty(&elements), elements);
                tests.extend(set.map(|set| (key, AddressTest::In(family, set))));
            }
        }
        tests
    }

    /// The list, or what is left of it, and the blocks that stand apart.
    fn parts<T: Scalar>(&self, list: Ranges<T>) -> [Ranges<T>; 2] {
        if !self.hashes {
            return [list, Ranges::default()];
        }
        match hashed::split(list) {
            [hashed, list] if hashed.is_empty() => [list, hashed],
            both => both,
        }
    }
}

fn is_empty(elements: &Elements) -> bool {
    match elements {
        Elements::V4(blocks) => blocks.is_empty(),
        Elements::V6(blocks) => blocks.is_empty(),
        _ => false,
    }
}
