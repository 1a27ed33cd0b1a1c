//! What is told of connections and requests: counters, records, flags.

pub mod access_log;
pub mod flags;
pub mod limited;
pub mod outcome;
pub mod series;
pub mod stats;
