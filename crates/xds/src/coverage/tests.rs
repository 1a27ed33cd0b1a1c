use super::{Coverage, Verdict, table};
use crate::convert::{Document, descriptors};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

#[test]
fn every_entry_of_the_table_is_a_field_of_envoys_api() {
    let pool = descriptors();
    for Coverage { message, fields } in table() {
        let descriptor = pool
            .get_message_by_name(message)
            .unwrap_or_else(|| panic!("there is no message {message}"));
        for (field, _) in *fields {
            assert!(
                descriptor.get_field_by_name(field).is_some(),
                "{message} has no field {field}"
            );
        }
    }
}

#[test]
fn no_message_or_field_stands_in_the_table_twice() {
    let mut seen = HashSet::new();
    for Coverage { message, fields } in table() {
        assert!(seen.insert((*message, "")), "{message}");
        for (field, _) in *fields {
            assert!(seen.insert((*message, *field)), "{message}.{field}");
        }
    }
}

#[test]
fn every_message_of_the_table_can_be_reached_through_it() {
    let pool = descriptors();
    let documents = [Document::Bootstrap, Document::Resources];
    let mut reached: HashSet<String> = documents.map(|d| d.message().to_owned()).into();
    for Coverage { message, fields } in table() {
        let descriptor = pool.get_message_by_name(message).unwrap();
        for (field, verdict) in *fields {
            let kind = descriptor.get_field_by_name(field).unwrap().kind();
            if let (Some(inner), Verdict::Implemented | Verdict::Partly(_)) =
                (kind.as_message(), verdict)
            {
                reached.insert(inner.full_name().to_owned());
            }
        }
    }
    for Coverage { message, .. } in table() {
        let by_type = message.starts_with("envoy.extensions.");
        assert!(by_type || reached.contains(*message), "{message}");
    }
}

/// The tables of `docs/config.md`.
fn tables() -> String {
    let pool = descriptors();
    let mut text = String::new();
    for Coverage { message, fields } in table() {
        let descriptor = pool.get_message_by_name(message).unwrap();
        writeln!(text, "\n### `{message}`\n\n| field | served |\n|---|---|").unwrap();
        for (field, verdict) in *fields {
            let served = match verdict {
                Verdict::Implemented => "yes".to_owned(),
                Verdict::Partly(which) => format!("yes: {which}"),
                Verdict::Only(default) => format!("only `{default}`, Envoy's default"),
                Verdict::Inert(reason) => format!("inert: {reason}"),
            };
            writeln!(text, "| `{field}` | {served} |").unwrap();
        }
        let refused: Vec<String> = descriptor
            .fields()
            .filter(|field| !fields.iter().any(|(name, _)| *name == field.name()))
            .map(|field| format!("`{}`", field.name()))
            .collect();
        if !refused.is_empty() {
            writeln!(text, "\nRefused: {}.", refused.join(", ")).unwrap();
        }
    }
    text
}

/// Run with `UPDATE=1` to write the tables anew.
#[test]
fn the_tables_in_the_documentation_are_those_of_the_code() {
    const BEGIN: &str = "<!-- made from crates/xds/src/coverage/table.rs: UPDATE=1 cargo test -p \
                         shunt-xds documentation -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, found) = page.split_once(BEGIN).expect("the page lacks its marker");
    let expected = tables();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{expected}")).unwrap();
    } else {
        assert!(
            found == expected,
            "docs/config.md is out of date; run it with UPDATE=1"
        );
    }
}
