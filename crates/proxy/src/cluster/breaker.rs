//! Circuit breakers: how much one cluster may have in flight, in the whole process.

use crate::model::CircuitBreakers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The counts of one cluster against its limits (`CircuitBreakers.Thresholds`).
#[derive(Debug)]
pub struct Breaker {
    connections: Limit,
    pending_requests: Limit,
    requests: Limit,
}

#[derive(Debug)]
struct Limit {
    used: AtomicU32,
    max: u32,
}

impl Limit {
    fn new(max: u32) -> Self {
        Self {
            used: AtomicU32::new(0),
            max,
        }
    }

    fn take(&self) -> bool {
        // Relaxed: the count guards nothing but itself. Taken first and given back where it was
        // too much, so that two workers cannot both take the last place.
        if self.used.fetch_add(1, Ordering::Relaxed) < self.max {
            return true;
        }
        self.used.fetch_sub(1, Ordering::Relaxed);
        false
    }
}

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// An open upstream connection (`max_connections`).
    Connection,
    /// A request that waits for a connection (`max_pending_requests`).
    PendingRequest,
    /// A request in flight (`max_requests`).
    Request,
}

impl Breaker {
    /// Nothing in flight, these limits.
    pub fn new(limits: &CircuitBreakers) -> Self {
        Self {
            connections: Limit::new(limits.max_connections),
            pending_requests: Limit::new(limits.max_pending_requests),
            requests: Limit::new(limits.max_requests),
        }
    }

    fn limit(&self, resource: Resource) -> &Limit {
        match resource {
            Resource::Connection => &self.connections,
            Resource::PendingRequest => &self.pending_requests,
            Resource::Request => &self.requests,
        }
    }

    /// Take a place, or `None` where the limit is reached. Dropping the permit gives it back.
    pub fn take(self: &Arc<Self>, resource: Resource) -> Option<Permit> {
        self.limit(resource).take().then(|| Permit {
            breaker: Arc::clone(self),
            resource,
        })
    }

    /// Take a place whatever the limit says. Envoy lets a pool without any connection make one,
    /// else a worker could starve while others hold every place.
    pub fn take_over_limit(self: &Arc<Self>, resource: Resource) -> Permit {
        self.limit(resource).used.fetch_add(1, Ordering::Relaxed);
        Permit {
            breaker: Arc::clone(self),
            resource,
        }
    }

    /// Places in use.
    pub fn used(&self, resource: Resource) -> u32 {
        self.limit(resource).used.load(Ordering::Relaxed)
    }
}

/// A place under a limit, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker
            .limit(self.resource)
            .used
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(max_requests: u32) -> Arc<Breaker> {
        Arc::new(Breaker::new(&CircuitBreakers {
            max_requests,
            ..CircuitBreakers::default()
        }))
    }

    #[test]
    fn a_reached_limit_refuses_until_a_permit_is_dropped() {
        let breaker = breaker(2);
        let first = breaker.take(Resource::Request);
        let second = breaker.take(Resource::Request);
        assert!(first.is_some() && second.is_some());
        assert!(breaker.take(Resource::Request).is_none());
        assert_eq!(
            breaker.used(Resource::Request),
            2,
            "a refusal leaves the count as it was"
        );
        drop(first);
        assert!(breaker.take(Resource::Request).is_some());
    }

    #[test]
    fn limits_of_different_resources_do_not_touch() {
        let breaker = breaker(0);
        assert!(breaker.take(Resource::Request).is_none());
        assert!(breaker.take(Resource::Connection).is_some());
    }

    #[test]
    fn a_permit_over_the_limit_counts_too() {
        let breaker = breaker(0);
        let over = breaker.take_over_limit(Resource::Request);
        assert_eq!(breaker.used(Resource::Request), 1);
        drop(over);
        assert_eq!(breaker.used(Resource::Request), 0);
    }
}
