//! What tests expect, in words close to the field's: metrics, log records, bytes.

pub mod access_log;
pub mod bytes;
pub mod eventually;
pub mod metrics;
