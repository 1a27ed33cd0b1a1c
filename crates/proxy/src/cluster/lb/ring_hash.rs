//! `RING_HASH`: each endpoint has many places on a ring (Ketama), by the hashes of its key with a
//! number; a request goes to the first place at or after its own hash.
//!
//! When an endpoint leaves, what went to it is spread over all others and nothing else moves.

use super::hash::{murmur2, xx64};
use super::shares::Shares;
use crate::model::{HashFunction, RingHash};
use std::fmt::Write as _;

/// The ring of one version of a cluster's endpoints.
#[derive(Debug)]
pub struct Ring {
    /// In order.
    hashes: Box<[u64]>,
    /// Whose they are.
    endpoints: Box<[u32]>,
}

impl Ring {
    /// Build a ring of between `minimum_size` and `maximum_size` places, such that the endpoint
    /// with the least part has a whole number of them, where that many are allowed.
    pub fn build(shares: &Shares<'_>, config: &RingHash) -> Self {
        let (minimum, maximum) = (
            f64::from(config.minimum_size),
            f64::from(config.maximum_size),
        );
        let scale = ((shares.least * minimum).ceil() / shares.least).min(maximum);
        let hash = match config.function {
            HashFunction::Xx => xx64,
            HashFunction::Murmur2 => murmur2,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative and at most the maximum, which has 32 bits"
        )]
        let mut places: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize);
        let mut key = String::new();
        // Running sums: where parts are no whole numbers, rounding evens out.
        let (mut placed, mut due) = (0.0, 0.0);
        for share in &shares.all {
            due += scale * share.part;
            key.clear();
            key.push_str(share.key);
            key.push('_');
            let prefix = key.len();
            for number in 0_u32.. {
                if placed >= due {
                    break;
                }
                key.truncate(prefix);
                // Writing into a text does not fail.
                let _written = write!(key, "{number}");
                places.push((hash(key.as_bytes()), share.endpoint));
                placed += 1.0;
            }
        }
        places.sort_unstable();
        Self {
            hashes: places.iter().map(|(hash, _)| *hash).collect(),
            endpoints: places.iter().map(|(_, endpoint)| *endpoint).collect(),
        }
    }

    /// The endpoint for a hash; `None` where there is none at all.
    pub fn pick(&self, hash: u64) -> Option<u32> {
        let at = self.hashes.partition_point(|place| *place < hash);
        self.endpoints
            .get(at)
            .or_else(|| self.endpoints.first())
            .copied()
    }

    /// How many places it has.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

#[cfg(test)]
mod tests;
