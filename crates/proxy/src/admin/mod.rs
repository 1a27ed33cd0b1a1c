//! The admin interface and readiness.

pub mod readiness;
