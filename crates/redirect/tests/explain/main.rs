//! What `explain` says of planned rules, of Istio's and Linkerd's own, and of rules that nobody
//! wrote. No privilege is needed; `tests/kernel` holds the same against the kernel.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

mod diff;
mod istio;
mod linkerd;
mod lists;
mod nft;
mod parsers;
mod planned;
mod support;
mod truth;
