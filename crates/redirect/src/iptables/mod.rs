//! The second backend, for kernels without nf_tables and sites that demand it: our chains in
//! iptables' tables, written by `iptables-restore`.
//!
//! A plan becomes a [`State`] of each family ([`render`]), is compared with what `iptables-save`
//! prints ([`State::parse`]), and what differs becomes one script ([`script`]) of one transaction a
//! table. `docs/backends.md` says what that is worth.

mod apply;
mod detect;
mod error;
mod list;
mod others;
mod program;
mod readback;
pub mod render;
mod script;
mod sets;
mod state;

pub(crate) use apply::{ClearError, Cleared, apply, clear};
pub(crate) use detect::Tools;
pub use error::IptablesError;
pub use list::{Counted, Listed, list};
pub(crate) use others::legacy_chains;
pub(crate) use readback::Readback;
pub use state::State;

/// Which of iptables' two kernel interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// `ip_tables`, the older one.
    Legacy,
    /// nf_tables, spoken by `iptables-nft`.
    Nft,
}
