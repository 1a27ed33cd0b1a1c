//! The upstream side: making connections, keeping them, speaking on them.

pub mod connect;
pub mod exchange;
pub mod http2;
pub mod open;
pub mod pool;
pub mod pooled;
pub mod switch;
