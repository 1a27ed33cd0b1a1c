//! Why a response is not let go on.

use std::error::Error;
use std::fmt;

/// Why a response ended in the middle; hyper closes the connection on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The route's timeout is over.
    Timeout,
    /// The time that a stream may take is over.
    Duration,
    /// No byte moved for longer than `stream_idle_timeout`.
    Idle,
    /// None of the response came for longer than `per_try_idle_timeout`.
    Resting,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the route's timeout is over",
            Self::Duration => "max_stream_duration is over",
            Self::Idle => "no byte moved for longer than stream_idle_timeout",
            Self::Resting => "no byte came for longer than per_try_idle_timeout",
        })
    }
}

impl Error for Cut {}
