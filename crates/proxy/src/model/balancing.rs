//! Load balancing (`Cluster.lb_policy`, `Cluster.load_balancing_policy`).

use super::{Invalid, Name};

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `RANDOM`.
    Random,
    /// `LEAST_REQUEST`.
    LeastRequest(LeastRequest),
    /// `RING_HASH`.
    RingHash(RingHash, ConsistentHashing),
    /// `MAGLEV`.
    Maglev(Maglev, ConsistentHashing),
    /// `CLUSTER_PROVIDED`: an `ORIGINAL_DST` cluster has one endpoint per connection.
    ClusterProvided,
}

impl LbPolicy {
    /// What is the same for the policies that look at a hash; `None` for those that do not.
    pub fn hashing(&self) -> Option<&ConsistentHashing> {
        match self {
            Self::RingHash(_, hashing) | Self::Maglev(_, hashing) => Some(hashing),
            _ => None,
        }
    }

    /// Whether what is in flight at each endpoint has to be known.
    pub fn needs_loads(&self) -> bool {
        match self {
            Self::LeastRequest(_) => true,
            other => other.hashing().is_some_and(|h| h.balance_factor.is_some()),
        }
    }
}

/// `LeastRequestLbConfig`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeastRequest {
    /// How many endpoints are compared.
    pub choices: Choices,
    /// `active_request_bias`, default 1, not negative: how much what is in flight lowers a weight,
    /// where weights are unequal.
    pub bias: f64,
}

/// Which endpoints are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choices {
    /// `choice_count`, at least 2: so many at random.
    Some(u32),
    /// `FULL_SCAN`.
    All,
}

impl Default for LeastRequest {
    /// Envoy's: two choices, a bias of 1.
    fn default() -> Self {
        Self {
            choices: Choices::Some(2),
            bias: 1.0,
        }
    }
}

/// `RingHashLbConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingHash {
    /// `minimum_ring_size`, 1 to [`RingHash::MAXIMUM`].
    pub minimum_size: u32,
    /// `maximum_ring_size`, not less, and to [`RingHash::MAXIMUM`].
    pub maximum_size: u32,
    /// `hash_function`.
    pub function: HashFunction,
}

impl RingHash {
    /// Envoy's limit.
    pub const MAXIMUM: u32 = 8 << 20;

    /// Check the sizes of a ring.
    ///
    /// # Errors
    /// Where the least is 0 or more than the greatest, or that is more than [`RingHash::MAXIMUM`].
    pub fn new(
        minimum: Option<u64>,
        maximum: Option<u64>,
        function: HashFunction,
    ) -> Result<Self, Invalid> {
        let within = |size: Option<u64>, default: u32, name: &str| match size.map(u32::try_from) {
            None => Ok(default),
            Some(Ok(size)) if (1..=Self::MAXIMUM).contains(&size) => Ok(size),
            Some(_) => Err(Invalid::new(format!(
                "{name} is {}; it is 1 to {}",
                size.unwrap_or_default(),
                Self::MAXIMUM
            ))),
        };
        let minimum_size = within(minimum, 1024, "minimum_ring_size")?;
        let maximum_size = within(maximum, Self::MAXIMUM, "maximum_ring_size")?;
        if minimum_size > maximum_size && minimum.is_none() {
            return Err(Invalid::new(format!(
                "maximum_ring_size {maximum_size} is less than minimum_ring_size, which is \
                 {minimum_size} where it is left out; set minimum_ring_size to at most \
                 {maximum_size}, or raise maximum_ring_size"
            )));
        }
        if minimum_size > maximum_size {
            return Err(Invalid::new(format!(
                "minimum_ring_size {minimum_size} is more than maximum_ring_size {maximum_size}; \
                 swap them"
            )));
        }
        Ok(Self {
            minimum_size,
            maximum_size,
            function,
        })
    }
}

/// `RingHashLbConfig.HashFunction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashFunction {
    /// `XX_HASH`.
    #[default]
    Xx,
    /// `MURMUR_HASH_2`.
    Murmur2,
}

/// `MaglevLbConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maglev {
    table_size: u32,
}

impl Maglev {
    /// Envoy's limit.
    pub const MAXIMUM: u32 = 5_000_011;

    /// Check the size of a table; `None` = 65537.
    ///
    /// # Errors
    /// Where it is no prime number, or more than [`Maglev::MAXIMUM`].
    pub fn new(table_size: Option<u64>) -> Result<Self, Invalid> {
        let size = table_size.unwrap_or(65_537);
        match u32::try_from(size) {
            Ok(table_size) if table_size <= Self::MAXIMUM && is_prime(table_size) => {
                Ok(Self { table_size })
            }
            _ => Err(Invalid::new(format!(
                "table_size is {size}; it is a prime number up to {}, for example 65537",
                Self::MAXIMUM
            ))),
        }
    }

    /// How many slots a table has: a prime number.
    pub fn table_size(&self) -> u32 {
        self.table_size
    }
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2_u32..).take_while(|d| d.saturating_mul(*d) <= number);
    number >= 2 && !divisors.any(|divisor| number.is_multiple_of(divisor))
}

/// `ConsistentHashingLbConfig`, and whether localities have a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsistentHashing {
    /// `use_hostname_for_hashing`: the key of an endpoint is its `hostname`, where it has one.
    pub by_hostname: bool,
    /// `hash_balance_factor`, at least 100: no endpoint gets more than so many percent of the
    /// average; `None` = any load.
    pub balance_factor: Option<u32>,
    /// `locality_weighted_lb_config`: the weight of a locality decides how much its endpoints get
    /// together.
    pub by_locality: bool,
}

/// What balancers know of an endpoint besides its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balanced {
    /// `load_balancing_weight`, at least 1; those of a cluster add up to at most `u32::MAX`.
    pub weight: u32,
    /// `hostname`.
    pub hostname: Option<Name>,
    /// What is hashed in place of the address: `hash_key` in the metadata `envoy.lb`.
    pub hash_key: Option<Name>,
    /// Its locality's place among those of the cluster, in their order.
    pub locality: u32,
    /// The `load_balancing_weight` of its locality; 0 = none.
    pub locality_weight: u32,
    /// `health_status` is `DEGRADED`: no hash leads to it while one can lead elsewhere.
    pub degraded: bool,
}

impl Default for Balanced {
    /// Like all others.
    fn default() -> Self {
        Self {
            weight: 1,
            hostname: None,
            hash_key: None,
            locality: 0,
            locality_weight: 0,
            degraded: false,
        }
    }
}
