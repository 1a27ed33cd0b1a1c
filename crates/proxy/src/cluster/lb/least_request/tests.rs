use super::{of_all, of_some};
use proptest::prelude::*;

#[test]
fn the_less_loaded_of_two_is_picked_and_the_first_of_equals() {
    let pick = |loads: [u32; 3], samples: [u64; 2]| {
        let mut samples = samples.into_iter();
        let sample = || samples.next().expect("two choices");
        of_some(3, 2, sample, |i| loads[i as usize])
    };
    assert_eq!(pick([5, 1, 9], [0, 1]), Some(1));
    assert_eq!(pick([5, 1, 9], [2, 0]), Some(0));
    assert_eq!(pick([7, 7, 7], [2, 1]), Some(2));
    assert_eq!(pick([0, 1, 1], [4, 5]), Some(1), "modulo the length");
}

#[test]
fn without_an_endpoint_nothing_is_picked() {
    assert_eq!(of_some(0, 2, || 3, |_| 0), None);
    assert_eq!(of_all(0, || 3, |_| 0), None);
}

#[test]
fn of_all_that_are_equal_each_is_picked_as_often() {
    let mut rng = fastrand::Rng::with_seed(7);
    let loads = [3, 1, 1, 9, 1];
    let mut picked = [0_u32; 5];
    for _ in 0..3000 {
        let endpoint = of_all(5, || rng.u64(..), |i| loads[i as usize]).expect("five");
        picked[endpoint as usize] += 1;
    }
    assert_eq!((picked[0], picked[3]), (0, 0));
    for i in [1, 2, 4] {
        assert!((850..1150).contains(&picked[i]), "{picked:?}");
    }
}

proptest! {
    #[test]
    fn the_least_of_all_is_picked(loads in prop::collection::vec(0_u32..50, 1..40), seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = u32::try_from(loads.len()).expect("few");
        let endpoint = of_all(len, || rng.u64(..), |i| loads[i as usize]).expect("not empty");
        prop_assert_eq!(Some(&loads[endpoint as usize]), loads.iter().min());
    }
}
