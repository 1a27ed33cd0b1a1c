//! What became of one connection or request: one struct, finished exactly once.

use super::access_log::{Captured, LogSet, WorkerLog};
use super::flags::Flags;
use super::series::HttpSeries;
use super::stats::WorkerStats;
use crate::clock::Clock;
use crate::model::Name;
use crate::transport::tls::TlsInfo;
use http::{StatusCode, Version};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What a worker lends to a record: where it is counted and written, and what time it is.
#[derive(Debug)]
pub struct Recorder {
    /// Counters.
    pub stats: WorkerStats,
    /// Log lines.
    pub log: WorkerLog,
    /// The time.
    pub clock: Clock,
}

/// One connection or request, from its beginning to its end. Dropping it ends it: then it is
/// counted and written to the access logs of its filter.
#[derive(Debug)]
pub struct Outcome {
    recorder: Rc<Recorder>,
    /// Shared by all workers, so touched only where something is logged.
    logs: Option<Arc<LogSet>>,
    http: Option<HttpSeries>,
    /// When it began.
    pub start: Instant,
    /// The same on the wall clock; only where a log wants it.
    pub start_time: Option<SystemTime>,
    /// The peer.
    pub downstream_remote: SocketAddr,
    /// Where the peer wanted to go.
    pub downstream_local: SocketAddr,
    /// Why it ended.
    pub flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`, empty = none.
    pub details: Cow<'static, str>,
    /// `%CONNECTION_TERMINATION_DETAILS%`, empty = none.
    pub connection_termination: Cow<'static, str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, empty = none.
    pub transport_failure: Cow<'static, str>,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`; in a box, because it is rare.
    pub downstream_transport_failure: Option<Box<Cow<'static, str>>>,
    /// What is known of the downstream connection by TLS.
    pub tls: Option<Rc<TlsInfo>>,
    /// Body bytes from downstream.
    pub bytes_received: u64,
    /// Body bytes to downstream.
    pub bytes_sent: u64,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// Our address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// The cluster.
    pub upstream_cluster: Option<Name>,
    /// The route.
    pub route_name: Option<Name>,
    /// Of the request.
    pub protocol: Option<Version>,
    /// Of the response; `None` = none was sent.
    pub status: Option<StatusCode>,
    /// What the logs want of the heads; `None` where no log does.
    pub captured: Option<Box<Captured>>,
}

/// How an [`Outcome`] begins.
#[derive(Debug)]
pub struct Begin<'a> {
    /// The peer.
    pub downstream_remote: SocketAddr,
    /// Where the peer wanted to go.
    pub downstream_local: SocketAddr,
    /// Where the record goes.
    pub logs: &'a Arc<LogSet>,
    /// What the logs want of the request.
    pub captured: Option<Box<Captured>>,
    /// Counters, for a request.
    pub http: Option<HttpSeries>,
}

impl Outcome {
    /// Something begins now.
    pub fn begin(recorder: &Rc<Recorder>, begin: Begin<'_>) -> Self {
        let logged = !begin.logs.is_empty();
        Self {
            start: recorder.clock.now(),
            start_time: logged.then(|| recorder.clock.now_wall()),
            recorder: Rc::clone(recorder),
            logs: logged.then(|| Arc::clone(begin.logs)),
            http: begin.http,
            downstream_remote: begin.downstream_remote,
            downstream_local: begin.downstream_local,
            flags: Flags::empty(),
            details: Cow::Borrowed(""),
            connection_termination: Cow::Borrowed(""),
            transport_failure: Cow::Borrowed(""),
            downstream_transport_failure: None,
            tls: None,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            upstream_local: None,
            upstream_cluster: None,
            route_name: None,
            protocol: None,
            status: None,
            captured: begin.captured,
        }
    }

    /// A name for the record, or nothing where there is no record: the count of references to a
    /// name is shared by all workers, and writing it costs them.
    pub fn name(&self, name: &Name) -> Option<Name> {
        self.logs.as_ref().map(|_| Arc::clone(name))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let now = self.recorder.clock.now();
        let stats = &self.recorder.stats;
        if let Some(series) = &self.http {
            stats.gauge_add(series.rq_active, -1);
            if let Some(class) = self.status.and_then(|status| series.class(status)) {
                stats.inc(class);
            }
            let ms = now.saturating_duration_since(self.start).as_millis();
            stats.record(series.rq_time, u64::try_from(ms).unwrap_or(u64::MAX));
        }
        if let Some(logs) = &self.logs {
            self.recorder.log.write(logs, self, now);
        }
    }
}

#[cfg(test)]
mod tests;
