//! A tree of values to a message, field by field, with the path of whatever does not fit.
//!
//! prost-reflect reads the well-known types and bytes; all else is read here, because its own
//! reader stops at the first error and does not say where it stands.

use super::names::nearest;
use super::pool::{extensions, is_extension};
use super::scalar::{scalar, wrong_type};
use crate::error::Report;
use crate::path::Path;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde_json::Value as Json;
use std::collections::HashMap;

/// What stands for a message of any type.
pub(super) const ANY: &str = "google.protobuf.Any";

/// The message of this name that a tree describes, which stands at `path`. Where a part of it does not fit, that part is
/// left out and reported; `None` where nothing can be made of it.
pub(super) fn message(
    pool: &DescriptorPool,
    name: &str,
    json: &Json,
    path: &Path<'_>,
    report: &mut Report,
) -> Option<DynamicMessage> {
    let descriptor = pool.get_message_by_name(name)?;
    Transcoder { pool, report }.message(&descriptor, json, path)
}

struct Transcoder<'a> {
    pool: &'a DescriptorPool,
    report: &'a mut Report,
}

impl Transcoder<'_> {
    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        json: &Json,
        path: &Path<'_>,
    ) -> Option<DynamicMessage> {
        match descriptor.full_name() {
            ANY => return self.any(descriptor, json, path),
            name if name.starts_with("google.protobuf.") => {
                return self.well_known(descriptor, json, path);
            }
            _ => {}
        }
        let Json::Object(object) = json else {
            let message = wrong_type("a mapping of fields", json).message;
            self.report.invalid(path, message);
            return None;
        };
        Some(self.fields(descriptor, object.iter(), path))
    }

    fn fields<'j>(
        &mut self,
        descriptor: &MessageDescriptor,
        given: impl Iterator<Item = (&'j String, &'j Json)>,
        path: &Path<'_>,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (key, json) in given.filter(|(_, json)| !json.is_null()) {
            let Some(field) = descriptor
                .get_field_by_name(key)
                .or_else(|| descriptor.get_field_by_json_name(key))
            else {
                self.unknown_field(descriptor, key, path);
                continue;
            };
            let path = path.field(field.name());
            if self.given_before(&message, &field, &path) {
                continue;
            }
            if let Some(value) = self.field(&field, json, &path) {
                message.set_field(&field, value);
            }
        }
        message
    }

    /// A field given in both its spellings, or beside another of its oneof.
    fn given_before(
        &mut self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        path: &Path<'_>,
    ) -> bool {
        let mut rivals = field
            .containing_oneof()
            .map_or_else(|| vec![field.clone()], |oneof| oneof.fields().collect());
        rivals.retain(|rival| message.has_field(rival));
        let Some(rival) = rivals.first() else {
            return false;
        };
        let message = if rival == field {
            "it is given twice, as field_name and as fieldName; keep one of them".to_owned()
        } else {
            format!("it cannot stand beside {}; keep one of them", rival.name())
        };
        self.report.invalid(path, message);
        true
    }

    fn unknown_field(&mut self, descriptor: &MessageDescriptor, key: &str, path: &Path<'_>) {
        let all: Vec<String> = descriptor.fields().map(|f| f.name().to_owned()).collect();
        let hint = nearest(key, all.iter().map(String::as_str)).map_or_else(
            || "; check its name and its indentation".to_owned(),
            |near| format!("; did you mean {near}?"),
        );
        let name = descriptor.full_name();
        self.report
            .unknown(&path.field(key), format!("{name} has no such field{hint}"));
    }

    fn field(&mut self, field: &FieldDescriptor, json: &Json, path: &Path<'_>) -> Option<Value> {
        let kind = field.kind();
        if field.is_map() {
            return self.map(&kind, json, path);
        }
        if !field.is_list() {
            return self.single(&kind, json, path);
        }
        let Json::Array(elements) = json else {
            let message = wrong_type("a list", json).message;
            self.report.invalid(path, message);
            return None;
        };
        let values = elements
            .iter()
            .enumerate()
            .filter_map(|(i, element)| self.single(&kind, element, &path.index(i)));
        Some(Value::List(values.collect()))
    }

    fn map(&mut self, entry: &Kind, json: &Json, path: &Path<'_>) -> Option<Value> {
        let entry = entry.as_message()?;
        let (keys, values) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field(),
        );
        let Json::Object(object) = json else {
            let message = wrong_type("a mapping", json).message;
            self.report.invalid(path, message);
            return None;
        };
        let mut map = HashMap::new();
        for (key, json) in object {
            let path = path.key(key);
            if keys != Kind::String {
                self.report
                    .refused(&path, "only maps by string are implemented");
                continue;
            }
            if let Some(value) = self.single(&values.kind(), json, &path) {
                map.insert(MapKey::String(key.clone()), value);
            }
        }
        Some(Value::Map(map))
    }

    fn single(&mut self, kind: &Kind, json: &Json, path: &Path<'_>) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => self.message(descriptor, json, path).map(Value::Message),
            Kind::Bytes => self.bytes(json, path),
            scalar_kind => scalar(scalar_kind, json)
                .map_err(|mismatch| {
                    if mismatch.unknown {
                        self.report.unknown(path, mismatch.message);
                    } else {
                        self.report.invalid(path, mismatch.message);
                    }
                })
                .ok(),
        }
    }

    /// Base64, by way of the wrapper message that has nothing but bytes.
    fn bytes(&mut self, json: &Json, path: &Path<'_>) -> Option<Value> {
        let wrapper = self
            .pool
            .get_message_by_name("google.protobuf.BytesValue")?;
        self.well_known(&wrapper, json, path)?
            .take_field_by_name("value")
    }

    fn well_known(
        &mut self,
        descriptor: &MessageDescriptor,
        json: &Json,
        path: &Path<'_>,
    ) -> Option<DynamicMessage> {
        let expected = match descriptor.name() {
            "Duration" => "a duration in seconds such as 1.5s".to_owned(),
            "Timestamp" => "a time such as 2026-01-31T12:00:00Z".to_owned(),
            "BytesValue" => "bytes in base64".to_owned(),
            "Struct" => "a mapping".to_owned(),
            wrapper => match descriptor.get_field_by_name("value") {
                Some(value) => match scalar(&value.kind(), json) {
                    Ok(value) => {
                        let mut message = DynamicMessage::new(descriptor.clone());
                        message.set_field_by_name("value", value);
                        return Some(message);
                    }
                    Err(mismatch) => {
                        self.report.invalid(path, mismatch.message);
                        return None;
                    }
                },
                None => format!("a {wrapper}"),
            },
        };
        let message = DynamicMessage::deserialize(descriptor.clone(), json).ok();
        if message.is_none() {
            let message = wrong_type(&expected, json).message;
            self.report.invalid(path, message);
        }
        message
    }

    fn any(
        &mut self,
        descriptor: &MessageDescriptor,
        json: &Json,
        path: &Path<'_>,
    ) -> Option<DynamicMessage> {
        let Some(type_url) = json.get("@type") else {
            let message = "it has no \"@type\"; name the type of the extension, for example \
                           type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
            self.report.invalid(path, message);
            return None;
        };
        let Some((prefix, name)) = type_url.as_str().and_then(|url| url.rsplit_once('/')) else {
            let message =
                format!("{type_url} is no type URL; write type.googleapis.com/ and the full name");
            self.report.invalid(&path.field("@type"), message);
            return None;
        };
        let Some(inner) = self.pool.get_message_by_name(name) else {
            self.missing_extension(name, path);
            return None;
        };
        let object = json.as_object()?;
        let inner = if name.starts_with("google.protobuf.") {
            // A well-known type has no fields of its own to write its value into.
            let value = object.get("value").unwrap_or(&Json::Null);
            self.message(&inner, value, &path.field("value"))?
        } else {
            let given = object.iter().filter(|(key, _)| *key != "@type");
            self.fields(&inner, given, path)
        };
        let mut any = DynamicMessage::new(descriptor.clone());
        any.set_field_by_name("type_url", Value::String(format!("{prefix}/{name}")));
        any.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
        Some(any)
    }

    fn missing_extension(&mut self, name: &str, path: &Path<'_>) {
        if is_extension(name) {
            let message = format!("{name} is known to Envoy, not implemented by Shunt yet");
            self.report.refused(path, message);
            return;
        }
        let hint = nearest(name, extensions()).map_or_else(
            || "; Shunt knows the extensions of Envoy's v3 API".to_owned(),
            |near| format!("; did you mean {near}?"),
        );
        self.report.unknown(
            &path.field("@type"),
            format!("unknown extension {name}{hint}"),
        );
    }
}
