//! What is wrong with a policy file, and where: line, column, and the path of the field.

use std::fmt;

use serde_saphyr::budget::BudgetBreach;

use super::fields::Fault;
use super::node::Node;
use crate::field::Vocabulary;
use crate::validate::Invalid;

/// Something in a policy file that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Line and column, from 1; `None` if the fault has no place.
    pub place: Option<(u64, u64)>,
    /// The field, like `spec.inbound.excludePorts[2]`; empty if the fault is none of a field's.
    pub path: String,
    /// What is wrong, and the remedy, to be read after the path.
    pub message: String,
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{} ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl PolicyError {
    fn of_no_field(place: Option<(u64, u64)>, message: impl Into<String>) -> Self {
        Self {
            place,
            path: String::new(),
            message: message.into(),
        }
    }

    pub(super) fn empty() -> Self {
        Self::of_no_field(
            None,
            "is empty: a policy begins with `apiVersion: shunt.dev/v1` and `kind: CapturePolicy`",
        )
    }

    /// The bytes after `valid` are no text.
    pub(super) fn not_utf8(bytes: &[u8], valid: usize) -> Self {
        let before = &bytes[..valid];
        let line = before.split(|byte| *byte == b'\n');
        let last = line.clone().next_back().unwrap_or_default();
        // Of what is valid.
        let column = String::from_utf8_lossy(last).chars().count();
        let found = bytes.get(valid).copied().unwrap_or_default();
        let place = (line.count() as u64, column as u64 + 1);
        Self::of_no_field(
            Some(place),
            format!("the byte 0x{found:02x} is not UTF-8; save the file as UTF-8"),
        )
    }

    /// What the YAML parser objects to.
    pub(super) fn of_text(error: &serde_saphyr::Error) -> Self {
        let place = error
            .location()
            .map(|location| (location.line(), location.column()))
            .filter(|(line, _)| *line > 0);
        Self::of_no_field(place, message(error))
    }

    /// What the schema objects to.
    pub(super) fn of_fault(fault: Fault) -> Self {
        Self {
            place: fault.place,
            path: match fault.path.as_str() {
                "" => "the file".to_owned(),
                _ => fault.path,
            },
            message: fault.message,
        }
    }

    /// A contradiction between fields.
    pub(super) fn of_policy(file: &Node, invalid: &Invalid) -> Self {
        let path = format!("spec.{}", invalid.field().name(Vocabulary::Policy));
        Self {
            place: file.place_of(&path),
            path,
            message: invalid.reason(Vocabulary::Policy),
        }
    }
}

const NO_ALIASES: &str = "anchors and aliases (`&name`, `*name`) are not taken; write the value out \
                          wherever it is meant, or put a word that begins so in quotes";

fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` is given twice in one section; keep one of them")
        }
        Error::MergeKeyNotAllowed { .. } => {
            "merge keys (`<<`) are not taken; write the fields out".to_owned()
        }
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => {
                "a second document begins here; a policy is one document".to_owned()
            }
            BudgetBreach::Depth { .. } => "this is nested deeper than any policy".to_owned(),
            BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } => NO_ALIASES.to_owned(),
            _ => {
                "this is longer than any policy; write wider CIDR blocks and port ranges".to_owned()
            }
        },
        Error::UnknownAnchor { .. } => NO_ALIASES.to_owned(),
        Error::Unexpected { .. } | Error::NullIntoString { .. } => {
            "the name of a field is missing here; write a word before the colon".to_owned()
        }
        Error::UnsupportedTag { tag, .. } => format!("tags (`{tag}`) are not taken; leave it out"),
        other => {
            let text = other.to_string();
            if text.contains("anchor or alias") {
                return NO_ALIASES.to_owned();
            }
            // The place is told before.
            let end = text.find(" at line ").unwrap_or(text.len());
            format!("this is not YAML: {}", &text[..end])
        }
    }
}
