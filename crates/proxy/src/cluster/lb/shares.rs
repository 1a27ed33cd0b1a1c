//! What part of the traffic each endpoint is to get, as tables of hashes are built from it.
//!
//! The arithmetic is that of Envoy (`normalizeHostWeights`, `normalizeLocalityWeights`), down to
//! the order of the operations: where a share is no whole number of entries, rounding decides
//! whose the entry is.

/// An endpoint that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share<'a> {
    /// Its place in the cluster's list.
    pub endpoint: u32,
    /// What is hashed for it.
    pub key: &'a str,
    /// Its part of all traffic, more than 0.
    pub part: f64,
}

/// Endpoints that may be chosen, with the least and the greatest of their parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares<'a> {
    /// In the order in which tables are filled.
    pub all: Vec<Share<'a>>,
    /// The least part.
    pub least: f64,
    /// The greatest part.
    pub greatest: f64,
}

/// An endpoint before its part is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its place in the cluster's list.
    pub endpoint: u32,
    /// What is hashed for it.
    pub key: &'a str,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
}

impl<'a> Shares<'a> {
    /// Parts by the weights of endpoints alone.
    pub fn of(candidates: &[Candidate<'a>]) -> Self {
        let mut shares = Self::none();
        shares.add(candidates, 1.0);
        shares
    }

    /// Parts by the weights of localities, and in a locality by those of its endpoints. A locality
    /// of the weight 0 gets nothing; what one without an endpoint to choose would get, the others
    /// share.
    pub fn by_locality(localities: &[(u32, Vec<Candidate<'a>>)]) -> Self {
        let mut shares = Self::none();
        let sum: u64 = localities.iter().map(|(w, _)| u64::from(*w)).sum();
        for (weight, candidates) in localities.iter().filter(|(weight, _)| *weight > 0) {
            shares.add(candidates, f64::from(*weight) / as_f64(sum));
        }
        shares
    }

    fn none() -> Self {
        Self {
            all: Vec::new(),
            least: 1.0,
            greatest: 0.0,
        }
    }

    fn add(&mut self, candidates: &[Candidate<'a>], part: f64) {
        let sum: u64 = candidates.iter().map(|c| u64::from(c.weight)).sum();
        self.all.reserve(candidates.len());
        for candidate in candidates {
            let part = f64::from(candidate.weight) * part / as_f64(sum);
            self.least = self.least.min(part);
            self.greatest = self.greatest.max(part);
            self.all.push(Share {
                endpoint: candidate.endpoint,
                key: candidate.key,
                part,
            });
        }
    }
}

/// A sum of weights, which the model keeps in 32 bits.
#[expect(
    clippy::cast_precision_loss,
    reason = "as Envoy does, and exact below 2^53"
)]
fn as_f64(sum: u64) -> f64 {
    sum as f64
}
