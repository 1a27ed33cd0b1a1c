//! Consistent hashing with bounded loads (`hash_balance_factor`): an endpoint that has more in
//! flight than its share times the factor passes a request on to another one.
//!
//! Which one follows from the hash as well, in the order in which Envoy tries them, so that a
//! client meets the same few endpoints. (Mirrokni et al., arXiv:1608.01350; Chen et al.,
//! arXiv:1908.08762.)

use super::shares::Shares;

/// What bounds the load of each endpoint.
#[derive(Debug)]
pub struct Bounds {
    /// In percent of the average load, at least 100.
    factor: u32,
    /// The part of the traffic of each endpoint; 0 of those that get none.
    parts: Box<[f64]>,
    /// Those that get some, in the order of the configuration.
    endpoints: Box<[u32]>,
}

impl Bounds {
    /// Bounds of this many percent of the average.
    pub fn new(shares: &Shares<'_>, factor: u32) -> Self {
        let endpoints: Box<[u32]> = shares.all.iter().map(|share| share.endpoint).collect();
        let last = endpoints.iter().max().map_or(0, |last| *last as usize + 1);
        let mut parts = vec![0.0; last].into_boxed_slice();
        for share in &shares.all {
            parts[share.endpoint as usize] = share.part;
        }
        Self {
            factor,
            parts,
            endpoints,
        }
    }

    /// The endpoint that a request goes to whose hash leads to `chosen`: that one, else the first
    /// one tried that is not overloaded, else the one that is least. `total` is what is in flight
    /// in the cluster, `load` what is at one endpoint.
    pub fn pick(&self, hash: u64, chosen: u32, total: u32, load: impl Fn(u32) -> u32) -> u32 {
        let slots = self.slots(total);
        let overload = |endpoint: u32| {
            let part = self.parts.get(endpoint as usize).copied();
            let own = (slots * part.unwrap_or_default()).ceil().max(1.0);
            f64::from(load(endpoint)) / own
        };
        let mut least = (overload(chosen), chosen);
        if least.0 <= 1.0 {
            return chosen;
        }
        let mut order = self.endpoints.to_vec();
        let mut random = MersenneTwister::new(hash);
        for i in 0..order.len() {
            let left = u32::try_from(order.len() - i).unwrap_or(u32::MAX);
            order.swap(i, i + random.below(left) as usize);
            let endpoint = order[i];
            if endpoint == chosen {
                continue;
            }
            let overload = overload(endpoint);
            if overload <= 1.0 {
                return endpoint;
            }
            if overload < least.0 {
                least = (overload, endpoint);
            }
        }
        least.1
    }

    /// How much all endpoints together may have in flight, one more request included.
    fn slots(&self, total: u32) -> f64 {
        let slots = (u64::from(total) + 1) * u64::from(self.factor);
        u32::try_from(slots.div_ceil(100)).map_or_else(|_too_many| f64::from(u32::MAX), f64::from)
    }
}

/// The random numbers of `std::mt19937` (Matsumoto and Nishimura, 1998): those that Envoy shuffles
/// endpoints with.
struct MersenneTwister {
    state: [u32; Self::WORDS],
    next: usize,
}

impl MersenneTwister {
    const WORDS: usize = 624;
    const MIDDLE: usize = 397;

    fn new(seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "its seed has 32 bits")]
        let mut word = seed as u32;
        let mut state = [0; Self::WORDS];
        for (i, place) in (0_u32..).zip(&mut state) {
            if i > 0 {
                word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253);
                word = word.wrapping_add(i);
            }
            *place = word;
        }
        Self {
            state,
            next: Self::WORDS,
        }
    }

    fn twist(&mut self) {
        for i in 0..Self::WORDS {
            let following = self.state[(i + 1) % Self::WORDS];
            let joined = (self.state[i] & 0x8000_0000) | (following & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::MIDDLE) % Self::WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next(&mut self) -> u32 {
        if self.next == Self::WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `limit`, which is not 0; all are equally likely.
    fn below(&mut self, limit: u32) -> u32 {
        let each = (1_u64 << 32) / u64::from(limit);
        loop {
            let number = u64::from(self.next()) / each;
            if let Ok(number) = u32::try_from(number)
                && number < limit
            {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests;
