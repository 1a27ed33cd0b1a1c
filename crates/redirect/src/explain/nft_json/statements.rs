//! What a rule does: every statement but a match.

use std::net::IpAddr;

use serde_json::Value;

use super::super::model::{Action, Clause, Condition, MarkValue, New, Test, Tproxy, Translation};
use super::sets::{number, port, range};
use super::{Context, matches, words};
use crate::ruleset::Family;

/// Adds the steps of a statement.
pub(super) fn clauses(context: &Context<'_>, statement: &Value, clauses: &mut Vec<Clause>) {
    let mut entries = statement.as_object().into_iter().flatten();
    let entry = entries.next().filter(|_| entries.next().is_none());
    let known = entry.and_then(|(kind, body)| {
        if kind == "match" {
            matches::conditions(context, body, clauses);
            return Some(());
        }
        step(context, kind, body, clauses)
    });
    if known.is_none() {
        let unknown = words::statement(statement);
        clauses.push(Clause::Act(Action::Unknown(unknown)));
    }
}

/// `None`: it is not known.
fn step(context: &Context<'_>, kind: &str, body: &Value, clauses: &mut Vec<Clause>) -> Option<()> {
    if matches!(kind, "redirect" | "dnat" | "snat" | "masquerade" | "tproxy") {
        says_only(body, &["family", "addr", "port", "flags", "type_flags"])?;
    }
    let target = || (context.chains)(body.get("target")?.as_str()?);
    let action = match kind {
        "accept" => Action::Accept,
        "drop" => Action::Drop,
        "return" => Action::Return,
        "reject" => Action::Reject,
        "jump" => Action::Jump(target()?),
        "goto" => Action::Goto(target()?),
        "notrack" => Action::NoTrack,
        "counter" | "log" | "continue" | "last" | "ct helper" | "ct timeout" | "ct expectation"
        | "flow" | "secmark" => Action::Nothing,
        // They let packets by until something outside the packet says no more.
        "limit" | "quota" | "ct count" | "set" | "meter" => {
            let text = words::pair(kind, body);
            clauses.push(Clause::Test(Condition::new(Test::Unknown(text))));
            return Some(());
        }
        "xt" => return extension(body, clauses),
        "mangle" => mangle(body.get("key")?, body.get("value")?)?,
        "redirect" => Action::Redirect(match field(body, "port") {
            Some(ports) => Some(range(ports, port)?),
            None => None,
        }),
        "dnat" => {
            of_family(body, clauses)?;
            Action::DestinationNat(translation(body)?)
        }
        "snat" => {
            of_family(body, clauses)?;
            let mut to = translation(body)?;
            // Even without one named the port may change.
            to.port = New::Unknown;
            Action::SourceNat(to)
        }
        "masquerade" => Action::SourceNat(Translation {
            address: New::Unknown,
            port: New::Unknown,
        }),
        "tproxy" => {
            of_family(body, clauses)?;
            Action::Tproxy(Tproxy {
                port: match field(body, "port") {
                    Some(to) => Some(port(to)?.0),
                    None => None,
                },
                xtables: None,
            })
        }
        _ => return None,
    };
    clauses.push(Clause::Act(action));
    Some(())
}

/// Whether a statement says nothing but what is read of it.
fn says_only(body: &Value, keys: &[&str]) -> Option<()> {
    let fields = match body {
        Value::Null => return Some(()),
        Value::Object(fields) => fields,
        _ => return None,
    };
    let mut said = fields.keys();
    said.all(|key| keys.contains(&key.as_str())).then_some(())
}

/// A value of a statement that may be `null`.
fn field<'v>(body: &'v Value, key: &str) -> Option<&'v Value> {
    body.get(key).filter(|value| !value.is_null())
}

