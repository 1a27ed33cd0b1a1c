//! How HTTP/2 is spoken, on either side.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{Http2ProtocolOptions, KeepaliveSettings};
use envoy_types::pb::google::protobuf::UInt32Value;
use shunt_proxy::model::{Http2Options, Keepalive};
use std::ops::RangeInclusive;

/// The sizes that a window may have (RFC 9113 §6.9.1; Envoy only makes them larger).
const WINDOW: RangeInclusive<u32> = 65_535..=0x7fff_ffff;

/// Envoy's default of `interval_jitter`.
const JITTER_PERCENT: u8 = 15;

impl Reader {
    /// The options of the message at `path`.
    pub(super) fn http2_options(
        &mut self,
        options: Option<Http2ProtocolOptions>,
        path: &Path<'_>,
    ) -> Http2Options {
        let default = Http2Options::default();
        let Some(options) = options else {
            return default;
        };
        let mut number = |value: Option<UInt32Value>, field, default, range| {
            self.number(value, default, range, &path.field(field))
        };
        Http2Options {
            max_concurrent_streams: number(
                options.max_concurrent_streams,
                "max_concurrent_streams",
                default.max_concurrent_streams,
                1..=0x7fff_ffff,
            ),
            stream_window: number(
                options.initial_stream_window_size,
                "initial_stream_window_size",
                default.stream_window,
                WINDOW,
            ),
            connection_window: number(
                options.initial_connection_window_size,
                "initial_connection_window_size",
                default.connection_window,
                WINDOW,
            ),
            hpack_table: number(
                options.hpack_table_size,
                "hpack_table_size",
                default.hpack_table,
                0..=u32::MAX,
            ),
            keepalive: options
                .connection_keepalive
                .and_then(|settings| self.keepalive(settings, &path.field("connection_keepalive"))),
            allow_connect: options.allow_connect,
            reset_burst: options
                .stream_reset_burst
                .map_or(default.reset_burst, |burst| burst.value),
            reset_rate: options
                .stream_reset_rate
                .map_or(default.reset_rate, |rate| rate.value),
        }
    }

    /// A number with a default and a range.
    pub(super) fn number(
        &mut self,
        value: Option<UInt32Value>,
        default: u32,
        range: RangeInclusive<u32>,
        path: &Path<'_>,
    ) -> u32 {
        let value = value.map_or(default, |value| value.value);
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            let message = format!("{value} is outside of {least} to {most}");
            self.report.invalid(path, message);
        }
        value
    }

    fn keepalive(&mut self, settings: KeepaliveSettings, path: &Path<'_>) -> Option<Keepalive> {
        let at = path.field("timeout");
        let timeout = self.duration(settings.timeout, &at).unwrap_or_default();
        if timeout.is_zero() {
            self.report
                .invalid(&at, "it is required and must be more than 0");
        }
        let at = path.field("interval");
        let interval = self.duration(settings.interval, &at)?;
        if interval.is_zero() {
            self.report.invalid(&at, "it must be more than 0");
        }
        Some(Keepalive {
            interval,
            // The coverage lets only 0 through.
            jitter_percent: settings.interval_jitter.map_or(JITTER_PERCENT, |_zero| 0),
            timeout,
        })
    }
}
