//! Which fields of Envoy's API are served: no known field is ignored in silence.
//!
//! On the way of configuration this stands between the text and the model: every field that a
//! configuration sets, also inside an `Any`, is looked up in one table by its message and name.
//! What the table does not name is refused. Fields that are served may still be refused for their
//! value; that is said by the model conversion ([`crate::bootstrap`]), and noted in the table.

mod table;

use crate::error::Report;
use crate::path::Path;
use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};
use std::collections::HashMap;

pub use table::table;

/// The fields of one message that are not refused.
#[derive(Debug)]
pub struct Coverage {
    /// Full name of the message.
    pub message: &'static str,
    /// Its fields, by name, and what becomes of them.
    pub fields: &'static [(&'static str, Verdict)],
}

/// What becomes of a field that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does what Envoy's documentation says.
    Implemented,
    /// It does what Envoy's documentation says, for some values or with a remark.
    Partly(&'static str),
    /// It is accepted and changes nothing, for this reason.
    Inert(&'static str),
    /// Only Envoy's default is accepted, written like this.
    Only(&'static str),
}

/// Look up each field that a message sets, and report those that are refused.
pub(crate) fn check(message: &DynamicMessage, path: &Path<'_>, report: &mut Report) {
    let table = table()
        .flat_map(|coverage| {
            let fields = coverage.fields.iter();
            fields.map(|(field, verdict)| ((coverage.message, *field), *verdict))
        })
        .collect();
    Check { table, report }.message(message, path);
}

struct Check<'a> {
    table: HashMap<(&'static str, &'static str), Verdict>,
    report: &'a mut Report,
}

impl Check<'_> {
    fn message(&mut self, message: &DynamicMessage, path: &Path<'_>) {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => return self.any(message, path),
            name if name.starts_with("google.protobuf.") => return,
            _ => {}
        }
        for (field, value) in message.fields() {
            let path = path.field(field.name());
            match self.table.get(&(descriptor.full_name(), field.name())) {
                Some(Verdict::Implemented | Verdict::Partly(_)) => self.value(value, &path),
                Some(Verdict::Inert(_)) => {}
                Some(Verdict::Only(default)) => {
                    let given = plain(value, &field.kind());
                    if given.as_deref() != Some(default) {
                        self.report.refused(
                            &path,
                            format!(
                                "known to Envoy, not implemented by Shunt yet; leave it out or \
                                 at {default}"
                            ),
                        );
                    }
                }
                None => self
                    .report
                    .refused(&path, "known to Envoy, not implemented by Shunt yet"),
            }
        }
    }

    fn value(&mut self, value: &Value, path: &Path<'_>) {
        match value {
            Value::Message(message) => self.message(message, path),
            Value::List(list) => {
                for (i, element) in list.iter().enumerate() {
                    self.value(element, &path.index(i));
                }
            }
            Value::Map(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| key.as_str());
                for (key, value) in entries {
                    self.value(value, &path.key(key.as_str().unwrap_or_default()));
                }
            }
            _ => {}
        }
    }

    /// An `Any` is looked into; its type was found in the descriptors when it was read.
    fn any(&mut self, any: &DynamicMessage, path: &Path<'_>) {
        let pool = any.descriptor().parent_pool().clone();
        let inner = any
            .get_field_by_name("type_url")
            .and_then(|url| url.as_str()?.rsplit('/').next().map(str::to_owned))
            .and_then(|name| pool.get_message_by_name(&name))
            .zip(any.get_field_by_name("value"))
            .and_then(|(descriptor, bytes)| {
                DynamicMessage::decode(descriptor, bytes.as_bytes()?.clone()).ok()
            });
        match inner {
            Some(inner) => self.message(&inner, path),
            None => self.report.invalid(path, "the extension cannot be decoded"),
        }
    }
}

/// A value as the table writes it: `true`, `60`, `5s`, `KEEP_UNCHANGED`. `None` for what has no
/// such form.
fn plain(value: &Value, kind: &Kind) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::U32(value) => Some(value.to_string()),
        Value::U64(value) => Some(value.to_string()),
        Value::EnumNumber(number) => kind
            .as_enum()
            .and_then(|e| e.get_value(*number))
            .map(|value| value.name().to_owned()),
        Value::Message(message)
            if message.descriptor().full_name() == "google.protobuf.Duration" =>
        {
            let part = |name| message.get_field_by_name(name).map(|v| v.into_owned());
            match (part("seconds"), part("nanos")) {
                (Some(Value::I64(seconds)), Some(Value::I32(0))) => Some(format!("{seconds}s")),
                _ => None,
            }
        }
        Value::Message(message) => {
            let field = message.descriptor().get_field_by_name("value")?;
            plain(&message.get_field(&field), &field.kind())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
