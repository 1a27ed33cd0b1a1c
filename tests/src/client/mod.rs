//! Clients: they act as a user inside a pod, and nothing they do waits longer than
//! [`crate::DEADLINE`].

pub mod http;
pub mod tcp;
pub mod wire;
