//! Network filters.

mod relay;

pub(crate) use relay::SCRATCH_BYTES;
pub mod tcp_proxy;
