//! Netlink to ruleset: the exact inverse of [`super::encode`], for our own table only.
//!
//! What Shunt does not write is not guessed at: it is an error, which to the caller means drift.

mod matches;

use shunt_abi::mark::CAPTURED;

use super::attr::{Attribute, Attributes, Malformed};
use super::encode::{Shape, chain_type, hook_number, shape};
use super::expr::{Code, Expr, data_value};
use super::key::{Element, from_elements, from_singles};
use super::uapi::{
    LIST_ELEM, POLICY_ACCEPT, chain as chain_abi, expr as abi, rule as rule_abi, set as set_abi,
};
use crate::capture::Port;
use crate::ruleset::{Elements, Hook, Rule, Verdict};
use matches::decode_match;

/// A rule as the kernel lists it.
#[derive(Debug)]
pub(crate) struct ListedRule {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Its meaning, if it is one that Shunt could have written.
    pub(crate) rule: Result<Rule, Malformed>,
}

/// Reads a rule message.
pub(crate) fn rule(attributes: Attributes<'_>) -> Result<ListedRule, Malformed> {
    let mut chain = "";
    let mut key = "";
    let mut list = Ok(Vec::new());
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            rule_abi::CHAIN => chain = attribute.string()?,
            rule_abi::USERDATA => key = attribute.comment().unwrap_or_default(),
            rule_abi::EXPRESSIONS => list = attribute.nested().map(|e| Expr::read(e?)).collect(),
            _ => {}
        }
    }
    let (packets, bytes) = list
        .iter()
        .flatten()
        .find_map(|expression| match expression {
            Expr::Counter { packets, bytes } => Some((*packets, *bytes)),
            _ => None,
        })
        .unwrap_or_default();
    Ok(ListedRule {
        chain: chain.to_owned(),
        key: key.to_owned(),
        packets,
        bytes,
        rule: list.and_then(|list| meaning(key, &list)),
    })
}

/// What a rule has counted, whatever else it holds.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) key: String,
    pub(crate) packets: u64,
}

/// Reads the counter of a rule message.
pub(crate) fn counter(attributes: Attributes<'_>) -> Result<Counter, Malformed> {
    let mut counter = Counter::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            rule_abi::CHAIN => attribute.string()?.clone_into(&mut counter.chain),
            rule_abi::HANDLE => counter.handle = attribute.be64()?,
            rule_abi::USERDATA => {
                let key = attribute.comment().unwrap_or_default();
                key.clone_into(&mut counter.key);
            }
            rule_abi::EXPRESSIONS => {
                for expression in attribute.nested() {
                    counter.packets += Expr::packets(expression?)?;
                }
            }
            _ => {}
        }
    }
    Ok(counter)
}

/// What a rule's expressions mean.
pub(crate) fn meaning(key: &str, list: &[Expr]) -> Result<Rule, Malformed> {
    let mut matches = Vec::new();
    let mut rest = list;
    while !matches!(rest, [] | [Expr::Counter { .. }, ..]) {
        let (condition, tail) = decode_match(rest)?;
        matches.push(condition);
        rest = tail;
    }
    let [Expr::Counter { .. }, rest @ ..] = rest else {
        return Err(Malformed("a rule of another shape"));
    };
    Ok(Rule {
        key: key.to_owned(),
        matches,
        verdict: decode_verdict(rest)?,
    })
}

fn decode_verdict(list: &[Expr]) -> Result<Verdict, Malformed> {
    match list {
        [Expr::Verdict(Code::Return)] => Ok(Verdict::Return),
        [Expr::Verdict(Code::Drop)] => Ok(Verdict::Drop),
        [Expr::Immediate(port), Expr::Redirect] => Ok(Verdict::Redirect(port_of(port)?)),
        [
            Expr::Immediate(captured),
            Expr::SetConnection(abi::CT_MARK),
            Expr::Immediate(port),
            Expr::Tproxy,
            Expr::Immediate(mark),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Accept),
        ] if *captured == CAPTURED.to_ne_bytes() => Ok(Verdict::Tproxy {
            port: port_of(port)?,
            mark: mark_of(mark)?,
        }),
        [
            Expr::Immediate(mark),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Return),
        ] => Ok(Verdict::SetMark(mark_of(mark)?)),
        [
            Expr::Connection(abi::CT_MARK),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Return),
        ] => Ok(Verdict::RestoreMark),
        [
            Expr::Meta(abi::META_MARK),
            Expr::SetConnection(abi::CT_MARK),
            Expr::Verdict(Code::Return),
        ] => Ok(Verdict::SaveMark),
        [
            Expr::Immediate(zone),
            Expr::SetConnection(abi::CT_ZONE),
            Expr::Verdict(Code::Return),
        ] => <[u8; 2]>::try_from(zone.as_slice())
            .map(|zone| Verdict::Zone(u16::from_ne_bytes(zone)))
            .map_err(|_length| Malformed("a conntrack zone of another size")),
        _ => Err(Malformed("a rule of another shape")),
    }
}

fn port_of(octets: &[u8]) -> Result<Port, Malformed> {
    let port = <[u8; 2]>::try_from(octets).ok();
    port.and_then(|port| Port::new(u16::from_be_bytes(port)))
        .ok_or(Malformed("a redirect without a port"))
}

