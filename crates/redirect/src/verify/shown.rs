//! What a probe, or a conversation, shows of the rules that should decide on it.

use super::flows::Probe;
use super::report::Failure;
use super::text;

/// What a probe showed of rules, by their keys.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// What is wrong about them.
    pub(super) wrong: Vec<(String, Failure)>,
    /// Who took the packets away that they had decided on.
    pub(super) hidden: Vec<(String, String)>,
}

impl Shown {
    /// A rule that is wrong about a probe.
    pub(super) fn wrong(key: String, probe: &Probe, happened: String) -> Self {
        let expected = text::expected(probe);
        let failure = Failure { expected, happened };
        Self {
            wrong: vec![(key, failure)],
            hidden: Vec::new(),
        }
    }

    /// Rules that did what they should with a probe that others then took away.
    pub(super) fn hidden(probe: &Probe, who: &str) -> Self {
        let why = format!(
            "{} was decided on, and counted, as planned; then others' rules dropped it: {who}",
            text::flow(probe)
        );
        let mut keys = probe.decision.keys.clone();
        if keys.is_empty() {
            keys.push(String::new());
        }
        Self {
            wrong: Vec::new(),
            hidden: keys.into_iter().map(|key| (key, why.clone())).collect(),
        }
    }
}
