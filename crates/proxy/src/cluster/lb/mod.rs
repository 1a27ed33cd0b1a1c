//! Load balancing: which endpoint of a cluster an attempt goes to.
//!
//! A balancer sees only how many endpoints may be chosen; health and ejection are decided where
//! the endpoint set is compiled.

pub mod round_robin;
