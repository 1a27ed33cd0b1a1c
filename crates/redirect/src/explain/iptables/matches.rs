//! What a rule asks for. A match module that is not known, or is asked for what is not known, is
//! unknown as a whole: its options may change each other's meaning.

use std::sync::Arc;

use super::super::flow::{Protocol, State};
use super::super::model::{Condition, End, NamePattern, Test, Way};
use super::token::Item;
use super::value::{
    address_range, blocks, interval, masked, number, port_list, ports, protocol, range,
};
use crate::ruleset::Family;

/// `None`: the shape of the rule is not understood.
pub(super) fn conditions(items: &[Item], family: Family) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut modules: Vec<Module<'_>> = Vec::new();
    let mut proto: Option<&str> = None;
    for item in items {
        match item.name.as_str() {
            "-m" | "--match" => {
                let name = item.value().filter(|_| !item.negated)?;
                modules.push(Module {
                    name: Some(name),
                    options: Vec::new(),
                });
            }
            "-c" | "--set-counters" => {
                let numbers = item.values.iter().filter(|value| number(value).is_some());
                (numbers.count() == 2 && item.values.len() == 2).then_some(())?;
            }
            name if name.starts_with("--") && general(name).is_none() => {
                if modules.is_empty() {
                    modules.push(Module {
                        name: None,
                        options: Vec::new(),
                    });
                }
                modules.last_mut()?.options.push(item);
            }
            name => {
                let value = match (name, item.values.as_slice()) {
                    ("-f" | "--fragment", []) => "",
                    (_, [value]) => value,
                    _ => return None,
                };
                let general = general(name)?;
                if general == General::Protocol && !item.negated {
                    proto = Some(value);
                }
                if let Some(test) = general.test(value, family, item) {
                    conditions.push(Condition {
                        test,
                        negated: item.negated,
                    });
                }
            }
        }
    }
    for module in modules {
        module.conditions(proto, family, &mut conditions);
    }
    Some(conditions)
}

/// Options that every rule can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum General {
    Source,
    Destination,
    In,
    Out,
    Protocol,
    Fragment,
}

fn general(name: &str) -> Option<General> {
    Some(match name {
        "-s" | "--source" | "--src" => General::Source,
        "-d" | "--destination" | "--dst" => General::Destination,
        "-i" | "--in-interface" => General::In,
        "-o" | "--out-interface" => General::Out,
        "-p" | "--protocol" | "--proto" => General::Protocol,
        "-f" | "--fragment" => General::Fragment,
        _ => return None,
    })
}

impl General {
    /// `None`: it asks for nothing.
    fn test(self, value: &str, family: Family, item: &Item) -> Option<Test> {
        let known = match self {
            Self::Source => blocks(value, family, End::Source),
            Self::Destination => blocks(value, family, End::Destination),
            Self::In => Some(Test::Interface(Way::In, vec![NamePattern::new(value, '+')])),
            Self::Out => Some(Test::Interface(
                Way::Out,
                vec![NamePattern::new(value, '+')],
            )),
            Self::Protocol if matches!(value, "all" | "0") && !item.negated => return None,
            Self::Protocol => protocol(value).map(|number| {
                let number = u16::from(number);
                Test::Protocol([(number, number)].into_iter().collect())
            }),
            Self::Fragment => None,
        };
        // A list cannot be negated.
        let known = known.filter(|_| !(item.negated && value.contains(',')));
        Some(known.unwrap_or_else(|| Test::Unknown(written(&[item]))))
    }
}

/// A module with its options. Those before any `-m` belong to the protocol's own.
struct Module<'a> {
    name: Option<&'a str>,
    options: Vec<&'a Item>,
}

impl Module<'_> {
    fn conditions(&self, proto: Option<&str>, family: Family, conditions: &mut Vec<Condition>) {
        // Options of the protocol's module may follow another `-m`.
        let name = self.name.or(proto).unwrap_or_default();
        let mut own = Vec::with_capacity(self.options.len());
        let mut known = self.name.is_none_or(|name| KNOWN.contains(&name));
        for option in &self.options {
            let test = option_test(name, option, family)
                .or_else(|| option_test(proto.unwrap_or_default(), option, family));
            match test {
                Some(Some(test)) => own.push(Condition {
                    test,
                    negated: option.negated,
                }),
                Some(None) => {}
                None => known = false,
            }
        }
        let silent = self.options.is_empty() && !NEEDS_NO_OPTION.contains(&name);
        if known && !silent {
            conditions.extend(own);
        } else {
            let module = self
                .name
                .map(|name| format!("-m {name} "))
                .unwrap_or_default();
            let text = format!("{module}{}", written(&self.options));
            conditions.push(Condition::new(Test::Unknown(text.trim_end().to_owned())));
        }
    }
}

