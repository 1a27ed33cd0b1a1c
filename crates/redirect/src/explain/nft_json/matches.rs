//! What a rule asks for: `{"match": {"op": …, "left": …, "right": …}}`.

use std::sync::Arc;

use serde_json::Value;

use super::super::flow::{Protocol, State};
use super::super::model::{Clause, Condition, End, NamePattern, Test, Way};
use super::sets::{self, Content, number, port, range, ranges, v4, v6};
use super::{Context, words};
use crate::ranges::{Ranges, Scalar};
use crate::ruleset::Family;

/// Adds the conditions of a match: those it implies (an IPv4 address is one of an IPv4 packet), and
/// its own.
pub(super) fn conditions(context: &Context<'_>, body: &Value, clauses: &mut Vec<Clause>) {
    let known = read(context, body);
    let conditions =
        known.unwrap_or_else(|| vec![Condition::new(Test::Unknown(words::condition(body)))]);
    clauses.extend(conditions.into_iter().map(Clause::Test));
}

/// How left and right are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    /// Any of these bits.
    In,
    /// None of these bits.
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

fn read(context: &Context<'_>, body: &Value) -> Option<Vec<Condition>> {
    let operator = match body.get("op")?.as_str()? {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "in" => Operator::In,
        "!" => Operator::NotIn,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => return None,
    };
    let right = Right {
        context,
        operator,
        value: body.get("right")?,
    };
    let (left, mask) = match body.get("left")?.get("&").and_then(Value::as_array) {
        Some(operands) => match operands.as_slice() {
            [left, mask] => (left, Some(number(mask)?.0)),
            _ => return None,
        },
        None => (body.get("left")?, None),
    };
    if let Some(meta) = left.get("meta") {
        return right
            .meta(meta.get("key")?.as_str()?, mask)
            .map(|own| vec![own]);
    }
    if let Some(connection) = left.get("ct") {
        let plain = connection.as_object()?.len() == 1;
        let key = connection.get("key")?.as_str().filter(|_| plain)?;
        return right.connection(key, mask).map(|own| vec![own]);
    }
    if mask.is_some() {
        return None;
    }
    if let Some(payload) = left.get("payload") {
        let protocol = payload.get("protocol")?.as_str()?;
        return right.payload(protocol, payload.get("field")?.as_str()?);
    }
    if let Some(socket) = left.get("socket") {
        return right.cgroup(socket).map(|own| vec![own]);
    }
    if let Some(lookup) = left.get("fib") {
        return right.fib(lookup).map(|own| vec![own]);
    }
    None
}

/// The right side of a comparison, and how it is compared.
struct Right<'a> {
    context: &'a Context<'a>,
    operator: Operator,
    value: &'a Value,
}

