//! Resources from files that are read again when they change (`path_config_source`).
//!
//! The second source on the way of configuration. A thread of its own waits for moves
//! (`watch`), reads what changed (`contents`), puts it together with what did not (`state`)
//! and gives the whole to the proxy. A file is taken as a whole or not at all: where it is wrong,
//! what was taken from it before stays.

mod contents;
mod error;
mod shown;
mod state;
mod updates;
mod waiting;
mod watch;

pub use error::FileError;
pub use shown::FileResources;
pub use updates::{Updates, Watching};

pub(crate) use contents::Kind;
pub(crate) use shown::Shown;
pub(crate) use state::State;
