//! The program as a pod runs it: words, exit codes, and what it leaves behind.
//!
//! Needs root, `nft`, iptables' programs and `strace`; without them the tests fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

mod failing;
mod looking;
mod policy;
mod starting;
mod support;
mod writing;
