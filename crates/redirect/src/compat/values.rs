//! Values as people write them on a command line or in an annotation: ports, CIDRs, ids.
//!
//! Strict: an empty item, a name for a number, port 0 are errors that name the item and the
//! remedy, because a typing error here is a hole in the mesh.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::capture::{Port, Ports};

/// What is wrong with a value, to be read after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not among the words that mean something.
    NotOneOf(&'static [&'static str]),
    /// Means something in the original, but is not done by Shunt.
    Unsupported {
        /// Values that work.
        values: &'static [&'static str],
        /// What to know or do instead.
        instead: &'static str,
    },
    /// An item of a list is wrong.
    Item {
        /// The item.
        item: String,
        /// What is wrong with it, and the remedy.
        what: &'static str,
    },
    /// Inbound and outbound capture go to one port.
    SamePort {
        /// The other flag.
        flag: &'static str,
    },
    /// Two actions at once.
    NotWithDryRun,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneOf(values) => write!(f, "is not one of: {}", quoted(values)),
            Self::Unsupported {
                values: [],
                instead,
            } => {
                write!(f, "is not supported: {instead}; leave it unset")
            }
            Self::Unsupported { values, instead } => {
                write!(f, "is not supported: {instead}; use {}", quoted(values))
            }
            Self::Item { item, what } if item.is_empty() => write!(f, "has an empty item: {what}"),
            Self::Item { item, what } => write!(f, "has the item `{item}`: {what}"),
            Self::SamePort { flag } => write!(
                f,
                "is also the value of {flag}: inbound and outbound connections need two ports"
            ),
            Self::NotWithDryRun => {
                f.write_str("cannot be combined with --dry-run: leave one of them out")
            }
        }
    }
}

/// A list for people.
pub(crate) fn quoted(values: &[&str]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
    quoted.join(", ")
}

fn item(item: &str, what: &'static str) -> Reason {
    Reason::Item {
        item: item.to_owned(),
        what,
    }
}

/// The items of a list, spaces around them removed.
fn items(text: &str) -> impl Iterator<Item = Result<&str, Reason>> {
    text.split(',').map(|part| match part.trim() {
        "" => Err(item("", "remove the comma, or write what is missing")),
        part => Ok(part),
    })
}

const NOT_A_PORT: &str = "a port is a number from 1 to 65535";

/// One port.
pub(crate) fn port(text: &str) -> Result<Port, Reason> {
    number(text)
        .and_then(|number| u16::try_from(number).ok())
        .and_then(Port::new)
        .ok_or_else(|| item(text, NOT_A_PORT))
}

/// Ports and port ranges (`8000:8010`).
pub(crate) fn ports(text: &str) -> Result<Ports, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            if part == "*" {
                return Err(item(
                    part,
                    "`*` stands alone, and not with this flag: list ports",
                ));
            }
            match part.split_once(':') {
                None => port(part).map(|port| (port.get(), port.get())),
                Some((first, last)) => {
                    let range = (port(first)?.get(), port(last)?.get());
                    if range.0 > range.1 {
                        return Err(item(
                            part,
                            "a range goes from the smaller to the larger port",
                        ));
                    }
                    Ok(range)
                }
            }
        })
        .collect()
}

/// CIDR blocks; an address alone is the block that holds only it. Bits beyond the prefix do not
/// count.
pub(crate) fn cidrs(text: &str) -> Result<Vec<IpNet>, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            if part == "*" {
                return Err(item(
                    part,
                    "`*` stands alone, and only for what is captured: list CIDR blocks",
                ));
            }
            part.parse::<IpNet>()
                .ok()
                .or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from))
                .ok_or_else(|| {
                    item(
                        part,
                        "a CIDR block is an IP address and a length, like 10.0.0.0/8 or fd00::/8",
                    )
                })
        })
        .collect()
}

/// Numeric user or group ids. The largest number means "none" to the kernel, and is refused.
pub(crate) fn ids<C: FromIterator<u32>>(text: &str) -> Result<C, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            number(part)
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| item(part, "an id is a number; names are not looked up"))
        })
        .collect()
}

/// True or false, in all of Go's spellings.
pub(crate) fn boolean(text: &str) -> Result<bool, Reason> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Reason::NotOneOf(&["true", "false"])),
    }
}

/// Decimal digits only: no sign, no blank.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
