//! Endpoints for the tests of tables of hashes.

use super::shares::Candidate;

pub(super) fn keys(count: u32) -> Vec<String> {
    (0..count)
        .map(|i| format!("10.0.{}.{}:8080", i / 256, i % 256))
        .collect()
}

/// An endpoint for each key; those for which there is no weight have the weight 1.
pub(super) fn candidates<'a>(keys: &'a [String], weights: &[u32]) -> Vec<Candidate<'a>> {
    let weights = weights.iter().copied().chain(std::iter::repeat(1));
    let places = (0..).zip(keys).zip(weights);
    places
        .map(|((endpoint, key), weight)| Candidate {
            endpoint,
            key,
            weight,
        })
        .collect()
}
