//! What is asked for, whatever the words.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::BackendChoice;
use crate::capture::{CaptureConfig, Port};
use crate::field::Vocabulary;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The policy.
    pub config: CaptureConfig,
    /// What to do with it.
    pub action: Action,
    /// What writes the rules.
    pub backend: BackendChoice,
    /// Istio's own proof of the rules, after they are written.
    pub validation: Option<Validation>,
    /// The network namespace to do it in, as a file; the caller's own if not given.
    pub network_namespace: Option<PathBuf>,
    /// What was asked for but has no effect, or another than may be meant: each with its remedy.
    pub notes: Vec<String>,
    /// The words it was asked for in.
    pub vocabulary: Vocabulary,
}

impl Request {
    /// What was asked for, but is seldom meant: Istio's defaults let every connection pass the
    /// mesh by. Nothing where rules are removed or left.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        if matches!(self.action, Action::Remove | Action::Leave) {
            return Vec::new();
        }
        let outbound = self.config.outbound.captures_nothing().then_some(
            "captures nothing outbound (no -i, no -q): every connection that the pod opens passes \
             the proxy by; `-i '*'` captures all of them",
        );
        let inbound = self.config.inbound.captures_nothing().then_some(
            "captures nothing inbound (no -b): every connection that arrives passes the proxy by; \
             `-b '*'` captures all of them",
        );
        let both = outbound.into_iter().chain(inbound).map(str::to_owned);
        both.chain(self.notes.iter().cloned()).collect()
    }
}

/// What to do with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the rules.
    Apply,
    /// Print the rules.
    Print {
        /// Where they are written to as well.
        file: Option<PathBuf>,
    },
    /// Remove whatever rules there are.
    Remove,
    /// Leave the rules to whoever else writes them (Istio's CNI plugin).
    Leave,
}

/// Istio's own proof: a connection of the proxy to itself must come back at the capture port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The port that is called; nobody listens there.
    pub probe_port: Port,
    /// How long it may take.
    pub timeout: Duration,
}
