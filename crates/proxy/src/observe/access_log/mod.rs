//! Access logs: one line for each request or connection.
//!
//! A format is compiled once; a line is put into the worker's own buffer; a thread of the sink
//! writes. Nothing here can block a worker.

mod capture;
mod format;
mod writer;

pub use capture::Captured;
pub use format::Format;
pub use writer::{AccessLogWriter, WorkerLog};

use crate::model::{AccessLog, Invalid};
use capture::Wanted;
use http::{HeaderMap, request};
use std::sync::Arc;
use writer::Sink;

/// The compiled access logs of one filter or listener.
#[derive(Debug, Default)]
pub struct LogSet {
    logs: Vec<Log>,
    wanted: Wanted,
}

#[derive(Debug)]
struct Log {
    sink: Arc<Sink>,
    format: Format,
}

impl LogSet {
    /// Compile the access logs of one filter.
    ///
    /// # Errors
    /// Where a format is wrong or a file cannot be opened.
    pub fn compile(config: &[AccessLog], writer: &AccessLogWriter) -> Result<Self, Invalid> {
        let mut set = Self::default();
        for log in config {
            let mut format = Format::parse(&log.format)?;
            format.want(&mut set.wanted);
            set.logs.push(Log {
                sink: writer.sink(&log.sink)?,
                format,
            });
        }
        Ok(set)
    }

    /// Whether nothing is logged.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Keep what the logs want of a request; `None` where there is no log.
    pub fn capture_request(&self, head: &request::Parts) -> Option<Box<Captured>> {
        (!self.logs.is_empty()).then(|| Box::new(self.wanted.capture(head)))
    }

    /// Keep what the logs want of a response.
    pub fn capture_response(&self, captured: &mut Captured, headers: &HeaderMap) {
        self.wanted.capture_response(captured, headers);
    }
}
