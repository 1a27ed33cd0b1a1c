//! Load balancing: which endpoint of a cluster an attempt goes to.
//!
//! A balancer sees only endpoints that may be chosen; health and ejection are decided where the
//! endpoint set is compiled. Tables of hashes are a part of what is compiled, and shared by all
//! workers; cursors and schedules are a worker's own.

pub mod bounded;
pub mod edf;
#[cfg(test)]
mod endpoints;
pub mod hash;
pub mod least_request;
pub mod maglev;
pub mod ring_hash;
pub mod round_robin;
pub mod shares;