/// Modules of which every option met here is either known or makes the whole unknown.
const KNOWN: [&str; 15] = [
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "udplite",
    "comment",
    "multiport",
    "owner",
    "cgroup",
    "mark",
    "connmark",
    "conntrack",
    "state",
    "addrtype",
    "iprange",
];

/// Modules that ask for nothing by themselves.
const NEEDS_NO_OPTION: [&str; 5] = ["tcp", "udp", "sctp", "dccp", "udplite"];

/// What an option of a module asks for; `Some(None)`: nothing. `None`: it is not known.
#[expect(
    clippy::option_option,
    reason = "whether it is known, and whether it asks for anything"
)]
fn option_test(module: &str, option: &Item, family: Family) -> Option<Option<Test>> {
    if module == "owner" && option.name == "--socket-exists" {
        return option.values.is_empty().then_some(Some(Test::Socket));
    }
    let value = option.value()?;
    let transport = |name: &str| match name {
        "tcp" | "udp" | "sctp" | "dccp" | "udplite" => protocol(name).map(Protocol::from_number),
        _ => None,
    };
    let test = match (module, option.name.as_str()) {
        ("comment", "--comment") => return Some(None),
        (name, "--sport" | "--source-port") => {
            let protocol = transport(name)?;
            Test::Port(End::Source, Some(protocol), interval(ports(value)?)?)
        }
        (name, "--dport" | "--destination-port") => {
            let protocol = transport(name)?;
            Test::Port(End::Destination, Some(protocol), interval(ports(value)?)?)
        }
        ("multiport", "--sports" | "--source-ports") => {
            Test::Port(End::Source, None, Arc::new(port_list(value)?))
        }
        ("multiport", "--dports" | "--destination-ports") => {
            Test::Port(End::Destination, None, Arc::new(port_list(value)?))
        }
        ("multiport", "--ports") => Test::EitherPort(Arc::new(port_list(value)?)),
        ("owner", "--uid-owner") => Test::Uid(interval(range(value, '-', number)?)?),
        ("owner", "--gid-owner") => Test::Gid(interval(range(value, '-', number)?)?),
        ("cgroup", "--path") => Test::Cgroup {
            path: value.to_owned(),
        },
        ("mark", "--mark") => {
            let (value, mask) = masked(value)?;
            Test::Mark {
                mask,
                values: interval((value, value))?,
            }
        }
        ("connmark", "--mark") => {
            let (value, mask) = masked(value)?;
            Test::ConnectionMark {
                mask,
                values: interval((value, value))?,
            }
        }
        ("conntrack", "--ctstate") | ("state", "--state") => {
            let states: Option<Vec<_>> = value.split(',').map(state).collect();
            Test::States(states?)
        }
        ("conntrack", "--ctdir") if value == "ORIGINAL" => Test::Original,
        ("addrtype", "--src-type") if value == "LOCAL" => Test::Local(End::Source),
        ("addrtype", "--dst-type") if value == "LOCAL" => Test::Local(End::Destination),
        ("iprange", "--src-range") => address_range(value, family, End::Source)?,
        ("iprange", "--dst-range") => address_range(value, family, End::Destination)?,
        _ => return None,
    };
    Some(Some(test))
}

fn state(name: &str) -> Option<State> {
    Some(match name {
        "NEW" => State::New,
        "ESTABLISHED" => State::Established,
        "RELATED" => State::Related,
        "INVALID" => State::Invalid,
        "UNTRACKED" => State::Untracked,
        _ => return None,
    })
}

/// Options as they were written.
fn written(items: &[&Item]) -> String {
    let mut words = Vec::new();
    for item in items {
        words.extend(item.negated.then_some("!"));
        words.push(item.name.as_str());
        words.extend(item.values.iter().map(String::as_str));
    }
    words.join(" ")
}
