//! What can be wrong with a configuration, and how it is said.

use crate::path::Path;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The most problems of one configuration that are told in full; the rest is counted.
const TOLD: usize = 20;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where: `static_resources.listeners[0].address`; empty for the whole.
    pub path: String,
    /// What sort of thing is wrong.
    pub kind: ProblemKind,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What sort of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProblemKind {
    /// A field, value or extension that Envoy's API does not have.
    Unknown,
    /// Known to Envoy, not implemented by Shunt.
    Refused,
    /// A value that is out of range, missing, or contradicts another.
    Invalid,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "the file"
        } else {
            &self.path
        };
        // Some reasons are drawings of several lines.
        write!(f, "{path}: {}", self.message.replace('\n', "\n    "))
    }
}

/// All that is wrong with a configuration: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The problems, at most 20 of them.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many more there are.
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}  {problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Collects problems on the way through a configuration.
#[derive(Debug, Default)]
pub(crate) struct Report {
    list: Vec<Problem>,
    more: usize,
}

impl Report {
    /// A field, value or extension that does not exist.
    pub(crate) fn unknown(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.push(path, ProblemKind::Unknown, message.into());
    }

    /// Something that Envoy knows and Shunt does not do.
    pub(crate) fn refused(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.push(path, ProblemKind::Refused, message.into());
    }

    /// A wrong value.
    pub(crate) fn invalid(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.push(path, ProblemKind::Invalid, message.into());
    }

    /// The value, or a problem and `None`.
    pub(crate) fn check<T, E: fmt::Display>(
        &mut self,
        path: &Path<'_>,
        result: Result<T, E>,
    ) -> Option<T> {
        result
            .map_err(|error| self.invalid(path, error.to_string()))
            .ok()
    }

    fn push(&mut self, path: &Path<'_>, kind: ProblemKind, message: String) {
        if self.list.len() < TOLD {
            let path = path.to_string();
            self.list.push(Problem {
                path,
                kind,
                message,
            });
        } else {
            self.more += 1;
        }
    }

    /// The value where nothing was wrong with it, else the problems.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.list.is_empty() {
            return Ok(value);
        }
        Err(Problems {
            list: self.list,
            more: self.more,
        })
    }
}

/// Text that is neither YAML nor JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// Line, from 1; 0 where it is not known.
    pub line: u64,
    /// Column, from 1; 0 where it is not known.
    pub column: u64,
    /// What is wrong there.
    pub message: String,
}

/// Why text did not become protobuf, or protobuf text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The text cannot be read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// The text can be read and is wrong.
    #[error("{0}")]
    Invalid(Problems),
    /// The conversion itself failed; the text is not to blame.
    #[error("{0}")]
    Broken(String),
}

/// Why a bootstrap was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("reading the bootstrap {}: {message}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and the usual remedy.
        message: String,
    },
    /// The text is neither YAML nor JSON.
    #[error("parsing the bootstrap {}: {error}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where, and what.
        error: SyntaxError,
    },
    /// The configuration is wrong, or asks for what Shunt does not do.
    #[error("loading the bootstrap {}: it cannot be served as it stands:\n{problems}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// All that is wrong.
        problems: Problems,
    },
    /// The conversion itself failed; the file is not to blame.
    #[error("converting the bootstrap {}: {message}", file.display())]
    Convert {
        /// The file.
        file: PathBuf,
        /// What failed, and the usual cause.
        message: String,
    },
}

/// Sorts of [`LoadError`], for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadErrorKind {
    /// The file is missing, unreadable, no text, or too large.
    Unreadable,
    /// Neither YAML nor JSON.
    Syntax,
    /// Wrong or not implemented.
    Invalid,
    /// A failure of Shunt or of the machine.
    Internal,
}

impl LoadError {
    /// The sort of this error.
    pub fn kind(&self) -> LoadErrorKind {
        match self {
            Self::Read { .. } => LoadErrorKind::Unreadable,
            Self::Syntax { .. } => LoadErrorKind::Syntax,
            Self::Invalid { .. } => LoadErrorKind::Invalid,
            Self::Convert { .. } => LoadErrorKind::Internal,
        }
    }

    /// All that is wrong with the configuration; `None` where it could not be looked at.
    pub fn problems(&self) -> Option<&Problems> {
        match self {
            Self::Invalid { problems, .. } => Some(problems),
            _ => None,
        }
    }
}
