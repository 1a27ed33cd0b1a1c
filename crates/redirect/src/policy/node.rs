//! The text of a policy file as a tree whose nodes know where they stand and how they are written.
//!
//! YAML guesses what a bare word is: `070` is a number to it, `1_000` too, and `off` a boolean. Here
//! every word stays as it is written, and the schema alone says what it means. What a policy has no
//! need for (anchors, aliases, merge keys, tags, a second document) is refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Spanned, budget, from_str_with_options, options};

/// Line and column, from 1.
pub(super) type Place = (u64, u64);

/// A value, and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Option<Place>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Fields, in the order of the text.
    Map(Vec<(Key, Node)>),
    List(Vec<Node>),
    /// A word in quotes, or one that YAML takes for nothing but text.
    Text(String),
    /// A bare word that YAML takes for a number or a boolean, as it is written.
    Bare(String),
    /// No value: nothing is written, or `null` or `~`.
    Nothing,
}

/// The name of a field, and where it stands.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) place: Option<Place>,
    pub(super) name: String,
}

impl Node {
    /// Reads a text.
    ///
    /// # Errors
    /// If it is not YAML, or uses what a policy has no need for.
    pub(super) fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        let options = options! {
            with_snippet: false,
            budget: budget! {
                max_documents: 1,
                max_nodes: 2_000_000,
                max_events: 4_000_000,
                max_depth: 16,
                flow_nesting_limit: 16,
                // Else a few lines can stand for gigabytes.
                max_anchors: 0,
                max_aliases: 0,
            },
            merge_keys: MergeKeyPolicy::Error,
            reject_unsupported_tags: true,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        };
        let read: Spanned<Read> = from_str_with_options(text, options)?;
        Ok(Self::of(read, text))
    }

    fn of(read: Spanned<Read>, text: &str) -> Self {
        let place = place(&read);
        let value = match read.value {
            Read::Map(fields) => {
                let field = |(key, value): (Spanned<String>, _)| {
                    let place = self::place(&key);
                    let name = key.value;
                    (Key { place, name }, Self::of(value, text))
                };
                Value::Map(fields.into_iter().map(field).collect())
            }
            Read::List(items) => {
                Value::List(items.into_iter().map(|item| Self::of(item, text)).collect())
            }
            Read::Text(text) => Value::Text(text),
            Read::Bare => match written(read.referenced.span(), text) {
                Some(word) => Value::Bare(word.to_owned()),
                None => Value::Nothing,
            },
            Read::Nothing => Value::Nothing,
        };
        Self { place, value }
    }

    /// Where the field of this path stands, or the nearest around it.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let Value::Map(fields) = &self.value else {
            return None;
        };
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let (key, value) = fields.iter().find(|(key, _)| key.name == first)?;
        value.place_of(rest).or(key.place)
    }
}

/// What is found, to be read after "is" or "not".
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Map(_) => f.write_str("a section with fields"),
            Value::List(_) => f.write_str("a list"),
            Value::Text(text) => write!(f, "`{text}`"),
            Value::Bare(word) => write!(f, "`{word}`"),
            Value::Nothing => f.write_str("without a value"),
        }
    }
}

fn place<T>(spanned: &Spanned<T>) -> Option<Place> {
    let place = (spanned.referenced.line(), spanned.referenced.column());
    (place.0 > 0).then_some(place)
}

/// What stands at this span.
fn written(span: serde_saphyr::Span, text: &str) -> Option<&str> {
    let first = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    text.get(first..first.checked_add(length)?)
}

/// What the YAML parser takes a value for.
enum Read {
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
    List(Vec<Spanned<Self>>),
    Text(String),
    Bare,
    Nothing,
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Nothing)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_i128<E>(self, _value: i128) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_u128<E>(self, _value: u128) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Read, E> {
        Ok(Read::Bare)
    }

    fn visit_str<E>(self, text: &str) -> Result<Read, E> {
        Ok(Read::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Read, E> {
        Ok(Read::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Read, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Read::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key()? {
            fields.push((key, map.next_value()?));
        }
        Ok(Read::Map(fields))
    }
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor)
    }
}
