//! Whether the sidecar takes traffic. Only an explicit call makes it ready; a dropped handle
//! never does.

use std::sync::atomic::{AtomicU8, Ordering};

/// The state of the server, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Workers have not started.
    Initializing,
    /// Taking traffic.
    Live,
    /// Asked to end.
    Draining,
}

impl State {
    /// As Envoy's `/ready` and `/server_info` say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
        }
    }

    /// As Envoy's gauge `server.state` counts it.
    fn number(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Draining => 1,
            Self::Initializing => 3,
        }
    }
}

/// The state, shared by what changes it and what is asked for it.
#[derive(Debug, Default)]
pub struct Readiness {
    state: AtomicU8,
}

impl Readiness {
    /// Initializing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The workers run: probes succeed from now on, unless the drain has begun.
    pub fn live(&self) {
        let _draining_already =
            self.state
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The end has begun: probes fail from now on.
    pub fn draining(&self) {
        self.state.store(2, Ordering::Release);
    }

    /// Name and meaning of the gauge that is 1 while the state is live.
    pub const LIVE: (&'static str, &'static str) = (
        "envoy_server_live",
        "1 while the sidecar takes traffic, else 0",
    );

    /// Name and meaning of the gauge of the state.
    pub const STATE: (&'static str, &'static str) =
        ("envoy_server_state", "0 live, 1 draining, 3 initializing");

    /// The state as metrics, in Prometheus' text format.
    pub(super) fn metrics(&self) -> String {
        let state = self.state();
        let gauge = |(name, help), value| {
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{}} {value}\n")
        };
        let live = u8::from(state == State::Live);
        gauge(Self::LIVE, live) + &gauge(Self::STATE, state.number())
    }

    /// The state now.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Initializing,
            1 => State::Live,
            _ => State::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_said_and_a_drain_is_final() {
        let readiness = Readiness::new();
        assert_eq!(readiness.state(), State::Initializing);
        readiness.live();
        assert_eq!(readiness.state(), State::Live);
        readiness.draining();
        readiness.live();
        assert_eq!(readiness.state(), State::Draining);
    }
}
