//! The L4 and L7 data path of the sidecar. No protobuf, no Kubernetes types.
#![forbid(unsafe_code)]

pub mod ids;
pub mod model;
