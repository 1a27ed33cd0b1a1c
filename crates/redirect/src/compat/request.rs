//! What is asked for, whatever the words.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::backend::{Applied, BackendChoice, Turn, apply_valid};
use crate::capture::{CaptureConfig, Port};
use crate::error::ApplyError;
use crate::facts::PodFacts;
use crate::field::Vocabulary;
use crate::warnings::{self, Container};

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
    /// How many seconds conntrack keeps a connection that the other side has closed; as it is if
    /// not given (Linkerd).
    pub close_wait_timeout: Option<NonZeroU32>,
    /// What was asked for but has no effect, or another than may be meant: each with its remedy.
    pub notes: Vec<String>,
    /// The words it was asked for in.
    pub vocabulary: Vocabulary,
}

impl Request {
    /// Nothing but this.
    pub(crate) fn new(config: CaptureConfig, action: Action, vocabulary: Vocabulary) -> Self {
        Self {
            config,
            action,
            vocabulary,
            backend: BackendChoice::default(),
            validation: None,
            network_namespace: None,
            close_wait_timeout: None,
            notes: Vec::new(),
        }
    }

    /// Writes the rules, as [`crate::backend::apply`] does, in a turn that the caller has taken. Whoever read the request has validated
    /// its policy, which is not done again: where [`Self::config`] was changed since, apply that.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, turn: &Turn) -> Result<Applied, ApplyError> {
        apply_valid(turn, &self.config, self.backend)
    }

    /// What may not be meant by the policy, in the words in which it was asked for. `containers` are
    /// those whose user is known ([`warnings::warnings`]).
    #[must_use]
    pub fn warnings(&self, pod: &PodFacts, containers: &[Container]) -> Vec<String> {
        warnings::warnings(&self.config, pod, containers)
            .iter()
            .map(|warning| warning.text(self.vocabulary))
            .chain(self.notes.iter().cloned())
            .collect()
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
