//! The TCP proxy: a connection goes to one endpoint of one cluster, byte for byte.

use crate::addr::Destination;
use crate::addr::Downstream;
use crate::cluster::load::InFlight;
use crate::cluster::manager::Picked;
use crate::connection::{Kick, Tracked};
use crate::error::Failure;
use crate::network::relay::{Moved, Side, relay};
use crate::observe::flags::Flags;
use crate::observe::outcome::Outcome;
use crate::route::source_hash;
use crate::snapshot::TcpChain;
use crate::transport::stream::Stream;
use crate::transport::tls::{TlsInfo, is_truncated};
use crate::upstream::open::OpenConnection;
use crate::worker::Worker;
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// A downstream connection that is passed on as it is.
#[derive(Debug)]
pub struct TcpConnection {
    /// The worker that owns it.
    pub worker: Rc<Worker>,
    /// What to do with it.
    pub chain: Arc<TcpChain>,
    /// The peer.
    pub downstream: Downstream,
    /// Where the peer wanted to go.
    pub destination: Destination,
    /// Timeouts and the drain.
    pub tracked: Rc<Tracked>,
    /// What is known by TLS.
    pub tls: Option<Rc<TlsInfo>>,
}

/// Serve a connection until it ends.
pub async fn serve(mut downstream: Stream, connection: TcpConnection) {
    let worker = &connection.worker;
    worker.stats.inc(connection.chain.series.cx_total);
    let mut outcome = worker.record(
        &connection.chain.log,
        connection.downstream,
        connection.destination,
    );
    outcome.tls.clone_from(&connection.tls);
    let connected = {
        let attempts = connection.attempts(&mut outcome);
        // Nothing moves yet, so nothing idles.
        until_kicked(&connection.tracked, |kick| kick != Kick::Idle, attempts).await
    };
    let (mut upstream, _counted) = match connected {
        Ok(Some(connected)) => connected,
        Ok(None) => return downstream.reset_on_close(),
        Err(kick) => {
            ended_by(kick, &mut outcome);
            return downstream.reset_on_close();
        }
    };
    connection.tracked.touch(worker.clock.now());
    connection.tracked.forgive_idle();

    let moved = Moved::default();
    let relayed = relay(
        worker,
        &connection.tracked,
        &mut downstream,
        &mut upstream,
        &moved,
    );
    let ended = until_kicked(&connection.tracked, |_any| true, relayed).await;

    outcome.bytes_received = moved.from_downstream.get();
    outcome.bytes_sent = moved.from_upstream.get();
    worker
        .stats
        .add(connection.chain.series.rx_bytes, outcome.bytes_received);
    worker
        .stats
        .add(connection.chain.series.tx_bytes, outcome.bytes_sent);
    match ended {
        Ok(Ok(())) => {}
        Err(kick) => {
            ended_by(kick, &mut outcome);
            if kick != Kick::Idle {
                // Bytes may be on their way: nobody may take this for the end of the stream.
                downstream.reset_on_close();
                upstream.reset_on_close();
            }
        }
        Ok(Err((side, error))) => {
            match side {
                Side::Upstream => outcome.flags |= Flags::UC,
                Side::Downstream => outcome.flags |= Flags::DC,
            }
            let reason = if is_truncated(&error) {
                // Bytes may be missing: nobody may take this for the end of the stream.
                Cow::Borrowed("the TLS stream ended without close_notify")
            } else {
                Cow::Owned(error.to_string())
            };
            match side {
                Side::Upstream => outcome.transport_failure = reason,
                Side::Downstream => {
                    outcome.downstream_transport_failure = Some(Box::new(reason));
                }
            }
            downstream.reset_on_close();
            upstream.reset_on_close();
        }
    }
}

/// Say in a record what ended its connection.
fn ended_by(kick: Kick, outcome: &mut Outcome) {
    outcome.connection_termination = Cow::Borrowed(match kick {
        // A stream of bytes has no heads that could be late.
        Kick::Idle | Kick::SlowHead => "idle_timeout",
        Kick::DrainEnd => "drain_time_over",
        Kick::MaxDuration => {
            outcome.flags |= Flags::DT;
            "max_connection_duration_reached"
        }
    });
}

/// A future, unless the connection is kicked first, and `counts` says that this ends it.
async fn until_kicked<F: Future>(
    tracked: &Tracked,
    counts: impl Fn(Kick) -> bool,
    future: F,
) -> Result<F::Output, Kick> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        tracked.register(cx.waker());
        match tracked.kicked() {
            Some(kick) if counts(kick) => Poll::Ready(Err(kick)),
            _ => future.as_mut().poll(cx).map(Ok),
        }
    })
    .await
}

/// Where an upstream connection is counted while it is open.
type Counted = (OpenConnection, Option<InFlight>);

impl TcpConnection {
    /// Try endpoints until one is connected. Where none is, the record says why.
    async fn attempts(&self, outcome: &mut Outcome) -> Option<(Stream, Counted)> {
        let attempts = self.chain.max_connect_attempts;
        for left in (0..attempts).rev() {
            let failure = match self.connect(outcome).await {
                Ok(connected) => return Some(connected),
                Err(failure) => failure,
            };
            let flags = failure.reply().flags;
            outcome.flags |= flags;
            outcome.transport_failure = failure.transport_failure();
            if flags != Flags::UF {
                break;
            }
            if left == 0 {
                outcome.flags |= Flags::URX;
            }
        }
        None
    }

    /// Choose a cluster and an endpoint, and connect.
    async fn connect(&self, outcome: &mut Outcome) -> Result<(Stream, Counted), Failure> {
        let worker = &self.worker;
        let id = self.chain.target.choose(worker.random());
        let Some(cluster) = worker.cluster(id) else {
            worker.stats.inc(self.chain.series.no_route);
            return Err(Failure::ClusterNotFound {
                status: http::StatusCode::SERVICE_UNAVAILABLE,
            });
        };
        outcome.upstream_cluster = outcome.name(&cluster.config.name);
        let hash = self
            .chain
            .hash_source
            .then(|| source_hash(self.downstream.0.ip()));
        let Picked { pool, in_flight } = cluster.pick(worker, self.destination, hash)?;
        outcome.upstream_host = Some(pool.upstream.0);
        let (stream, local, open) = pool.connect(worker).await?;
        outcome.upstream_local = Some(local);
        Ok((stream, (open, in_flight)))
    }
}
