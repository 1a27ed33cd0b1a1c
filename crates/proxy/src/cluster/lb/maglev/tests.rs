use super::super::endpoints::{candidates, keys};
use super::super::shares::{Candidate, Shares};
use super::Maglev;
use proptest::prelude::*;

fn table(candidates: &[Candidate<'_>], size: u32) -> Vec<u32> {
    let maglev = Maglev::build(&Shares::of(candidates), size);
    (0..u64::from(size))
        .map(|hash| maglev.pick(hash).expect("a full table"))
        .collect()
}

fn counts(table: &[u32], endpoints: usize) -> Vec<usize> {
    let mut counts = vec![0; endpoints];
    for endpoint in table {
        counts[*endpoint as usize] += 1;
    }
    counts
}

/// The rounds of the paper, in which everybody is asked in each round whether it has a turn.
fn by_the_book(candidates: &[Candidate<'_>], size: u32) -> Vec<u32> {
    use super::super::hash::{xx64, xx64_from};
    let shares = Shares::of(candidates);
    let mut all = shares.all.clone();
    all.sort_by_key(|share| share.key);
    let size = u64::from(size);
    let mut saved: Vec<f64> = vec![0.0; all.len()];
    let mut next: Vec<u64> = vec![0; all.len()];
    let mut table = vec![None; usize::try_from(size).expect("small")];
    let mut free = table.len();
    for round in 1_u32.. {
        for (i, share) in all.iter().enumerate() {
            if free == 0 {
                return table.into_iter().flatten().collect();
            }
            if f64::from(round) * share.part < saved[i] {
                continue;
            }
            saved[i] += shares.greatest;
            let offset = xx64(share.key.as_bytes()) % size;
            let skip = xx64_from(1, share.key.as_bytes()) % (size - 1) + 1;
            let slot = loop {
                let slot = usize::try_from((offset + skip * next[i]) % size).expect("small");
                next[i] += 1;
                if table[slot].is_none() {
                    break slot;
                }
            };
            table[slot] = Some(share.endpoint);
            free -= 1;
        }
    }
    unreachable!("the rounds do not end before the table is full")
}

#[test]
fn without_an_endpoint_nothing_is_picked() {
    let maglev = Maglev::build(&Shares::of(&[]), 65_537);
    assert_eq!(maglev.pick(1), None);
}

#[test]
fn each_endpoint_has_as_many_slots_as_the_next_or_one_more() {
    for count in [1, 3, 255, 256, 700] {
        let keys = keys(count);
        let counts = counts(&table(&candidates(&keys, &[]), 65_537), keys.len());
        let (least, most) = (counts.iter().min(), counts.iter().max());
        let (least, most) = (least.expect("some"), most.expect("some"));
        assert!(most - least <= 1, "{count} endpoints: {least} to {most}");
    }
}

#[test]
fn the_order_of_the_configuration_does_not_matter() {
    let keys = keys(20);
    let mut candidates = candidates(&keys, &[3, 1, 2]);
    let before = table(&candidates, 4099);
    candidates.reverse();
    assert_eq!(before, table(&candidates, 4099));
}

#[test]
fn few_slots_change_hands_when_one_of_ten_endpoints_leaves() {
    let keys = keys(10);
    let mut candidates = candidates(&keys, &[]);
    let before = table(&candidates, 65_537);
    candidates.remove(4);
    let after = table(&candidates, 65_537);
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(b, a)| b != a && **b != 4);
    let moved = moved.count();
    assert!(moved * 20 < before.len(), "{moved} of {}", before.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn who_has_a_turn_is_known_without_asking_everybody(
        weights in prop::collection::vec(prop_oneof![1_u32..5, 1_u32..2_000_000], 1..30),
        size in prop::sample::select(vec![2_u32, 31, 251, 1009]),
    ) {
        let keys = keys(u32::try_from(weights.len()).expect("few"));
        let candidates = candidates(&keys, &weights);
        prop_assert_eq!(table(&candidates, size), by_the_book(&candidates, size));
    }

    #[test]
    fn slots_are_in_proportion_to_weights(weights in prop::collection::vec(1_u32..20, 1..20)) {
        let keys = keys(u32::try_from(weights.len()).expect("few"));
        let counts = counts(&table(&candidates(&keys, &weights), 65_537), keys.len());
        let sum = f64::from(weights.iter().sum::<u32>());
        for (weight, count) in weights.iter().zip(&counts) {
            let due = 65_537.0 * f64::from(*weight) / sum;
            let count = f64::from(u32::try_from(*count).expect("small"));
            prop_assert!((count - due).abs() <= 2.0 + due / 100.0, "{weights:?}: {counts:?}");
        }
    }
}
