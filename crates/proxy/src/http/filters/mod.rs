//! HTTP filters.

pub mod router;
