//! The TCP proxy: a connection goes to one endpoint of one cluster, byte for byte.

use crate::addr::Destination;
use crate::addr::Downstream;
use crate::connection::{Kick, Tracked};
use crate::error::Failure;
use crate::network::relay::{Moved, Side, relay};
use crate::observe::flags::Flags;
use crate::observe::outcome::Outcome;
use crate::snapshot::TcpChain;
use crate::transport::stream::Stream;
use crate::transport::tls::{TlsInfo, is_truncated};
use crate::upstream::pool::OpenConnection;
use crate::worker::Worker;
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io;
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
    let (mut upstream, _open) = match connection.connect(&mut outcome).await {
        Ok(connected) => connected,
        Err(failure) => {
            let reply = failure.reply();
            outcome.flags |= reply.flags;
            if matches!(reply.flags, Flags::UF) {
                // Envoy's tcp_proxy gives up after `max_connect_attempts`, which is 1.
                outcome.flags |= Flags::URX;
            }
            outcome.transport_failure = failure.transport_failure();
            downstream.reset_on_close();
            return;
        }
    };

    let moved = Moved::default();
    let relayed = relay(
        worker,
        &connection.tracked,
        &mut downstream,
        &mut upstream,
        &moved,
    );
    let ended = until_kicked(&connection.tracked, relayed).await;

    outcome.bytes_received = moved.from_downstream.get();
    outcome.bytes_sent = moved.from_upstream.get();
    worker
        .stats
        .add(connection.chain.series.rx_bytes, outcome.bytes_received);
    worker
        .stats
        .add(connection.chain.series.tx_bytes, outcome.bytes_sent);
    match ended {
        Ended::Both => {}
        // A stream of bytes has no heads that could be late.
        Ended::Kicked(Kick::Idle | Kick::SlowHead) => {
            outcome.connection_termination = Cow::Borrowed("idle_timeout");
        }
        Ended::Kicked(Kick::DrainEnd) => {
            // Bytes may be on their way: nobody may take this for the end of the stream.
            outcome.connection_termination = Cow::Borrowed("drain_time_over");
            downstream.reset_on_close();
            upstream.reset_on_close();
        }
        Ended::Failed(side, error) => {
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

enum Ended {
    Both,
    Kicked(Kick),
    Failed(Side, io::Error),
}

async fn until_kicked(
    tracked: &Tracked,
    relayed: impl Future<Output = Result<(), (Side, io::Error)>>,
) -> Ended {
    let mut relayed = pin!(relayed);
    poll_fn(|cx| {
        tracked.register(cx.waker());
        if let Some(kick) = tracked.kicked() {
            return Poll::Ready(Ended::Kicked(kick));
        }
        relayed.as_mut().poll(cx).map(|ended| match ended {
            Ok(()) => Ended::Both,
            Err((side, error)) => Ended::Failed(side, error),
        })
    })
    .await
}

impl TcpConnection {
    /// Choose a cluster and an endpoint, and connect.
    async fn connect(&self, outcome: &mut Outcome) -> Result<(Stream, OpenConnection), Failure> {
        let worker = &self.worker;
        let id = self.chain.target.choose(worker.random());
        let Some(cluster) = worker.cluster(id) else {
            worker.stats.inc(self.chain.series.no_route);
            return Err(Failure::ClusterNotFound {
                status: http::StatusCode::SERVICE_UNAVAILABLE,
            });
        };
        outcome.upstream_cluster = outcome.name(&cluster.config.name);
        let pool = cluster.pick(worker, self.destination)?;
        outcome.upstream_host = Some(pool.upstream.0);
        let (stream, local, open) = pool.connect(worker).await?;
        outcome.upstream_local = Some(local);
        Ok((stream, open))
    }
}
