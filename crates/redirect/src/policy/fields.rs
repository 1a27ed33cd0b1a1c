//! From the tree of a text to the fields of the schema. What is wrong is told with its place and its
//! path, with what was found and what is expected.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Key, Node, Place, Value};
use crate::nearest::nearest;

/// A value that the schema does not allow.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Option<Place>,
    /// From the root of the file.
    pub(super) path: String,
    /// What is wrong, to be read after the path.
    pub(super) message: String,
}

impl Fault {
    fn new(message: String) -> Self {
        Self {
            place: None,
            path: String::new(),
            message,
        }
    }

    /// Not what is expected there.
    fn unlike(found: &Node, expected: impl fmt::Display) -> Self {
        let found_is = match found.value {
            Value::Nothing => "has no value".to_owned(),
            _ => format!("is {found}"),
        };
        Self::new(format!("{found_is}; expected {expected}")).at(found.place)
    }

    /// The innermost place counts.
    fn at(mut self, place: Option<Place>) -> Self {
        self.place = self.place.or(place);
        self
    }

    fn under(mut self, step: &str) -> Self {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, step);
        self
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("is {found}; expected {expected}"))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!(
            "is `{found}`; expected {}{}",
            one_of(known),
            meant(found, known)
        ))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!(
            "is not known{}; known here are: {}",
            meant(name, known),
            known.join(", ")
        ))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format!("has no {name}, which is required; write it"))
    }
}

fn meant(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
}

fn one_of(known: &[&str]) -> String {
    match known {
        [only] => format!("`{only}`"),
        _ => format!("one of: {}", known.join(", ")),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let place = self.place;
        let read = match &self.value {
            Value::Map(_) | Value::Nothing => return Err(Fault::unlike(self, Expect(&visitor))),
            Value::List(items) => return visit_list(items, visitor).map_err(|f| f.at(place)),
            Value::Text(word) | Value::Bare(word) => visitor.visit_str(word),
        };
        read.map_err(|fault: Fault| fault.at(place))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Bare(word) if word == "true" => visitor.visit_bool(true),
            Value::Bare(word) if word == "false" => visitor.visit_bool(false),
            _ => Err(Fault::unlike(self, "true or false, without quotes")),
        }
    }

    /// What is written without a value is most likely not meant as if it were not written.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::List(items) => visit_list(items, visitor).map_err(|f| f.at(self.place)),
            Value::Text(word) | Value::Bare(word) => {
                Err(Fault::unlike(self, format_args!("a list: write [{word}]")))
            }
            _ => Err(Fault::unlike(self, "a list: write [] for an empty one")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Map(entries) => visitor
                .visit_map(Entries {
                    rest: entries.iter(),
                    value: None,
                })
                .map_err(|fault| fault.at(self.place)),
            _ => Err(Fault::unlike(
                self,
                format_args!("a section with fields ({}), or {{}}", fields.join(", ")),
            )),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(word) | Value::Bare(word) => {
                let word: StrDeserializer<'_, Fault> = word.as_str().into_deserializer();
                visitor
                    .visit_enum(word)
                    .map_err(|fault| fault.at(self.place))
            }
            _ => Err(Fault::unlike(self, one_of(known))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// What a visitor expects, for people.
struct Expect<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> fmt::Display for Expect<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

fn visit_list<'de, V: Visitor<'de>>(items: &'de [Node], visitor: V) -> Result<V::Value, Fault> {
    visitor.visit_seq(Items {
        rest: items.iter().enumerate(),
    })
}

struct Items<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.rest.next() else {
            return Ok(None);
        };
        let read = seed.deserialize(item).map(Some);
        read.map_err(|fault| fault.under(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    value: Option<(&'de Key, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let name: StrDeserializer<'_, Fault> = key.name.as_str().into_deserializer();
        let read = seed.deserialize(name).map(Some);
        read.map_err(|fault| fault.at(key.place).under(&key.name))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(Fault::new("a value was read before its name".to_owned()));
        };
        let read = seed.deserialize(value);
        read.map_err(|fault| fault.at(key.place).under(&key.name))
    }
}
