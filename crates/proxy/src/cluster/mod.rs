//! Clusters: which endpoint a request or connection goes to, and how much may be in flight.

pub mod balancer;
pub mod breaker;
pub mod lb;
pub mod load;
pub mod manager;
