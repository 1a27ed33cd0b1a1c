//! The rules in real network namespaces: what is written, read back, healed and removed.
//!
//! Needs root, and `nft`, `ip`, `iptables-nft` as oracles; without them the tests fail.

mod apply;
mod golden;
mod support;