/// A statement for one family does nothing to packets of the other. `None`: which is not known.
fn of_family(body: &Value, clauses: &mut Vec<Clause>) -> Option<()> {
    let family = match field(body, "family").map(Value::as_str) {
        None => return Some(()),
        Some(Some("ip")) => Family::V4,
        Some(Some("ip6")) => Family::V6,
        Some(_) => return None,
    };
    clauses.push(Clause::Test(Condition::new(Test::Family(family))));
    Some(())
}

/// iptables' extensions, of which only the names are told.
fn extension(body: &Value, clauses: &mut Vec<Clause>) -> Option<()> {
    let name = body.get("name")?.as_str()?;
    match (body.get("type")?.as_str()?, name) {
        ("match", "comment") => {}
        ("match", name) => {
            let text = format!("-m {name} (iptables-nft-save tells its options)");
            clauses.push(Clause::Test(Condition::new(Test::Unknown(text))));
        }
        ("target", "LOG" | "NFLOG" | "TRACE" | "AUDIT" | "TCPMSS" | "CHECKSUM") => {
            clauses.push(Clause::Act(Action::Nothing));
        }
        ("target", name) => {
            let text = format!("-j {name} (iptables-nft-save tells its options)");
            clauses.push(Clause::Act(Action::Unknown(text)));
        }
        _ => return None,
    }
    Some(())
}

/// `{"mangle": {"key": …, "value": …}}`: `meta mark set …` and its kin.
fn mangle(key: &Value, value: &Value) -> Option<Action> {
    if let Some(meta) = key.get("meta") {
        return match meta.get("key")?.as_str()? {
            "mark" => mark(value).map(Action::SetMark),
            "priority" | "nftrace" => Some(Action::Nothing),
            _ => None,
        };
    }
    if let Some(connection) = key.get("ct") {
        let plain = connection.as_object()?.len() == 1;
        return match connection.get("key")?.as_str().filter(|_| plain)? {
            "mark" => mark(value).map(Action::SetConnectionMark),
            "zone" => u16::try_from(value.as_u64()?).ok().map(Action::Zone),
            "event" | "label" => Some(Action::Nothing),
            _ => None,
        };
    }
    key.get("tcp option").map(|_| Action::Nothing)
}

/// A mark, or what is computed from marks.
fn mark(value: &Value) -> Option<MarkValue> {
    if let Some((constant, _)) = number(value) {
        return Some(MarkValue::Constant(constant));
    }
    let (operator, body) = value.as_object()?.iter().next()?;
    let operands = |body: &Value| match body.as_array()?.as_slice() {
        [left, right] => Some((mark(left)?, number(right)?.0)),
        _ => None,
    };
    Some(match operator.as_str() {
        "meta" if body.get("key")?.as_str()? == "mark" => MarkValue::Packet,
        "ct" if body.get("key")?.as_str()? == "mark" && body.as_object()?.len() == 1 => {
            MarkValue::Connection
        }
        "&" => {
            let (left, mask) = operands(body)?;
            left.and(mask)
        }
        "|" => {
            let (left, bits) = operands(body)?;
            MarkValue::Or(Box::new(left), bits)
        }
        "^" => {
            let (left, bits) = operands(body)?;
            MarkValue::Xor(Box::new(left), Box::new(MarkValue::Constant(bits)))
        }
        _ => return None,
    })
}

/// New address and port of `dnat` and `snat`. `None`: they come from a map.
fn translation(body: &Value) -> Option<Translation> {
    let address = match field(body, "addr") {
        None => New::Same,
        Some(Value::String(address)) => New::Is(address.parse::<IpAddr>().ok()?),
        Some(several) if several.get("range").is_some() || several.get("prefix").is_some() => {
            New::Unknown
        }
        Some(_) => return None,
    };
    let port = match field(body, "port") {
        None => New::Same,
        Some(ports) => match range(ports, port)? {
            (first, last) if first == last => New::Is(first),
            _ => New::Unknown,
        },
    };
    Some(Translation { address, port })
}
