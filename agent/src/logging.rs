//! The sidecar's own log, on standard error.

use clap::ValueEnum;
use std::io;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait where nobody reads; what comes then is dropped.
const MAX_LINES: usize = 1024;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line for people.
    Text,
    /// An object for machines.
    Json,
}

/// Begin to log what passes the filter. A thread of its own writes, so that a blocked standard
/// error blocks nobody; what is left is written, for a second at most, when the guard is dropped.
pub(crate) fn start(format: Format, filter: EnvFilter) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match format {
        Format::Text => builder.with_target(false).with_ansi(false).init(),
        Format::Json => builder.json().init(),
    }
    guard
}
