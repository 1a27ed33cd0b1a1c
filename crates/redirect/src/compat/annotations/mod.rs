//! Policies as a pod's annotations, of Istio and of Linkerd.
//!
//! Pure: whoever reads pods from Kubernetes passes what it found. Strict: an annotation about
//! capture that is unknown, wrong or contradicts another is an error that names it, because who
//! mistypes one asks for something else than he gets.

mod istio;
mod linkerd;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use istio::istio;
pub use linkerd::linkerd;

use super::values::Reason;
use crate::field::Vocabulary;
use crate::nearest::nearest;
use crate::validate::Invalid;

/// Annotations, as Kubernetes has them.
pub type Annotations = BTreeMap<String, String>;

/// Who the proxy's container runs as (`securityContext` of the container, else of the pod).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUser {
    /// `runAsUser`.
    pub uid: Option<u32>,
    /// `runAsGroup`.
    pub gid: Option<u32>,
}

/// An annotation that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} {reason}")]
pub struct AnnotationError {
    origin: String,
    reason: Reason,
    no_capture: bool,
}

impl AnnotationError {
    /// A contradiction.
    fn of(invalid: Invalid, vocabulary: Vocabulary) -> Self {
        Self {
            origin: invalid.field().name(vocabulary).to_owned(),
            reason: Reason::Invalid(invalid, vocabulary),
            no_capture: false,
        }
    }

    /// Whether the pod asks for no capture at all (`interceptionMode: NONE`): no rules are to be
    /// written, and nothing is wrong.
    #[must_use]
    pub fn asks_for_no_capture(&self) -> bool {
        self.no_capture
    }
}

/// An annotation that is there.
#[derive(Clone, Copy, Debug)]
struct Given<'a> {
    name: &'a str,
    value: &'a str,
}

impl Given<'_> {
    fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, Reason>) -> Result<T, AnnotationError> {
        parse(self.value.trim()).map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: Reason) -> AnnotationError {
        AnnotationError {
            origin: self.to_string(),
            reason,
            no_capture: false,
        }
    }
}

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {}: '{}'", self.name, self.value)
    }
}

/// Refuses an annotation whose name begins with `prefix`, but is not known: it was mistyped, and
/// asks for something that would not happen.
fn refuse_unknown(
    annotations: &Annotations,
    prefix: &str,
    known: &[&str],
) -> Result<(), AnnotationError> {
    let mut those = annotations
        .iter()
        .filter(|(name, _)| name.starts_with(prefix));
    let Some((name, value)) = those.find(|(name, _)| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    fn last(name: &str) -> &str {
        name.rsplit('/').next().unwrap_or(name)
    }
    let names: Vec<_> = known.iter().map(|name| last(name)).collect();
    let meant = nearest(last(name), &names).map_or_else(String::new, |name| format!(" to {name}"));
    Err(Given { name, value }.error(Reason::Is(
        format!(
            "is not known: remove it, or correct its name{meant}; known are {}",
            known.join(", ")
        )
        .into(),
    )))
}

fn given<'a>(annotations: &'a Annotations, name: &str) -> Option<Given<'a>> {
    let (name, value) = annotations.get_key_value(name)?;
    Some(Given { name, value })
}
