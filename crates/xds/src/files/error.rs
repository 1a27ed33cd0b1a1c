//! Why a file of resources is not taken.

use super::contents::Kind;
use crate::error::{Problems, SyntaxError};
use std::path::PathBuf;

/// Why a file of resources was not taken. What was taken from it before stays.
#[derive(Debug, thiserror::Error)]
#[error("the {} in {}: {reason}", kind.what(), file.display())]
pub struct FileError {
    pub(super) kind: Kind,
    pub(super) file: PathBuf,
    pub(super) reason: Reason,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// It is neither YAML nor JSON.
    #[error(transparent)]
    Syntax(SyntaxError),
    /// What it holds is wrong, or is not implemented.
    #[error("it cannot be served as it stands:\n{0}")]
    Invalid(Problems),
    /// One secret of it cannot be used; the others are.
    #[error("the secret {name:?} cannot be used as it stands:\n{problems}")]
    HeldBack {
        /// Which.
        name: String,
        /// Why.
        problems: Problems,
    },
    /// The conversion failed; the file is not to blame.
    #[error("converting it: {0}")]
    Convert(String),
    /// It contradicts resources that are elsewhere, or a socket cannot be had.
    #[error("it cannot be served beside what else there is: {0}")]
    Apply(String),
}

impl FileError {
    /// Whether it could be read, and what it holds is to blame.
    pub(super) fn is_rejection(&self) -> bool {
        matches!(self.reason, Reason::Invalid(_) | Reason::Apply(_))
    }
}
