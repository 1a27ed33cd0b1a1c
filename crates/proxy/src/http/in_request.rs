//! A request that is being served, as its connection and the worker's tick see it.

use crate::connection::Tracked;
use crate::listener::draining::ChainDrain;
use crate::model::StreamIdle;
use crate::worker::{TrackGuard, Worker};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A request that is being served; dropping it ends that.
#[derive(Debug)]
pub struct InRequest {
    /// Its connection, or its stream where the connection has many.
    pub tracked: Rc<Tracked>,
    worker: Rc<Worker>,
    /// Where nothing but the request's own timeout needs the tick.
    tracking: Option<TrackGuard>,
}

impl InRequest {
    /// A request begins.
    pub fn begin(tracked: Rc<Tracked>, worker: &Rc<Worker>) -> Self {
        tracked.begin_request(worker.clock.now());
        Self {
            tracked,
            worker: Rc::clone(worker),
            tracking: None,
        }
    }

    /// Let it go without a byte for as long as its route says.
    pub fn idle_as(&mut self, idle: StreamIdle, chain: &Arc<ChainDrain>) {
        let timeout = match idle {
            StreamIdle::Inherited => return,
            StreamIdle::Never => None,
            StreamIdle::After(timeout) => Some(timeout),
        };
        self.tracked.idle_as(timeout);
        self.await_tick(timeout, chain);
    }

    /// One side of its tunnel is done: a client that left would be waited for as long as its
    /// upstream says nothing.
    pub fn half_closed(&mut self, chain: &Arc<ChainDrain>) {
        if let Some(timeout) = self.tracked.half_closed() {
            self.await_tick(Some(timeout), chain);
        }
    }

    fn await_tick(&mut self, timeout: Option<Duration>, chain: &Arc<ChainDrain>) {
        if self.tracked.is_stream() {
            self.tracking = Some(self.worker.track(&self.tracked, chain));
        } else if let Some(timeout) = timeout {
            self.worker.expect_timeout(timeout);
        }
    }

    /// The worker that serves it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.tracked.end_request(self.worker.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Kick;
    use crate::model::Resources;
    use crate::server::{Bound, Config};
    use std::time::Instant;

    #[test]
    fn half_of_a_tunnel_on_a_stream_is_looked_at_by_the_tick() {
        let bound = Bound::bind(&Config {
            resources: Resources::default(),
            workers: 1,
            drain_time: Duration::ZERO,
        });
        let worker = Worker::new(Arc::clone(bound.unwrap().process()), 0);
        let t0 = Instant::now();
        // Without a timeout nobody looks at it while both halves are there.
        let stream = Tracked::stream(&Tracked::new(t0, None, None), t0);
        let mut served = InRequest::begin(Rc::clone(&stream), &worker);
        assert!(!worker.has_connections());
        served.half_closed(&Arc::default());
        assert!(worker.has_connections());
        worker.tick();
        assert_eq!(stream.kicked(), None);
        stream.touch(t0.checked_sub(Duration::from_secs(3600)).unwrap());
        worker.tick();
        assert_eq!(stream.kicked(), Some(Kick::Idle));
        drop(served);
        assert!(!worker.has_connections());
    }
}
