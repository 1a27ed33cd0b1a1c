//! An upstream connection as the counters and the circuit breaker see it.

use crate::cluster::breaker::Permit;
use crate::error::Failure;
use crate::observe::limited;
use crate::snapshot::ClusterInfo;
use crate::upstream::connect::{Connect, ConnectError, connect};
use crate::upstream::pool::Pool;
use crate::worker::Worker;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Make a connection for a pool and count it.
///
/// # Errors
/// Where it cannot be made.
pub(super) async fn open(
    pool: &Pool,
    worker: &Rc<Worker>,
    permit: Permit,
) -> Result<(TcpStream, SocketAddr, OpenConnection), Failure> {
    let (cluster, upstream) = (&pool.cluster, pool.upstream);
    let series = &cluster.series;
    let how = Connect {
        upstream,
        source: cluster.bind.for_upstream(upstream.0.ip()),
        timeout: cluster.connect_timeout,
        client: pool.client,
        keepalive: cluster.keepalive,
    };
    let mut connected = connect(&how).await;
    if connected.as_ref().is_err_and(|e| e.is_out_of_descriptors()) {
        // Idle connections to other endpoints hold descriptors that this request needs more.
        worker.close_idle_upstreams();
        tokio::task::yield_now().await;
        connected = connect(&how).await;
    }
    let (stream, local) = connected.map_err(|error| {
        worker.stats.inc(series.cx_connect_fail);
        if matches!(error, ConnectError::Timeout { .. }) {
            worker.stats.inc(series.cx_connect_timeout);
        }
        limited::warn("upstream connect", &error);
        error.failure()
    })?;
    worker.stats.inc(series.cx_total);
    worker.stats.gauge_add(series.cx_active, 1);
    let open = OpenConnection {
        worker: Rc::clone(worker),
        cluster: Arc::clone(cluster),
        _permit: permit,
    };
    Ok((stream, local, open))
}

/// An open upstream connection, as the counters and the circuit breaker see it.
#[derive(Debug)]
pub struct OpenConnection {
    worker: Rc<Worker>,
    cluster: Arc<ClusterInfo>,
    _permit: Permit,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.worker
            .stats
            .gauge_add(self.cluster.series.cx_active, -1);
        self.worker.stats.inc(self.cluster.series.cx_destroy);
    }
}
