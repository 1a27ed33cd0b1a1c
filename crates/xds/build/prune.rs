//! Cuts a set of descriptors down to the messages and enums that some roots can reach.

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, MessageOptions};
use std::collections::{BTreeMap, BTreeSet};

/// Where a type is defined, and which types its fields name. A nested type keeps its parents.
struct Definition {
    file: String,
    uses: Vec<String>,
}

/// The files that define `roots` and all they reach, without options, services, extensions and
/// comments. Names are full names without a leading dot.
///
/// # Errors
/// Where a root or a referenced type is not defined.
pub(crate) fn reachable(
    files: BTreeMap<String, FileDescriptorProto>,
    roots: &[&str],
) -> Result<Vec<FileDescriptorProto>, String> {
    let mut definitions = BTreeMap::new();
    for (name, file) in &files {
        for message in &file.message_type {
            define(name, file.package(), message, &mut definitions);
        }
        for e in &file.enum_type {
            let full = join(file.package(), e.name());
            definitions.insert(
                full,
                Definition {
                    file: name.clone(),
                    uses: Vec::new(),
                },
            );
        }
    }

    let mut keep = BTreeSet::new();
    let mut todo: Vec<String> = roots.iter().map(|r| (*r).to_owned()).collect();
    while let Some(name) = todo.pop() {
        let definition = definitions
            .get(&name)
            .ok_or_else(|| format!("no .proto file defines {name}"))?;
        if keep.insert(name.clone()) {
            todo.extend(definition.uses.iter().cloned());
        }
    }
    let order = files.keys().cloned().collect();
    Ok(sort(cut(files, &keep, &definitions), order))
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

fn define(
    file: &str,
    scope: &str,
    message: &DescriptorProto,
    into: &mut BTreeMap<String, Definition>,
) {
    let full = join(scope, message.name());
    for nested in &message.nested_type {
        define(file, &full, nested, into);
    }
    for e in &message.enum_type {
        let name = join(&full, e.name());
        into.insert(
            name,
            Definition {
                file: file.to_owned(),
                uses: Vec::new(),
            },
        );
    }
    let uses = message
        .field
        .iter()
        .filter(|f| matches!(f.r#type(), Type::Message | Type::Enum))
        .map(|f| f.type_name().trim_start_matches('.').to_owned())
        .collect();
    into.insert(
        full,
        Definition {
            file: file.to_owned(),
            uses,
        },
    );
}

/// Drops what is not kept, and what no one reads.
fn cut(
    files: BTreeMap<String, FileDescriptorProto>,
    keep: &BTreeSet<String>,
    definitions: &BTreeMap<String, Definition>,
) -> BTreeMap<String, FileDescriptorProto> {
    let mut left = BTreeMap::new();
    for (name, mut file) in files {
        let package = file.package().to_owned();
        let mut imports = BTreeSet::new();
        file.message_type = messages(file.message_type, &package, keep, &mut imports);
        file.enum_type = enums(file.enum_type, &package, keep);
        if file.message_type.is_empty() && file.enum_type.is_empty() {
            continue;
        }
        file.dependency = imports
            .iter()
            .filter_map(|used| definitions.get(used))
            .map(|definition| definition.file.clone())
            .filter(|import| *import != name)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        file.public_dependency.clear();
        file.weak_dependency.clear();
        file.service.clear();
        file.extension.clear();
        file.options = None;
        file.source_code_info = None;
        left.insert(name, file);
    }
    left
}

/// The messages of a scope that are kept, or hold one that is kept.
fn messages(
    all: Vec<DescriptorProto>,
    scope: &str,
    keep: &BTreeSet<String>,
    imports: &mut BTreeSet<String>,
) -> Vec<DescriptorProto> {
    let mut left = Vec::new();
    for mut message in all {
        let full = join(scope, message.name());
        message.nested_type = messages(message.nested_type, &full, keep, imports);
        message.enum_type = enums(message.enum_type, &full, keep);
        message.extension.clear();
        message.options = message.options.take().and_then(|options| {
            options.map_entry.map(|map_entry| MessageOptions {
                map_entry: Some(map_entry),
                ..MessageOptions::default()
            })
        });
        for oneof in &mut message.oneof_decl {
            oneof.options = None;
        }
        if keep.contains(&full) {
            for field in &mut message.field {
                field.options = None;
                if matches!(field.r#type(), Type::Message | Type::Enum) {
                    imports.insert(field.type_name().trim_start_matches('.').to_owned());
                }
            }
        } else if message.nested_type.is_empty() && message.enum_type.is_empty() {
            continue;
        } else {
            // Only the name is needed, as the scope of what it holds.
            message.field.clear();
            message.oneof_decl.clear();
        }
        left.push(message);
    }
    left
}

fn enums(
    all: Vec<EnumDescriptorProto>,
    scope: &str,
    keep: &BTreeSet<String>,
) -> Vec<EnumDescriptorProto> {
    let mut left = all;
    left.retain(|e| keep.contains(&join(scope, e.name())));
    for e in &mut left {
        e.options = None;
        for value in &mut e.value {
            value.options = None;
        }
    }
    left
}

/// Imports before importers, as decoders of a set want it.
fn sort(
    mut files: BTreeMap<String, FileDescriptorProto>,
    order: Vec<String>,
) -> Vec<FileDescriptorProto> {
    fn visit(
        name: &str,
        files: &mut BTreeMap<String, FileDescriptorProto>,
        sorted: &mut Vec<FileDescriptorProto>,
    ) {
        if let Some(file) = files.remove(name) {
            for import in &file.dependency {
                visit(import, files, sorted);
            }
            sorted.push(file);
        }
    }
    let mut sorted = Vec::with_capacity(files.len());
    for name in order {
        visit(&name, &mut files, &mut sorted);
    }
    sorted
}
