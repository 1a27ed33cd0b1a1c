//! Options of sockets.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::TcpKeepalive as PbTcpKeepalive;
use envoy_types::pb::google::protobuf::UInt32Value;
use shunt_proxy::model::TcpKeepalive;
use std::time::Duration;

/// The most that the kernel takes for a number of probes, and for seconds (tcp(7)).
const PROBES: u32 = 127;
const SECONDS: u32 = 32767;

impl Reader {
    /// The keepalive of the message at `path`; `None` = off, which 0 in any field means too.
    pub(super) fn tcp_keepalive(
        &mut self,
        keepalive: Option<PbTcpKeepalive>,
        path: &Path<'_>,
    ) -> Option<TcpKeepalive> {
        let keepalive = keepalive?;
        let fields = [
            (keepalive.keepalive_probes, "keepalive_probes", PROBES),
            (keepalive.keepalive_time, "keepalive_time", SECONDS),
            (keepalive.keepalive_interval, "keepalive_interval", SECONDS),
        ];
        let [probes, time, interval] = fields.map(|(value, field, most)| {
            value
                .map(|value: UInt32Value| self.number(Some(value), 0, 0..=most, &path.field(field)))
        });
        if [probes, time, interval].contains(&Some(0)) {
            return None;
        }
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Some(TcpKeepalive {
            probes,
            time: time.map(seconds),
            interval: interval.map(seconds),
        })
    }
}
