//! Network filters.

mod relay;
mod splice;

pub(crate) use relay::SCRATCH_BYTES;
pub(crate) use splice::Pipes;
pub mod tcp_proxy;
