//! The sidecar's own log, on standard error.

use clap::ValueEnum;
use std::io;
use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line for people.
    Text,
    /// An object for machines.
    Json,
}

/// Begin to log at this level and above.
pub(crate) fn start(format: Format, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        Format::Text => builder.with_target(false).with_ansi(false).init(),
        Format::Json => builder.json().init(),
    }
}
