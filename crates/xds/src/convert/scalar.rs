//! Single values of a tree to the type that a field asks for (the proto3 JSON mapping).

use super::names::nearest;
use prost_reflect::{EnumDescriptor, Kind, Value};
use serde_json::Value as Json;

/// Why a value is not of a field's type: what is wrong, and whether the value is unknown to the
/// field (an enum without such a name) rather than of another type.
pub(super) struct Mismatch {
    pub(super) unknown: bool,
    pub(super) message: String,
}

/// A value of the type `kind`, which is neither a message nor bytes.
pub(super) fn scalar(kind: &Kind, json: &Json) -> Result<Value, Mismatch> {
    match kind {
        Kind::Bool => json.as_bool().map(Value::Bool).ok_or("true or false"),
        Kind::String => json.as_str().map(Value::from_str).ok_or("a string"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(json)
            .map(Value::I32)
            .ok_or("an integer from -2147483648 to 2147483647"),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            integer(json).map(Value::I64).ok_or("a 64-bit integer")
        }
        Kind::Uint32 | Kind::Fixed32 => integer(json)
            .map(Value::U32)
            .ok_or("an integer from 0 to 4294967295"),
        Kind::Uint64 | Kind::Fixed64 => integer(json)
            .map(Value::U64)
            .ok_or("a 64-bit integer that is not negative"),
        #[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
        Kind::Float => float(json).map(|f| Value::F32(f as f32)).ok_or("a number"),
        Kind::Double => float(json).map(Value::F64).ok_or("a number"),
        Kind::Enum(descriptor) => return enumerator(descriptor, json),
        Kind::Bytes | Kind::Message(_) => Err("another value"),
    }
    .map_err(|expected| wrong_type(expected, json))
}

/// "expected X, got Y".
pub(super) fn wrong_type(expected: &str, json: &Json) -> Mismatch {
    let remedy = match json {
        Json::Bool(_) | Json::Number(_) if expected == "a string" => "; put it in quotes",
        _ => "",
    };
    Mismatch {
        unknown: false,
        message: format!("expected {expected}, got {}{remedy}", describe(json)),
    }
}

/// A value in a few words.
fn describe(json: &Json) -> String {
    match json {
        Json::Null => "nothing".to_owned(),
        Json::Bool(value) => format!("{value}"),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        Json::String(_) => "a long string".to_owned(),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a mapping".to_owned(),
    }
}

/// An integer, also where it is written as a string or with a fraction of zero.
fn integer<T: TryFrom<i128>>(json: &Json) -> Option<T> {
    let wide = match json {
        Json::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole))?,
        Json::String(text) => text.parse().ok()?,
        _ => return None,
    };
    T::try_from(wide).ok()
}

fn whole(number: f64) -> Option<i128> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and small"
    )]
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i128)
}

fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        _ => None,
    }
}

fn enumerator(descriptor: &EnumDescriptor, json: &Json) -> Result<Value, Mismatch> {
    let names = || descriptor.values().map(|v| v.name().to_owned());
    match json {
        Json::String(name) => match descriptor.get_value_by_name(name) {
            Some(value) => Ok(Value::EnumNumber(value.number())),
            None => {
                let all: Vec<String> = names().collect();
                let hint = nearest(name, all.iter().map(String::as_str))
                    .map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
                Err(Mismatch {
                    unknown: true,
                    message: format!(
                        "{name:?} is no {}{hint}; it is one of {}",
                        descriptor.full_name(),
                        all.join(", ")
                    ),
                })
            }
        },
        Json::Number(_) => integer::<i32>(json)
            .filter(|number| descriptor.get_value(*number).is_some())
            .map(Value::EnumNumber)
            .ok_or_else(|| Mismatch {
                unknown: true,
                message: format!(
                    "{json} is no {}; it is one of {}",
                    descriptor.full_name(),
                    names().collect::<Vec<_>>().join(", ")
                ),
            }),
        other => Err(wrong_type("the name of a value", other)),
    }
}

/// `Value::String` of a `&str`.
trait FromStr {
    fn from_str(text: &str) -> Self;
}

impl FromStr for Value {
    fn from_str(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}