fn mark_of(octets: &[u8]) -> Result<u32, Malformed> {
    <[u8; 4]>::try_from(octets)
        .map(u32::from_ne_bytes)
        .map_err(|_length| Malformed("a mark of another size"))
}

/// A chain as the kernel lists it.
#[derive(Debug)]
pub(crate) struct ListedChain {
    pub(crate) name: String,
    /// Its hook, if it is a chain that Shunt could have written.
    pub(crate) hook: Result<Hook, Malformed>,
}

/// Reads a chain message.
pub(crate) fn chain(attributes: Attributes<'_>) -> Result<ListedChain, Malformed> {
    let [mut name, mut kind] = [""; 2];
    let mut policy = None;
    let mut hook = None;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            chain_abi::NAME => name = attribute.string()?,
            chain_abi::TYPE => kind = attribute.string()?,
            chain_abi::POLICY => policy = Some(attribute.be32()?),
            chain_abi::HOOK => hook = Some(hook_of(attribute)?),
            _ => {}
        }
    }
    let hook = Hook::ALL.into_iter().find(|ours| {
        let place = (Some(hook_number(*ours)), Some(ours.stage().priority()));
        name == ours.chain()
            && kind == chain_type(*ours)
            && policy == Some(POLICY_ACCEPT)
            && hook == Some(place)
    });
    Ok(ListedChain {
        name: name.to_owned(),
        hook: hook.ok_or(Malformed("a chain that Shunt does not write")),
    })
}

fn hook_of(attribute: Attribute<'_>) -> Result<(Option<u32>, Option<i32>), Malformed> {
    let [mut number, mut priority] = [None; 2];
    for attribute in attribute.nested() {
        let attribute = attribute?;
        match attribute.kind {
            chain_abi::HOOK_NUM => number = Some(attribute.be32()?),
            chain_abi::HOOK_PRIORITY => priority = Some(attribute.be32()?),
            _ => {}
        }
    }
    Ok((number, priority.map(u32::cast_signed)))
}

/// A set as the kernel lists it, without its elements.
#[derive(Debug)]
pub(crate) struct ListedSet {
    pub(crate) name: String,
    shape: Shape,
}

/// Reads a set message.
pub(crate) fn set(attributes: Attributes<'_>) -> Result<ListedSet, Malformed> {
    let mut name = "";
    let [mut flags, mut key_type, mut key_len] = [0; 3];
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            set_abi::NAME => name = attribute.string()?,
            set_abi::FLAGS => flags = attribute.be32()?,
            set_abi::KEY_TYPE => key_type = attribute.be32()?,
            set_abi::KEY_LEN => key_len = attribute.be32()?,
            _ => {}
        }
    }
    Ok(ListedSet {
        name: name.to_owned(),
        shape: Shape {
            flags,
            key_type,
            key_len,
        },
    })
}

/// Reads a message of set elements, and adds them.
pub(crate) fn set_elements(
    attributes: Attributes<'_>,
    elements: &mut Vec<Element>,
) -> Result<(), Malformed> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind != set_abi::ELEM_ELEMENTS {
            continue;
        }
        for element in attribute.nested() {
            let element = element?;
            if element.kind == LIST_ELEM {
                elements.push(set_element(element)?);
            }
        }
    }
    Ok(())
}

fn set_element(element: Attribute<'_>) -> Result<Element, Malformed> {
    let mut key = None;
    let mut end = false;
    for attribute in element.nested() {
        let attribute = attribute?;
        match attribute.kind {
            set_abi::ELEM_KEY => key = Some(data_value(attribute)?),
            set_abi::ELEM_FLAGS => end = attribute.be32()? & set_abi::ELEM_INTERVAL_END != 0,
            _ => {}
        }
    }
    key.map(|key| Element { key, end })
        .ok_or(Malformed("a set element without a key"))
}

/// The content of a set of Shunt's kinds.
pub(crate) fn content(set: &ListedSet, elements: &[Element]) -> Result<Elements, Malformed> {
    let Shape {
        flags,
        key_type,
        key_len,
    } = set.shape;
    let content = match (key_type, flags) {
        (set_abi::TYPE_IPV4, 0) => Elements::V4(from_singles(elements)?),
        (set_abi::TYPE_IPV6, 0) => Elements::V6(from_singles(elements)?),
        (_, flags) if flags != set_abi::FLAG_INTERVAL => {
            return Err(Malformed("a set with other flags"));
        }
        (set_abi::TYPE_SERVICE, _) => Elements::Ports(from_elements(elements)?),
        (set_abi::TYPE_IPV4, _) => Elements::V4(from_elements(elements)?),
        (set_abi::TYPE_IPV6, _) => Elements::V6(from_elements(elements)?),
        (set_abi::TYPE_UID, _) => Elements::Uids(from_elements(elements)?),
        (set_abi::TYPE_GID, _) => Elements::Gids(from_elements(elements)?),
        _ => return Err(Malformed("a set of another type")),
    };
    if shape(&content).key_len == key_len {
        Ok(content)
    } else {
        Err(Malformed("a set with keys of another size"))
    }
}
