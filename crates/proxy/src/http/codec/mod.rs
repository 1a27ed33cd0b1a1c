//! The codecs of downstream connections: which version of HTTP one speaks, and how it is served.

pub mod http1;
pub mod http2;
pub mod keepalive;
pub mod pump;
pub mod resets;
mod unread;

use crate::http::connection_manager::HttpConnection;
use crate::model::Codec;
use crate::transport::io::Io;
use bytes::Bytes;
use std::rc::Rc;

/// Serve a connection until it ends.
pub async fn serve(io: Io, connection: Rc<HttpConnection>) {
    let (stats, series) = (&connection.worker.stats, connection.chain.series);
    stats.inc(series.cx_total);
    stats.gauge_add(series.cx_active, 1);
    let alpn = connection.tls.as_ref().map_or("", |tls| &tls.alpn);
    let http2 = match (connection.chain.codec, alpn) {
        (Codec::Http2, _) | (Codec::Auto, "h2") => Some((io, Bytes::new())),
        // Without an agreement the preface decides.
        (Codec::Auto, "") => http1::serve(io, &connection, true).await,
        (Codec::Auto | Codec::Http1, _) => http1::serve(io, &connection, false).await,
    };
    if let Some((io, read)) = http2 {
        stats.inc(connection.chain.http2_series.cx_total);
        // Boxed: connections of HTTP/1 do not hold the memory of it.
        Box::pin(http2::serve(io, read, &connection)).await;
    }
    stats.gauge_add(series.cx_active, -1);
}
