//! Transport sockets: what carries a connection's bytes.

pub mod io;
pub mod stream;
pub mod tls;
pub mod watched;
