use super::super::shares::{Candidate, Shares};
use super::{Bounds, MersenneTwister};
use proptest::prelude::*;

fn bounds(weights: &[u32], factor: u32) -> Bounds {
    let candidates: Vec<_> = (0..)
        .zip(weights)
        .map(|(endpoint, weight)| Candidate {
            endpoint,
            key: "",
            weight: *weight,
        })
        .collect();
    Bounds::new(&Shares::of(&candidates), factor)
}

/// The C++ standard says what the 10,000th number of the usual seed is.
#[test]
fn the_random_numbers_are_those_of_the_standard() {
    let mut random = MersenneTwister::new(5489);
    let last = (0..10_000).map(|_| random.next()).last();
    assert_eq!(last, Some(4_123_659_995));
}

#[test]
fn an_endpoint_within_its_bound_keeps_what_its_hash_gives_it() {
    let bounds = bounds(&[1, 1, 1, 1], 150);
    // 40 in flight and one more: 62 slots in all, 16 for each.
    assert_eq!(bounds.pick(7, 2, 40, |_| 16), 2);
    assert_ne!(bounds.pick(7, 2, 40, |i| if i == 2 { 17 } else { 16 }), 2);
}

#[test]
fn where_all_are_overloaded_the_least_overloaded_is_picked() {
    let bounds = bounds(&[1, 1, 2], 100);
    let loads = [30, 20, 25];
    for hash in 0..50 {
        let picked = bounds.pick(hash, 0, 3, |i| loads[i as usize]);
        assert_eq!(picked, 2, "its weight is twice that of the others");
    }
}

proptest! {
    #[test]
    fn one_hash_always_leads_to_the_same_other_endpoint(hash: u64, len in 2_usize..30) {
        let bounds = bounds(&vec![1; len], 120);
        let load = |i: u32| if i == 1 { 1000 } else { 0 };
        let first = bounds.pick(hash, 1, 1000, load);
        prop_assert_ne!(first, 1);
        prop_assert_eq!(first, bounds.pick(hash, 1, 1000, load));
    }

    #[test]
    fn no_endpoint_gets_more_than_its_bound_and_one(
        weights in prop::collection::vec(1_u32..5, 2..12), factor in 100_u32..300, seed: u64,
    ) {
        let bounds = bounds(&weights, factor);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut loads = vec![0_u32; weights.len()];
        for total in 0..500 {
            // All hashes lead to one endpoint.
            let picked = bounds.pick(rng.u64(..), 0, total, |i| loads[i as usize]);
            loads[picked as usize] += 1;
        }
        let sum = f64::from(weights.iter().sum::<u32>());
        for (weight, load) in weights.iter().zip(&loads) {
            let bound = (f64::from(factor) / 100.0 * 501.0).ceil() * f64::from(*weight) / sum;
            prop_assert!(f64::from(*load) <= bound.ceil() + 1.0, "{weights:?}: {loads:?}");
        }
    }
}