impl Right<'_> {
    /// The test as the operator wants it, if it is `==` or `!=`.
    fn equality(&self, test: Test) -> Option<Condition> {
        let negated = match self.operator {
            Operator::Equal => false,
            Operator::NotEqual => true,
            _ => return None,
        };
        Some(Condition { test, negated })
    }

    /// The elements of an anonymous set, or the single value.
    fn elements(&self) -> Option<&[Value]> {
        match self.value.get("set") {
            Some(set) => set.as_array().map(Vec::as_slice),
            None => Some(std::slice::from_ref(self.value)),
        }
    }

    /// The named set on the right; `Err` if there is no name.
    fn named(&self) -> Result<Option<&Content>, NoName> {
        let name = self.value.as_str().and_then(|name| name.strip_prefix('@'));
        let name = name.ok_or(NoName)?;
        Ok(self.context.sets.get(self.context.table, name))
    }

    /// Numbers of a kind, as a set of those that match.
    fn scalars<T: Scalar + Default>(
        &self,
        one: impl Fn(&Value) -> Option<(T, T)> + Copy,
        of_set: impl Fn(&Content) -> Option<Arc<Ranges<T>>>,
        test: impl FnOnce(Arc<Ranges<T>>) -> Test,
    ) -> Option<Condition> {
        let ranges = match self.named() {
            Ok(content) => of_set(content?)?,
            Err(NoName) => Arc::new(ranges(self.elements()?, one)?),
        };
        let (operator, bound) = match self.operator {
            Operator::Equal | Operator::NotEqual => return self.equality(test(ranges)),
            Operator::In | Operator::NotIn => return None,
            other => (other, range(self.value, one)?),
        };
        let (zero, max) = (T::default(), T::MAX);
        let (within, negated) = match (operator, bound) {
            (Operator::LessOrEqual, (_, bound)) => ((zero, bound), false),
            (Operator::Greater, (_, bound)) => ((zero, bound), true),
            (Operator::GreaterOrEqual, (bound, _)) => ((bound, max), false),
            (_, (bound, _)) => ((bound, max), true),
        };
        Some(Condition {
            test: test(Arc::new([within].into_iter().collect())),
            negated,
        })
    }

    fn numbers(
        &self,
        kind: &'static str,
        test: impl FnOnce(Arc<Ranges<u32>>) -> Test,
    ) -> Option<Condition> {
        let of_set = |content: &Content| match content {
            Content::Numbers(found, numbers) if *found == kind => Some(Arc::clone(numbers)),
            _ => None,
        };
        self.scalars(number, of_set, test)
    }

    fn meta(&self, key: &str, mask: Option<u32>) -> Option<Condition> {
        if key == "mark" {
            let mask = mask.unwrap_or(u32::MAX);
            return self.numbers("mark", |values| Test::Mark { mask, values });
        }
        if mask.is_some() {
            return None;
        }
        match key {
            "nfproto" | "protocol" => {
                let family = match self.value.as_str()? {
                    "ipv4" | "ip" => Family::V4,
                    "ipv6" | "ip6" => Family::V6,
                    _ => return None,
                };
                self.equality(Test::Family(family))
            }
            "l4proto" => {
                let numbers = ranges(self.elements()?, protocol)?;
                self.equality(Test::Protocol(numbers))
            }
            "iif" | "oif" => {
                // A number is the index of an interface.
                let names = self.names()?;
                let index = |name: &NamePattern| name.stem.parse::<u32>().is_ok() || name.prefix;
                if names.iter().any(index) {
                    return None;
                }
                self.equality(Test::Interface(way(key), names))
            }
            "iifname" | "oifname" => {
                let names = self.names()?;
                self.equality(Test::Interface(way(key), names))
            }
            "skuid" => self.numbers("uid", Test::Uid),
            "skgid" => self.numbers("gid", Test::Gid),
            _ => None,
        }
    }

    fn names(&self) -> Option<Vec<NamePattern>> {
        match self.named() {
            Ok(Some(Content::Names(names))) => Some(names.clone()),
            Ok(_) => None,
            Err(NoName) => self.elements()?.iter().map(sets::name).collect(),
        }
    }

    fn connection(&self, key: &str, mask: Option<u32>) -> Option<Condition> {
        match (key, mask) {
            ("mark", mask) => {
                let mask = mask.unwrap_or(u32::MAX);
                self.numbers("mark", |values| Test::ConnectionMark { mask, values })
            }
            ("direction", None) => {
                let negated = match self.value.as_str()? {
                    "original" => false,
                    "reply" => true,
                    _ => return None,
                };
                let mut own = self.equality(Test::Original)?;
                own.negated ^= negated;
                Some(own)
            }
            ("state", None) => {
                let list = match (self.value, self.operator) {
                    // Equal to several bits at once is what no state is.
                    (Value::Array(list), Operator::In | Operator::NotIn) => list.as_slice(),
                    (Value::Array(_), _) => return None,
                    _ => self.elements()?,
                };
                let states = list.iter().map(state).collect::<Option<Vec<_>>>()?;
                let negated = matches!(self.operator, Operator::NotEqual | Operator::NotIn);
                let test = Test::States(states);
                let comparable = !matches!(
                    self.operator,
                    Operator::Less
                        | Operator::LessOrEqual
                        | Operator::Greater
                        | Operator::GreaterOrEqual
                );
                comparable.then_some(Condition { test, negated })
            }
            _ => None,
        }
    }

    fn payload(&self, protocol: &str, field: &str) -> Option<Vec<Condition>> {
        let end = match field {
            "saddr" | "sport" => End::Source,
            "daddr" | "dport" => End::Destination,
            "protocol" if protocol == "ip" => {
                let numbers = ranges(self.elements()?, self::protocol)?;
                let own = self.equality(Test::Protocol(numbers))?;
                return Some(vec![Condition::new(Test::Family(Family::V4)), own]);
            }
            _ => return None,
        };
        let address = field.ends_with("addr");
        let own = match protocol {
            "ip" if address => {
                let of_set = |content: &Content| match content {
                    Content::V4(block) => Some(Arc::clone(block)),
                    _ => None,
                };
                self.scalars(v4, of_set, |block| Test::V4(end, block))?
            }
            "ip6" if address => {
                let of_set = |content: &Content| match content {
                    Content::V6(block) => Some(Arc::clone(block)),
                    _ => None,
                };
                self.scalars(v6, of_set, |block| Test::V6(end, block))?
            }
            "tcp" | "udp" | "sctp" | "dccp" | "udplite" | "th" if !address => {
                let protocol = protocol_number(protocol).map(Protocol::from_number);
                let of_set = |content: &Content| match content {
                    Content::Ports(ports) => Some(Arc::clone(ports)),
                    _ => None,
                };
                self.scalars(port, of_set, |ports| Test::Port(end, protocol, ports))?
            }
            _ => return None,
        };
        Some(vec![own])
    }

    /// The cgroup at a level of the tree. Without the level it is not known what is compared.
    fn cgroup(&self, socket: &Value) -> Option<Condition> {
        let path = self.value.as_str()?.trim_matches('/');
        let level = socket.get("level")?.as_u64()?;
        let depth = path.split('/').filter(|step| !step.is_empty()).count();
        let same = u64::try_from(depth).ok()? == level && level > 0;
        let known = socket.get("key")?.as_str()? == "cgroupv2" && same;
        let test = Test::Cgroup {
            path: path.to_owned(),
        };
        known.then(|| self.equality(test))?
    }

    fn fib(&self, lookup: &Value) -> Option<Condition> {
        let kind = lookup.get("result")?.as_str()? == "type";
        let end = match lookup.get("flags")?.as_array()?.as_slice() {
            [flag] if flag == "saddr" => End::Source,
            [flag] if flag == "daddr" => End::Destination,
            _ => return None,
        };
        let local = self.value.as_str()? == "local";
        (kind && local).then(|| self.equality(Test::Local(end)))?
    }
}

/// The right side names no set.
struct NoName;

fn way(key: &str) -> Way {
    if key.starts_with('i') {
        Way::In
    } else {
        Way::Out
    }
}

fn state(name: &Value) -> Option<State> {
    Some(match name.as_str()? {
        "new" => State::New,
        "established" => State::Established,
        "related" => State::Related,
        "invalid" => State::Invalid,
        "untracked" => State::Untracked,
        _ => return None,
    })
}

fn protocol(value: &Value) -> Option<(u16, u16)> {
    let number = match value.as_str() {
        Some(name) => protocol_number(name)?,
        None => u8::try_from(value.as_u64()?).ok()?,
    };
    Some((u16::from(number), u16::from(number)))
}

/// Numbers (IANA) of protocols that `nft` writes by name.
fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmpv6" => 58,
        "comp" => 108,
        "sctp" => 132,
        "udplite" => 136,
        _ => return None,
    })
}
