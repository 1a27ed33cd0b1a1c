//! Takes what must not be shown out of a message.

use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

/// What stands in its place, as in Envoy.
const REDACTED: &str = "[redacted]";

/// Fields that hold secrets, by message: those that Envoy's API calls sensitive, of what Shunt
/// takes.
const SENSITIVE: &[(&str, &str)] = &[(
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    "private_key",
)];

/// Redact a message, also inside of any `Any`.
pub(super) fn redact(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Any" {
        return redact_any(message);
    }
    for field in descriptor
        .fields()
        .filter(|field| field.kind().as_message().is_some())
    {
        if !message.has_field(&field) {
            continue;
        }
        let sensitive = SENSITIVE.contains(&(descriptor.full_name(), field.name()));
        value(message.get_field_mut(&field), sensitive);
    }
}

fn value(value: &mut Value, sensitive: bool) {
    match value {
        Value::Message(source) if sensitive => {
            for inline in ["inline_string", "inline_bytes"] {
                let given = source.has_field_by_name(inline);
                if given {
                    let redacted = match inline {
                        "inline_string" => Value::String(REDACTED.to_owned()),
                        _ => Value::Bytes(REDACTED.into()),
                    };
                    source.set_field_by_name(inline, redacted);
                }
            }
        }
        Value::Message(message) => redact(message),
        Value::List(list) => list.iter_mut().for_each(|v| self::value(v, sensitive)),
        Value::Map(map) => map.values_mut().for_each(|v| self::value(v, sensitive)),
        _ => {}
    }
}

fn redact_any(any: &mut DynamicMessage) {
    let pool = any.descriptor().parent_pool().clone();
    let inner = any
        .get_field_by_name("type_url")
        .and_then(|url| url.as_str()?.rsplit('/').next().map(str::to_owned))
        .and_then(|name| pool.get_message_by_name(&name))
        .zip(any.get_field_by_name("value"))
        .and_then(|(descriptor, bytes)| {
            DynamicMessage::decode(descriptor, bytes.as_bytes()?.clone()).ok()
        });
    if let Some(mut inner) = inner {
        redact(&mut inner);
        any.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
    }
}
