//! YAML or JSON text to a tree of values.
//!
//! Stricter than either parser alone: a key given twice is an error, and so is anything that could
//! make a small file into a large tree.

use crate::error::SyntaxError;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use std::fmt;

/// How deep a text may be nested. A header match inside a bootstrap stands at depth 20.
const MAX_DEPTH: usize = 64;

/// How much of a text may come from aliases: a bootstrap of some megabytes.
const MAX_REPLAYED: usize = 200_000;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Format {
    /// YAML, of which most JSON is a part.
    Yaml,
    /// JSON, by the name of the file.
    Json,
}

/// Parse a text.
pub(super) fn parse(text: &str, format: Format) -> Result<Value, SyntaxError> {
    // JSON is ten times as fast to read by its own parser; where that fails on a text that merely
    // begins like JSON, the YAML parser has the last word.
    if format == Format::Json || text.trim_start().starts_with('{') {
        let read = parse_json(text);
        if read.is_ok() || format == Format::Json {
            return read;
        }
    }
    parse_yaml(text)
}

fn parse_json(text: &str) -> Result<Value, SyntaxError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Tree.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| SyntaxError {
            line: e.line() as u64,
            column: e.column() as u64,
            message: without_place(&e.to_string()),
        })
}

fn parse_yaml(text: &str) -> Result<Value, SyntaxError> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // Aliases spare a writer some repetition: one anchor used by a thousand listeners is no
        // attack. What they make of a small text may cost no more than a large one.
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
        },
        // Ten thousand clusters and as many routes take about a million nodes.
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: 8_000_000,
            max_events: 16_000_000,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            enforce_alias_anchor_ratio: false,
        },
    };
    serde_saphyr::from_str_with_options::<Strict>(text, options)
        .map(|strict| strict.0)
        .map_err(|error| {
            let place = error.location();
            SyntaxError {
                line: place.map_or(0, |l| l.line()),
                column: place.map_or(0, |l| l.column()),
                message: reason(&error),
            }
        })
}

/// What the YAML parser objects to, in the words of someone who edits the file.
fn reason(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            format!("the key {key:?} is given twice; keep one of them")
        }
        serde_saphyr::Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => {
                "a second document begins here; a bootstrap is one document".to_owned()
            }
            BudgetBreach::Depth { .. } => format!("it is nested deeper than {MAX_DEPTH} levels"),
            other => format!("the text, its aliases expanded, is too large ({other:?})"),
        },
        // An error inside of what an alias stands for has another around it.
        serde_saphyr::Error::AliasError { error, .. } => reason(error),
        other => without_place(&other.to_string()),
    }
}

/// The parsers end their messages with the place, which is told beside the message.
fn without_place(message: &str) -> String {
    let end = message.find(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}

/// A tree without double keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tree.deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Tree;

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "the key {key:?} is given twice; keep one of them"
                )));
            }
            let value = map.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
