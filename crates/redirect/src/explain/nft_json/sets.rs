//! Named and anonymous sets.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde_json::Value;

use super::super::model::NamePattern;
use super::TableName;
use crate::ranges::{Ranges, Scalar, v4_block, v6_block};

/// Sets as they are listed.
#[derive(Default)]
pub(super) struct Sets {
    listed: HashMap<(TableName, String), Listed>,
    /// Rules add to these while packets pass.
    updated: HashSet<(TableName, String)>,
}

/// A set's type and elements, as far as they are listed.
struct Listed {
    kind: Option<String>,
    elements: Option<Vec<Value>>,
}

/// What sets hold; those of which it is not known are missing.
pub(super) struct Contents(HashMap<(TableName, String), Content>);

/// The elements of a set, by its type.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Ports(Arc<Ranges<u16>>),
    /// IPv4 addresses.
    V4(Arc<Ranges<u32>>),
    V6(Arc<Ranges<u128>>),
    /// Marks, uids, gids.
    Numbers(&'static str, Arc<Ranges<u32>>),
    Names(Vec<NamePattern>),
}

impl Sets {
    pub(super) fn declare(&mut self, table: TableName, name: &str, body: &Value) {
        let kind = body.get("type").and_then(Value::as_str);
        let lasting = body.get("timeout").is_none() && body.get("map").is_none();
        // A listing without elements looks as if all sets were empty.
        let elements = body.get("elem").and_then(Value::as_array);
        let elements = elements.filter(|_| lasting).cloned();
        let listed = Listed {
            kind: kind.map(str::to_owned),
            elements,
        };
        self.listed.insert((table, name.to_owned()), listed);
    }

    /// Looks for statements that change sets.
    pub(super) fn note_updates(&mut self, table: &TableName, statements: &[Value]) {
        for statement in statements {
            let set = statement.get("set").and_then(|set| set.get("set"));
            if let Some(name) = set.and_then(Value::as_str) {
                let name = name.strip_prefix('@').unwrap_or(name);
                self.updated.insert((table.clone(), name.to_owned()));
            }
        }
    }

    pub(super) fn read(&mut self) -> Contents {
        let listed = std::mem::take(&mut self.listed);
        let known = listed
            .into_iter()
            .filter(|(name, _)| !self.updated.contains(name))
            .filter_map(|(name, listed)| {
                let content = content(listed.kind.as_deref()?, &listed.elements?)?;
                Some((name, content))
            });
        Contents(known.collect())
    }
}

impl Contents {
    pub(super) fn get(&self, table: &TableName, name: &str) -> Option<&Content> {
        self.0.get(&(table.clone(), name.to_owned()))
    }
}

fn content(kind: &str, elements: &[Value]) -> Option<Content> {
    Some(match kind {
        "inet_service" => Content::Ports(Arc::new(ranges(elements, port)?)),
        "ipv4_addr" => Content::V4(Arc::new(ranges(elements, v4)?)),
        "ipv6_addr" => Content::V6(Arc::new(ranges(elements, v6)?)),
        "mark" => Content::Numbers("mark", Arc::new(ranges(elements, number)?)),
        "uid" => Content::Numbers("uid", Arc::new(ranges(elements, number)?)),
        "gid" => Content::Numbers("gid", Arc::new(ranges(elements, number)?)),
        "ifname" => Content::Names(elements.iter().map(name).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// Elements as intervals. `one` reads a single one, or a prefix.
pub(super) fn ranges<T: Scalar>(
    elements: &[Value],
    one: impl Fn(&Value) -> Option<(T, T)> + Copy,
) -> Option<Ranges<T>> {
    elements.iter().map(|element| range(element, one)).collect()
}

/// One element: a value, or `{"range": [first, last]}`.
pub(super) fn range<T: Scalar>(
    element: &Value,
    one: impl Fn(&Value) -> Option<(T, T)>,
) -> Option<(T, T)> {
    let element = plain(element)?;
    match element.get("range").and_then(Value::as_array) {
        Some(ends) => match ends.as_slice() {
            [first, last] => {
                let (first, last) = (one(first)?.0, one(last)?.1);
                (first <= last).then_some((first, last))
            }
            _ => None,
        },
        None => one(element),
    }
}

/// An element without the comment and counter it may have. One that expires is none.
fn plain(element: &Value) -> Option<&Value> {
    let Some(wrapped) = element.get("elem") else {
        return Some(element);
    };
    let mut keys = wrapped.as_object()?.keys();
    keys.all(|key| matches!(key.as_str(), "val" | "comment" | "counter"))
        .then(|| wrapped.get("val"))?
}

pub(super) fn port(value: &Value) -> Option<(u16, u16)> {
    let port = u16::try_from(value.as_u64()?).ok()?;
    Some((port, port))
}

pub(super) fn number(value: &Value) -> Option<(u32, u32)> {
    let number = u32::try_from(value.as_u64()?).ok()?;
    Some((number, number))
}

pub(super) fn v4(value: &Value) -> Option<(u32, u32)> {
    let (address, length) = block(value)?;
    let address: Ipv4Addr = address.parse().ok()?;
    let block = ipnet::Ipv4Net::new(address, length.unwrap_or(32)).ok()?;
    Some(v4_block(&block))
}

pub(super) fn v6(value: &Value) -> Option<(u128, u128)> {
    let (address, length) = block(value)?;
    let address: Ipv6Addr = address.parse().ok()?;
    let block = ipnet::Ipv6Net::new(address, length.unwrap_or(128)).ok()?;
    Some(v6_block(&block))
}

/// An address, or `{"prefix": {"addr": …, "len": …}}`.
fn block(value: &Value) -> Option<(&str, Option<u8>)> {
    match value.get("prefix") {
        Some(prefix) => {
            let length = prefix.get("len")?.as_u64()?;
            let address = prefix.get("addr")?.as_str()?;
            Some((address, Some(u8::try_from(length).ok()?)))
        }
        None => Some((value.as_str()?, None)),
    }
}

pub(super) fn name(value: &Value) -> Option<NamePattern> {
    let name = plain(value)?.as_str()?;
    // A backslash would take the asterisk as it is.
    (!name.contains('\\') && !name.is_empty()).then(|| NamePattern::new(name, '*'))
}
