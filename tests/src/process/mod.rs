//! Programs inside pods: how they are started, what they say, how they end.

mod command;
mod output;
mod running;
mod sandbox;

pub use command::Command;
pub use output::Output;
pub use running::{Finished, Running};

/// Signals, for [`Running::signal`].
pub use nix::sys::signal::Signal;
