//! Inspectors: what a listener filter learns from a connection's first bytes, before its filter
//! chain is chosen.

pub mod http;
