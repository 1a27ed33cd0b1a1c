//! The rules in real network namespaces: what is written, read back, healed and removed.
//!
//! Needs root, and `nft`, `ip`, `iptables-nft` as oracles; without them the tests fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

mod apply;
mod cases;
mod continuity;
mod cookies;
mod explain;
mod golden;
mod hashed;
mod iptables;
mod preflight;
mod random;
mod routes;
mod support;
mod verify;
mod verify_mutation;
mod verify_others;
