//! From an accepted connection to the filter chain that serves it.

pub mod accept;
pub mod draining;
pub mod filter_chain;
pub mod inspect;
pub mod manager;
pub mod original_dst;
pub mod places;
pub mod slot;
pub mod socket;
