//! The L4 and L7 data path of the sidecar. No protobuf, no Kubernetes types.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod ids;
pub mod listener;
pub mod model;
pub mod route;
