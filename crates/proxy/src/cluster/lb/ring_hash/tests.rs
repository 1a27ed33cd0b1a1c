use super::super::endpoints::{candidates, keys};
use super::super::hash::xx64;
use super::super::shares::{Candidate, Shares};
use super::Ring;
use crate::model::{HashFunction, RingHash};
use proptest::prelude::*;

const USUAL: RingHash = RingHash {
    minimum_size: 1024,
    maximum_size: 8 << 20,
    function: HashFunction::Xx,
};

fn ring(candidates: &[Candidate<'_>], config: &RingHash) -> Ring {
    Ring::build(&Shares::of(candidates), config)
}

#[test]
fn without_an_endpoint_nothing_is_picked() {
    let ring = ring(&[], &USUAL);
    assert!(ring.is_empty());
    assert_eq!(ring.pick(1), None);
}

#[test]
fn a_hash_leads_to_the_first_place_at_or_after_it_and_past_the_last_to_the_first() {
    let keys = keys(3);
    let config = RingHash {
        minimum_size: 3,
        ..USUAL
    };
    let ring = ring(&candidates(&keys, &[]), &config);
    let mut places: Vec<(u64, u32)> = (0..)
        .zip(&keys)
        .map(|(i, key)| (xx64(format!("{key}_0").as_bytes()), i))
        .collect();
    places.sort_unstable();
    for (i, (hash, endpoint)) in places.iter().enumerate() {
        assert_eq!(ring.pick(*hash), Some(*endpoint));
        let after = places[(i + 1) % places.len()].1;
        assert_eq!(ring.pick(hash.wrapping_add(1)), Some(after));
    }
    assert_eq!(ring.pick(0), Some(places[0].1));
}

#[test]
fn all_have_a_whole_number_of_places_unless_that_is_too_many() {
    let keys = keys(3);
    assert_eq!(ring(&candidates(&keys, &[]), &USUAL).len(), 3 * 342);
    let small = RingHash {
        minimum_size: 1,
        maximum_size: 8,
        ..USUAL
    };
    assert_eq!(ring(&candidates(&keys, &[1, 100, 100]), &small).len(), 8);
}

#[test]
fn the_hash_function_decides_the_places() {
    let keys = keys(5);
    let candidates = candidates(&keys, &[]);
    let murmur = RingHash {
        function: HashFunction::Murmur2,
        ..USUAL
    };
    let (xx, murmur) = (ring(&candidates, &USUAL), ring(&candidates, &murmur));
    let differ = |i: u64| xx.pick(i.wrapping_mul(u64::MAX / 100)) != murmur.pick(i);
    assert!((0..100).any(differ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn when_an_endpoint_leaves_only_what_went_to_it_moves(
        count in 2_u32..40, gone in any::<prop::sample::Index>(), seed: u64,
    ) {
        let keys = keys(count);
        let mut candidates = candidates(&keys, &[]);
        // Whole numbers of places, the same before and after.
        let before = RingHash { minimum_size: count * 50, ..USUAL };
        let after = RingHash { minimum_size: (count - 1) * 50, ..USUAL };
        let before = ring(&candidates, &before);
        let gone = candidates.remove(gone.index(keys.len())).endpoint;
        let after = ring(&candidates, &after);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let hash = rng.u64(..);
            let was = before.pick(hash);
            if was != Some(gone) {
                prop_assert_eq!(was, after.pick(hash));
            }
        }
    }

    #[test]
    fn requests_are_in_proportion_to_weights(
        weights in prop::collection::vec(1_u32..6, 1..12), seed: u64,
    ) {
        let keys = keys(u32::try_from(weights.len()).expect("few"));
        let config = RingHash { minimum_size: 50_000, ..USUAL };
        let ring = ring(&candidates(&keys, &weights), &config);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..20_000 {
            counts[ring.pick(rng.u64(..)).expect("not empty") as usize] += 1;
        }
        let sum = f64::from(weights.iter().sum::<u32>());
        for (weight, count) in weights.iter().zip(&counts) {
            let due = 20_000.0 * f64::from(*weight) / sum;
            let off = (f64::from(*count) - due).abs();
            prop_assert!(off <= 0.15 * due + 60.0, "{weights:?}: {counts:?}");
        }
    }
}
