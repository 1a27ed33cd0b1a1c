//! The upstream side: making connections, keeping them, speaking on them.

pub mod connect;
pub mod pool;
