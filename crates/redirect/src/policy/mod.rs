//! Shunt's own way of asking for capture: a policy as a YAML file, and flags for the common cases.
//!
//! The schema stands in `schema.rs`, and docs/policy.md tells it to people; a test reads every
//! example of that page. [`read()`] and [`write()`] are each other's inverse.

mod apply;
mod error;
mod leaf;
mod schema;
#[cfg(test)]
mod tests;

pub use apply::{ApplyArgs, ApplyArgsError};
pub use error::PolicyError;

use crate::capture::CaptureConfig;

/// What [`write()`] failed at; it should be impossible.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the policy as YAML: {0}")]
pub struct WriteError(String);

/// Reads a policy: YAML, of which JSON is a part. What is not given is as in
/// [`CaptureConfig::default`].
///
/// # Errors
/// If it is no policy, says something that is wrong, or contradicts itself.
pub fn read(text: &str) -> Result<CaptureConfig, PolicyError> {
    let said = |line: &str| !matches!(line.trim_start().as_bytes(), [] | [b'#', ..]);
    if !text.lines().any(said) {
        return Err(PolicyError::empty());
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: 2_000_000,
            max_events: 4_000_000,
            max_depth: 16,
            flow_nesting_limit: 16,
        },
    };
    let document: schema::Document = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| PolicyError::of_text(text, &error))?;
    let config = CaptureConfig::from(document.spec);
    config
        .validate()
        .map_err(|invalid| PolicyError::of_policy(text, &invalid))?;
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
