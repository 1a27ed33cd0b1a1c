//! Statements as `nft` writes them for people, near enough to be found in its listing.

use serde_json::Value;

pub(super) fn statements(statements: &[Value]) -> String {
    let words: Vec<_> = statements.iter().map(statement).collect();
    words.join(" ")
}

pub(super) fn statement(statement: &Value) -> String {
    let mut entries = statement.as_object().into_iter().flatten();
    match entries.next() {
        Some((kind, body)) => pair(kind, body),
        None => statement.to_string(),
    }
}

pub(super) fn pair(kind: &str, body: &Value) -> String {
    let text = |key: &str| body.get(key).map(value).unwrap_or_default();
    match kind {
        "match" => condition(body),
        "counter" => "counter".to_owned(),
        "jump" | "goto" => format!("{kind} {}", text("target")),
        "mangle" => format!("{} set {}", text("key"), text("value")),
        "xt" => format!("xt {} {}", text("type"), text("name")),
        "redirect" | "dnat" | "snat" | "masquerade" | "tproxy" => {
            let mut words = kind.to_owned();
            for key in ["family", "addr", "port"] {
                if body.get(key).is_none_or(Value::is_null) {
                    continue;
                }
                words += match key {
                    "family" => " ",
                    "addr" => " to ",
                    _ if body.get("addr").is_some() => ":",
                    _ => " to :",
                };
                words += &text(key);
            }
            words
        }
        _ if body.is_null() => kind.to_owned(),
        _ => format!("{kind} {body}"),
    }
}

pub(super) fn condition(body: &Value) -> String {
    let text = |key: &str| body.get(key).map(value).unwrap_or_default();
    let operator = match body.get("op").and_then(Value::as_str) {
        Some("==" | "in") | None => String::new(),
        Some(operator) => format!("{operator} "),
    };
    format!("{} {operator}{}", text("left"), text("right"))
}

/// An expression. Depth is bounded by that of the JSON, which its parser limits.
fn value(expression: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(value).collect::<Vec<_>>();
    match expression {
        Value::String(text) => text.clone(),
        Value::Array(items) => list(items).join(","),
        Value::Object(object) => {
            let Some((kind, body)) = object.iter().next() else {
                return expression.to_string();
            };
            let field = |key: &str| body.get(key).map(value).unwrap_or_default();
            match (kind.as_str(), body.as_array()) {
                ("meta" | "ct" | "socket", _) => format!("{kind} {}", field("key")),
                ("payload", _) => format!("{} {}", field("protocol"), field("field")),
                ("prefix", _) => format!("{}/{}", field("addr"), field("len")),
                ("set", Some(items)) => format!("{{ {} }}", list(items).join(", ")),
                ("range", Some(items)) => list(items).join("-"),
                ("concat", Some(items)) => list(items).join(" . "),
                ("&" | "|" | "^", Some(items)) => list(items).join(&format!(" {kind} ")),
                _ => expression.to_string(),
            }
        }
        other => other.to_string(),
    }
}
