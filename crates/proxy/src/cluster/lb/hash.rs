//! Hash functions, with the seeds that Envoy uses: what they give decides which endpoint a client
//! is sent to, and must be the same in a mixed fleet.

use twox_hash::XxHash64;

/// The seed of MurmurHash2 in `std::hash` of GNU libstdc++.
const MURMUR_SEED: u64 = 0xc70f_6907;

/// xxHash64 with the seed 0.
pub fn xx64(bytes: &[u8]) -> u64 {
    xx64_from(0, bytes)
}

/// xxHash64 with this seed.
pub fn xx64_from(seed: u64, bytes: &[u8]) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// MurmurHash2 of 64 bits (MurmurHash64A), as `std::hash<std::string>` of GNU libstdc++ gives it.
pub fn murmur2(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    let mixed = |word: u64| word ^ (word >> 47);
    let length = bytes.len() as u64;
    let mut hash = MURMUR_SEED ^ length.wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        hash = (hash ^ mixed(word).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    mixed(mixed(hash).wrapping_mul(MULTIPLIER))
}

#[cfg(test)]
mod tests;
