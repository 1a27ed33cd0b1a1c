//! What is wrong with a policy file, and where: line, column, and the path of the field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::budget::BudgetBreach;

use crate::field::Vocabulary;
use crate::validate::Invalid;

/// Something in a policy file that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// From 1; `None` if the fault has no place.
    pub place: Option<(u64, u64)>,
    /// The field, like `spec.inbound.excludePorts[2]:`, to be read before the message; empty if
    /// the text is not even YAML.
    pub path: String,
    /// What is wrong, and the remedy.
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
    pub(super) fn empty() -> Self {
        Self {
            place: None,
            path: String::new(),
            message: "is empty: a policy begins with `apiVersion: shunt.dev/v1` and \
                      `kind: CapturePolicy`"
                .to_owned(),
        }
    }

    /// What the YAML parser or the schema objects to.
    pub(super) fn of_text(text: &str, error: &serde_saphyr::Error) -> Self {
        let place = error
            .location()
            .map(|location| (location.line(), location.column()))
            .filter(|(line, _)| *line > 0);
        let path = match (place, tree(text)) {
            (Some(place), Some(tree)) => tree.path_at(place),
            _ => String::new(),
        };
        Self {
            place,
            path: if path.is_empty() { path } else { path + ":" },
            message: message(error),
        }
    }

    /// A contradiction between fields.
    pub(super) fn of_policy(text: &str, invalid: &Invalid) -> Self {
        let path = format!("spec.{}", invalid.field().name(Vocabulary::Policy));
        let place = tree(text).and_then(|tree| tree.place_of(&path));
        Self {
            place,
            path,
            message: invalid.reason(Vocabulary::Policy),
        }
    }
}

fn message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { .. } => {
            "is given twice; keep one of them".to_owned()
        }
        serde_saphyr::Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => {
                "a second document begins here; a policy is one document".to_owned()
            }
            BudgetBreach::Depth { .. } => "it is nested deeper than any policy".to_owned(),
            other => format!("the text, its aliases expanded, is too large ({other:?})"),
        },
        other => {
            let text = other.to_string();
            // The place is told before.
            let end = text.find(" at line ").unwrap_or(text.len());
            text[..end].to_owned()
        }
    }
}

/// The text as a tree that knows where each key and item stands.
enum Tree {
    Map(Vec<(Spanned<String>, Self)>),
    Seq(Vec<Spanned<Self>>),
    Other,
}

fn tree(text: &str) -> Option<Tree> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::FirstWins,
    };
    serde_saphyr::from_str_with_options(text, options).ok()
}

fn place<T>(spanned: &Spanned<T>) -> (u64, u64) {
    (spanned.referenced.line(), spanned.referenced.column())
}

impl Tree {
    /// The path of the innermost key or item that begins at this place or before.
    fn path_at(&self, at: (u64, u64)) -> String {
        match self {
            Self::Map(entries) => {
                let last = entries.iter().rev().find(|(key, _)| place(key) <= at);
                last.map_or_else(String::new, |(key, value)| {
                    let below = value.path_at(at);
                    let dot = if below.is_empty() || below.starts_with('[') {
                        ""
                    } else {
                        "."
                    };
                    format!("{}{dot}{below}", key.value)
                })
            }
            Self::Seq(items) => {
                let last = items
                    .iter()
                    .enumerate()
                    .rev()
                    .find(|(_, item)| place(item) <= at);
                last.map_or_else(String::new, |(index, item)| {
                    format!("[{index}]{}", item.value.path_at(at))
                })
            }
            Self::Other => String::new(),
        }
    }

    /// Where the field of this path stands, or the nearest around it.
    fn place_of(&self, path: &str) -> Option<(u64, u64)> {
        let Self::Map(entries) = self else {
            return None;
        };
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let (key, value) = entries.iter().find(|(key, _)| key.value == first)?;
        value.place_of(rest).or_else(|| Some(place(key)))
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_str<E>(self, _value: &str) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Tree::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}
