//! What a rule does.

use super::super::model::{Action, MarkValue, New, Tproxy, Translation};
use super::token::Item;
use super::value::{address, masked, number, port_span, range};
use crate::ruleset::Family;

/// What `-j` or `-g` with the options after it does. `None`: its shape is not understood.
pub(super) fn action(
    jump: &Item,
    options: &[Item],
    family: Family,
    chains: &dyn Fn(&str) -> Option<usize>,
) -> Option<Action> {
    let target = jump.value().filter(|_| !jump.negated)?;
    if matches!(jump.name.as_str(), "-g" | "--goto") {
        let chain = chains(target).filter(|_| options.is_empty());
        return Some(chain.map_or_else(|| unknown(jump, options), Action::Goto));
    }
    let plain = |action: Action| options.is_empty().then_some(action);
    let known = match target {
        "ACCEPT" => plain(Action::Accept),
        "DROP" => plain(Action::Drop),
        "RETURN" => plain(Action::Return),
        name => match chains(name) {
            Some(chain) => plain(Action::Jump(chain)),
            None => extension(name, &Options(options), family),
        },
    };
    Some(known.unwrap_or_else(|| unknown(jump, options)))
}

fn unknown(jump: &Item, options: &[Item]) -> Action {
    let mut text = format!("{} {}", jump.name, jump.values.join(" "));
    for option in options {
        text.push(' ');
        text.push_str(&option.name);
    }
    Action::Unknown(text)
}

/// Options without a value.
const FLAGS: [&str; 5] = [
    "--random",
    "--random-fully",
    "--persistent",
    "--save-mark",
    "--restore-mark",
];

/// The options of a target.
struct Options<'a>(&'a [Item]);

impl Options<'_> {
    /// Whether there are no others than these, none negated and none twice.
    fn only(&self, names: &[&str]) -> bool {
        self.0.iter().enumerate().all(|(index, option)| {
            let once = self.0[..index]
                .iter()
                .all(|other| other.name != option.name);
            let name = option.name.as_str();
            let complete = !FLAGS.contains(&name) || option.values.is_empty();
            names.contains(&name) && !option.negated && once && complete
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|option| option.name == name)?.value()
    }

    /// Whether a flag is there.
    fn has(&self, name: &str) -> bool {
        let mut options = self.0.iter();
        options.any(|option| option.name == name && option.values.is_empty())
    }

    /// `value/mask` of an option; `default` where it is not given.
    fn mask(&self, name: &str, default: u32) -> Option<u32> {
        match self.0.iter().find(|option| option.name == name) {
            Some(option) => number(option.value()?),
            None => Some(default),
        }
    }
}

/// A target that is no chain.
fn extension(target: &str, options: &Options<'_>, family: Family) -> Option<Action> {
    match target {
        "REJECT" => options.only(&["--reject-with"]).then_some(Action::Reject),
        // They change nothing that a rule here could see.
        "LOG" | "NFLOG" | "TRACE" | "AUDIT" | "TCPMSS" | "CHECKSUM" | "CLASSIFY" | "SECMARK"
        | "CONNSECMARK" => Some(Action::Nothing),
        "MARK" => mark(options).map(Action::SetMark),
        "CONNMARK" => connection_mark(options),
        "NOTRACK" => options.0.is_empty().then_some(Action::NoTrack),
        "CT" => tracking(options),
        "REDIRECT" => redirect(options),
        "DNAT" => {
            let known = options.only(&["--to-destination", "--random", "--persistent"]);
            let to = options.value("--to-destination").filter(|_| known)?;
            translation(to, family).map(Action::DestinationNat)
        }
        "SNAT" => {
            let names = ["--to-source", "--random", "--random-fully", "--persistent"];
            let to = options
                .value("--to-source")
                .filter(|_| options.only(&names))?;
            let mut to = translation(to, family)?;
            // Even without one named the port may change.
            to.port = New::Unknown;
            Some(Action::SourceNat(to))
        }
        "MASQUERADE" => options
            .only(&["--to-ports", "--random", "--random-fully"])
            .then_some(Action::SourceNat(Translation {
                address: New::Unknown,
                port: New::Unknown,
            })),
        "TPROXY" => tproxy(options, family),
        _ => None,
    }
}

fn mark(options: &Options<'_>) -> Option<MarkValue> {
    let [option] = options.0 else { return None };
    let value = option.value().filter(|_| !option.negated)?;
    let packet = MarkValue::Packet;
    set(&option.name, value, packet)
}

