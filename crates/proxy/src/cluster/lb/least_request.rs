//! `LEAST_REQUEST`, for endpoints of equal weights: of a few at random the one with the least in
//! flight. (With unequal weights it is [`super::edf`] with weights that shrink with what is in
//! flight.)

/// The endpoint of `len` with the least in flight among `choices` that are taken at random, which
/// may be the same ones; the first of those that are equal. `None` where there is none.
pub fn of_some(
    len: u32,
    choices: u32,
    mut random: impl FnMut() -> u64,
    load: impl Fn(u32) -> u32,
) -> Option<u32> {
    let sample = |random: u64| {
        let at = random.checked_rem(u64::from(len))?;
        u32::try_from(at).ok()
    };
    let mut least = sample(random())?;
    let mut of_least = load(least);
    for _ in 1..choices {
        let other = sample(random())?;
        let of_other = load(other);
        if of_other < of_least {
            (least, of_least) = (other, of_other);
        }
    }
    Some(least)
}

/// The endpoint of `len` with the least in flight among all; any of those that are equal.
pub fn of_all(len: u32, mut random: impl FnMut() -> u64, load: impl Fn(u32) -> u32) -> Option<u32> {
    let mut least = None;
    let mut equal = 0;
    for endpoint in 0..len {
        let load = load(endpoint);
        match least {
            Some((of_least, _)) if load > of_least => {}
            Some((of_least, _)) if load == of_least => {
                // Each of `equal` is kept with the same chance.
                equal += 1;
                if random().is_multiple_of(equal) {
                    least = Some((load, endpoint));
                }
            }
            _ => {
                equal = 1;
                least = Some((load, endpoint));
            }
        }
    }
    least.map(|(_, endpoint)| endpoint)
}

#[cfg(test)]
mod tests;
