//! What became of a flow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::Place;

/// What became of a flow, as far as it depends on rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What the client and whoever answered saw.
    pub outcome: Outcome,
    /// How conntrack kept it in the pod, sorted. Zone 0 that holds nothing unusual is left out,
    /// since a pod without rules tracks nothing.
    pub tracks: Vec<Track>,
}

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered, who saw this.
    Answered(Arrival),
    /// Nobody listens: a reset, or an ICMP message that says so.
    Refused,
    /// The client's kernel did not send it, or it was told that there is no way.
    Failed(Errno),
    /// Nothing came back; if it arrived somewhere, where.
    Silent(Option<Arrival>),
}

/// What whoever answered saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Where it listens.
    pub place: Place,
    /// The port it listens on; 0 for a socket that listens on all.
    pub listener: u16,
    /// The address at which the flow arrived (`getsockname`).
    pub local: SocketAddr,
    /// Where it was going (`SO_ORIGINAL_DST`); as `local` for UDP, and where nothing is tracked.
    pub original: SocketAddr,
    /// Where it came from.
    pub source: IpAddr,
    /// Whether the port it came from is the client's.
    pub port_kept: bool,
}

/// An entry of conntrack that belongs to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Track {
    /// Its zone.
    pub zone: u16,
    /// Whether it was made by an answer, which thus was taken for a connection of its own.
    pub by_answer: bool,
}

impl Observation {
    /// Who answered and where the flow was going, if somebody did.
    pub fn arrival(&self) -> Option<&Arrival> {
        match &self.outcome {
            Outcome::Answered(arrival) => Some(arrival),
            _ => None,
        }
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Answered(arrival) => write!(f, "answered by {arrival}")?,
            Outcome::Refused => f.write_str("refused")?,
            Outcome::Failed(errno) => write!(f, "failed: {errno}")?,
            Outcome::Silent(None) => f.write_str("silence")?,
            Outcome::Silent(Some(arrival)) => write!(f, "no answer from {arrival}")?,
        }
        for track in &self.tracks {
            let by = if track.by_answer {
                " by its answer"
            } else {
                ""
            };
            write!(f, ", zone {}{by}", track.zone)?;
        }
        Ok(())
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            listener,
            local,
            original,
            source,
            port_kept,
        } = self;
        write!(f, "{place:?}")?;
        if *listener != 0 {
            write!(f, ":{listener}")?;
        }
        write!(f, " at {local}")?;
        if original != local {
            write!(f, " meant for {original}")?;
        }
        write!(f, " from {source}")?;
        if !port_kept {
            f.write_str(" with another port")?;
        }
        Ok(())
    }
}
