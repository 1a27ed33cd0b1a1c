//! Durations, flags and extensions: what occurs in every resource.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as PbDuration};
use prost::{Message, Name};
use std::time::Duration;

/// A flag that is true unless it says otherwise.
pub(super) fn true_unless(flag: Option<BoolValue>) -> bool {
    flag.is_none_or(|flag| flag.value)
}

/// A flag that is false unless it says otherwise.
pub(super) fn false_unless(flag: Option<BoolValue>) -> bool {
    flag.is_some_and(|flag| flag.value)
}

/// Whether an extension is of this type.
pub(super) fn is<M: Name>(any: &Any) -> bool {
    any.type_url.rsplit('/').next() == Some(M::full_name().as_str())
}

impl Reader {
    /// A duration that must not be negative.
    pub(super) fn duration(
        &mut self,
        duration: Option<PbDuration>,
        path: &Path<'_>,
    ) -> Option<Duration> {
        let duration = duration?;
        let parts = u64::try_from(duration.seconds)
            .ok()
            .zip(u32::try_from(duration.nanos).ok());
        let Some((seconds, nanos)) = parts.filter(|(_, nanos)| *nanos < 1_000_000_000) else {
            self.report.invalid(
                path,
                "a duration must not be negative; write for example 5s",
            );
            return None;
        };
        Some(Duration::new(seconds, nanos))
    }

    /// A timeout with Envoy's default, where 0 means none.
    pub(super) fn timeout(
        &mut self,
        timeout: Option<PbDuration>,
        default: Duration,
        path: &Path<'_>,
    ) -> Option<Duration> {
        self.duration(timeout, path)
            .map_or(Some(default), |timeout| {
                (!timeout.is_zero()).then_some(timeout)
            })
    }

    /// The content of an extension whose type is known to be `M`.
    pub(crate) fn extension<M: Message + Name + Default>(
        &mut self,
        any: &Any,
        path: &Path<'_>,
    ) -> Option<M> {
        let decoded = M::decode(any.value.as_slice());
        self.report.check(path, decoded)
    }

    /// An extension of a type that is none of those that can stand here.
    pub(super) fn misplaced(&mut self, any: Option<&Any>, expected: &str, path: &Path<'_>) {
        match any {
            None => self
                .report
                .invalid(path, format!("it is required: {expected}")),
            Some(any) => {
                let given = any.type_url.rsplit('/').next().unwrap_or_default();
                self.report.refused(
                    path,
                    format!("{given} is not implemented here; what can stand here is {expected}"),
                );
            }
        }
    }
}
