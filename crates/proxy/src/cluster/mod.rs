//! Clusters on the way of a packet: after a route has named one, before a connection is made.

pub mod lb;
