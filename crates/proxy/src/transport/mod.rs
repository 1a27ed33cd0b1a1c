//! Transport sockets: what carries a connection's bytes.

pub mod io;
