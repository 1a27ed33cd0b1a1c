//! Redirect rules: from a capture policy to the kernel, and back.
//!
//! This is the first step of a packet's way. A policy arrives in somebody's words ([`compat`]) or
//! in ours ([`policy`]), becomes a [`CaptureConfig`] whose parts can stand together
//! ([`validate`]), then a [`Ruleset`] ([`plan::plan`], where rule order lives), then one nf_tables
//! transaction ([`nft`]) or, where need be, scripts for iptables ([`mod@iptables`]), with `::6` on
//! `lo` before it ([`routing`]). [`backend`] does all of it, [`nft::list`] reads it back,
//! [`mod@verify`] proves it, [`mod@diff`] compares, and [`mod@explain`] tells on paper what becomes of
//! a packet.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
pub mod backend;
pub mod capture;
mod cgroup;
pub mod compat;
pub mod diff;
pub mod error;
pub mod explain;
pub mod facts;
pub mod field;
mod hashed;
pub mod iptables;
pub mod listing;
mod nearest;
pub mod netns;
pub mod nft;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod ranges;
mod resolv;
pub mod routing;
pub mod ruleset;
pub mod sysctl;
pub mod userns;
pub mod validate;
pub mod verify;
pub mod warnings;

pub use backend::{Applied, Backend, BackendChoice, Change, Removed, remove};
pub use capture::CaptureConfig;
pub use facts::PodFacts;
pub use plan::{Plan, plan, plan_for_iptables};
pub use ruleset::Ruleset;

/// [`backend::apply`] with nf_tables by netlink.
///
/// # Errors
/// As there.
pub fn apply(config: &CaptureConfig) -> Result<Applied, error::ApplyError> {
    backend::apply(config, BackendChoice::Nft)
}
