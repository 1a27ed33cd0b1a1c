use super::Schedule;
use proptest::prelude::*;

#[test]
fn without_an_endpoint_nothing_is_picked() {
    let mut schedule = Schedule::new(std::iter::empty(), || 1.0);
    assert_eq!(schedule.pick(|_| 1.0), None);
}

#[test]
fn turns_of_a_heavy_endpoint_lie_between_those_of_others() {
    let weights = [4.0, 2.0, 2.0];
    let mut schedule = Schedule::new(weights.into_iter(), || 1.0);
    let picked: Vec<_> = (0..8)
        .filter_map(|_| schedule.pick(|i| weights[i as usize]))
        .collect();
    assert_eq!(picked, [0, 0, 1, 2, 0, 0, 1, 2]);
}

#[test]
fn a_weight_that_shrinks_is_heeded_at_the_next_turn() {
    let mut schedule = Schedule::new([1.0, 1.0].into_iter(), || 1.0);
    let picked: Vec<_> = (0..9)
        .filter_map(|_| schedule.pick(|i| if i == 0 { 1.0 } else { 0.125 }))
        .collect();
    let of_second = picked.iter().filter(|&&i| i == 1).count();
    assert_eq!(of_second, 1, "{picked:?}");
}

proptest! {
    #[test]
    fn in_rounds_of_the_sum_of_the_weights_each_is_picked_as_often_as_its_weight(
        weights in prop::collection::vec(1_u32..20, 1..10),
        phases in prop::collection::vec(0.0_f64..1.0, 10),
    ) {
        let mut phase = phases.into_iter();
        let schedule = weights.iter().map(|w| f64::from(*w));
        let mut schedule = Schedule::new(schedule, || phase.next().unwrap_or_default());
        let mut picked = vec![0_u32; weights.len()];
        for _ in 0..weights.iter().sum::<u32>() * 10 {
            let endpoint = schedule.pick(|i| f64::from(weights[i as usize])).expect("not empty");
            picked[endpoint as usize] += 1;
        }
        for (weight, picked) in weights.iter().zip(&picked) {
            prop_assert!(picked.abs_diff(weight * 10) <= 1, "{weights:?}: {picked:?}");
        }
    }
}
