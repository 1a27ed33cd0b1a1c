//! Listeners on the way of a packet: from accept to the filter chain that serves the connection.

pub mod filter_chain;
pub mod inspect;
