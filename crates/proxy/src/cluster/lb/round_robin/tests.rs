use super::RoundRobin;
use proptest::prelude::*;

#[test]
fn nothing_to_pick_from_is_none_and_does_not_move_the_cursor() {
    let mut cursor = RoundRobin::starting_at(1);
    assert_eq!(cursor.pick(0), None);
    assert_eq!(cursor.pick(3), Some(1));
}

#[test]
fn endpoints_are_picked_in_turn_from_the_offset_on() {
    let mut cursor = RoundRobin::starting_at(5);
    let picked: Vec<_> = (0..5).filter_map(|_| cursor.pick(3)).collect();
    assert_eq!(picked, [2, 0, 1, 2, 0]);
}

#[test]
fn a_set_that_shrinks_and_grows_again_leaves_no_endpoint_out() {
    let mut cursor = RoundRobin::starting_at(0);
    let mut picked = [0; 3];
    for len in [3, 1, 3, 1, 3, 1, 3, 2, 3, 2, 3, 2, 3] {
        let index = cursor.pick(len).expect("the set is not empty");
        if len == 3 {
            picked[index] += 1;
        }
    }
    assert!(picked.iter().all(|&count| count > 0), "{picked:?}");
}

proptest! {
    #[test]
    fn each_endpoint_is_picked_once_in_any_len_picks_in_a_row(
        offset: u16, skip in 0_usize..50, len in 1_usize..20,
    ) {
        let mut cursor = RoundRobin::starting_at(offset);
        for _ in 0..skip {
            cursor.pick(len);
        }
        let mut round: Vec<_> = (0..len).filter_map(|_| cursor.pick(len)).collect();
        round.sort_unstable();
        prop_assert_eq!(round, (0..len).collect::<Vec<_>>());
    }
}
