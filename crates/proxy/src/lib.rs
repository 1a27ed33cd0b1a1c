//! The L4 and L7 data path of the sidecar. No protobuf, no Kubernetes types.
//!
//! Begin with [`sidecar`]: the way of a connection, from top to bottom.
#![forbid(unsafe_code)]

pub mod addr;
pub mod admin;
pub mod clock;
pub mod cluster;
pub mod concurrency;
pub mod connection;
pub mod control;
pub mod drain;
pub mod error;
pub mod http;
pub mod ids;
pub mod listener;
pub mod model;
pub mod network;
pub mod observe;
pub mod overload;
pub mod route;
pub mod server;
pub mod sidecar;
pub mod snapshot;
pub mod store;
pub mod transport;
pub mod upstream;
pub mod worker;
