//! Shunt's own way of asking for capture: a policy as a YAML file, and flags for the common cases.
//!
//! The schema stands in `schema.rs`, and docs/policy.md tells it to people; a test reads every
//! example of that page. [`read()`] and [`write()`] are each other's inverse.

mod apply;
mod error;
mod fields;
mod leaf;
mod node;
mod schema;
#[cfg(test)]
mod tests;

pub use apply::{ApplyArgs, ApplyArgsError};
pub use error::PolicyError;

use serde::Deserialize as _;

use self::node::Node;
use crate::capture::CaptureConfig;

/// What [`write()`] failed at; it should be impossible.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the policy as YAML: {0}")]
pub struct WriteError(String);

/// Reads a policy: YAML, of which JSON is a part. What is not given is as in
/// [`CaptureConfig::default`].
///
/// # Errors
/// If it is not UTF-8, is no policy, says something that is wrong, or contradicts itself.
pub fn read(text: impl AsRef<[u8]>) -> Result<CaptureConfig, PolicyError> {
    let bytes = text.as_ref();
    let text =
        str::from_utf8(bytes).map_err(|error| PolicyError::not_utf8(bytes, error.valid_up_to()))?;
    let said = |line: &str| !matches!(line.trim_start().as_bytes(), [] | [b'#', ..]);
    if !text.lines().any(said) {
        return Err(PolicyError::empty());
    }
    let file = Node::read(text).map_err(|error| PolicyError::of_text(&error))?;
    let document = schema::Document::deserialize(&file).map_err(PolicyError::of_fault)?;
    let config = CaptureConfig::from(document.spec);
    config
        .validate()
        .map_err(|invalid| PolicyError::of_policy(&file, &invalid))?;
    Ok(config)
}

/// Writes a policy, each field of it, so that [`read()`] makes the same of it.
///
/// # Errors
/// Only such as should be impossible.
pub fn write(config: &CaptureConfig) -> Result<String, WriteError> {
    let document = schema::Document::of(config);
    serde_saphyr::to_string(&document).map_err(|error| WriteError(error.to_string()))
}