/// The mark that `--set-mark` and its kin make of the one before.
fn set(name: &str, value: &str, before: MarkValue) -> Option<MarkValue> {
    let constant = MarkValue::Constant;
    Some(match name {
        "--set-xmark" => {
            let (value, mask) = masked(value)?;
            before.replaced(mask, constant(value))
        }
        "--set-mark" => {
            let (value, mask) = masked(value)?;
            before.replaced(mask | value, constant(value))
        }
        "--and-mark" => before.and(number(value)?),
        "--or-mark" => MarkValue::Or(Box::new(before), number(value)?),
        "--xor-mark" => {
            let value = constant(number(value)?);
            MarkValue::Xor(Box::new(before), Box::new(value))
        }
        _ => return None,
    })
}

fn connection_mark(options: &Options<'_>) -> Option<Action> {
    let save = options.has("--save-mark");
    if save || options.has("--restore-mark") {
        let verb = if save {
            "--save-mark"
        } else {
            "--restore-mark"
        };
        options
            .only(&[verb, "--nfmask", "--ctmask", "--mask"])
            .then_some(())?;
        let both = options.mask("--mask", u32::MAX)?;
        let packet = options.mask("--nfmask", both)?;
        let connection = options.mask("--ctmask", both)?;
        return Some(if save {
            let value = MarkValue::Packet.and(packet);
            Action::SetConnectionMark(MarkValue::Connection.replaced(connection, value))
        } else {
            let value = MarkValue::Connection.and(connection);
            Action::SetMark(MarkValue::Packet.replaced(packet, value))
        });
    }
    let [option] = options.0 else { return None };
    let value = option.value().filter(|_| !option.negated)?;
    set(&option.name, value, MarkValue::Connection).map(Action::SetConnectionMark)
}

fn tracking(options: &Options<'_>) -> Option<Action> {
    match options.0 {
        [option] if option.name == "--notrack" && option.values.is_empty() => Some(Action::NoTrack),
        [option] if option.name == "--zone" => {
            let zone = number(option.value()?)?;
            u16::try_from(zone).ok().map(Action::Zone)
        }
        _ => None,
    }
}

fn redirect(options: &Options<'_>) -> Option<Action> {
    // Istio writes the singular.
    let known = options.only(&["--to-ports", "--to-port", "--random"]);
    let mut ports = options
        .0
        .iter()
        .filter(|option| option.name.starts_with("--to"));
    let to = match (ports.next(), ports.next()) {
        (None, _) => None,
        (Some(option), None) => Some(port_span(option.value()?)?),
        (Some(_), Some(_)) => return None,
    };
    known.then_some(Action::Redirect(to))
}

/// `address`, `address:port`, `first-last:first-last` or `:port`; an IPv6 address with a port stands
/// in brackets.
fn translation(text: &str, family: Family) -> Option<Translation> {
    let (addresses, ports) = match family {
        Family::V4 => text
            .split_once(':')
            .map_or((text, None), |(a, p)| (a, Some(p))),
        Family::V6 => match text.rsplit_once("]:") {
            Some((addresses, ports)) => (addresses, Some(ports)),
            None => match text.strip_prefix(':') {
                Some(ports) if !ports.contains(':') => ("", Some(ports)),
                _ => (text, None),
            },
        },
    };
    let one = |text: &str| address(text.trim_matches(['[', ']']), family);
    let addresses = match addresses {
        "" => New::Same,
        text => match range(text, '-', one)? {
            (first, last) if first == last => New::Is(first),
            _ => New::Unknown,
        },
    };
    let port = match ports {
        None => New::Same,
        // `80-90/1000` maps ports one to one from a base.
        Some(ports) => match port_span(ports.split_once('/').map_or(ports, |(span, _)| span))? {
            (first, last) if first == last => New::Is(first),
            _ => New::Unknown,
        },
    };
    Some(Translation {
        address: addresses,
        port,
    })
}

fn tproxy(options: &Options<'_>, family: Family) -> Option<Action> {
    options
        .only(&["--on-port", "--on-ip", "--tproxy-mark"])
        .then_some(())?;
    let (port, last) = port_span(options.value("--on-port")?)?;
    if let Some(listener) = options.0.iter().find(|option| option.name == "--on-ip") {
        address(listener.value()?, family)?;
    }
    let mark = options
        .0
        .iter()
        .find(|option| option.name == "--tproxy-mark");
    let mark = match mark {
        Some(option) => masked(option.value()?)?,
        None => (0, 0),
    };
    (port == last).then_some(Action::Tproxy(Tproxy {
        port: (port != 0).then_some(port),
        xtables: Some(mark),
    }))
}
