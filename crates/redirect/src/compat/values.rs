//! Values as people write them on a command line or in an annotation: ports, CIDRs, ids.
//!
//! Strict: an empty item, a name for a number, port 0 are errors that name the item and the
//! remedy, because a typing error here is a hole in the mesh.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::backend::BackendChoice;
use crate::capture::{InterfaceName, Ipv6Mode, Mark, Port, Ports};
use crate::field::Vocabulary;
use crate::validate::Invalid;

/// What is wrong with a value, to be read after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not among the words that mean something.
    NotOneOf(&'static [&'static str]),
    /// An item of a list is wrong.
    Item {
        /// The item.
        item: String,
        /// What is wrong with it, and the remedy.
        what: Cow<'static, str>,
    },
    /// The value as a whole is wrong.
    Is(Cow<'static, str>),
    /// Contradicts another value.
    NotWith(&'static str),
    /// The policy as a whole cannot be.
    Invalid(Invalid, Vocabulary),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneOf(values) => write!(f, "is not one of: {}", quoted(values)),
            Self::Item { item, what } if item.is_empty() => write!(f, "has an empty item: {what}"),
            Self::Item { item, what } => write!(f, "has the item `{item}`: {what}"),
            Self::Is(what) => f.write_str(what),
            Self::NotWith(other) => {
                write!(f, "cannot be combined with {other}: leave one of them out")
            }
            Self::Invalid(invalid, vocabulary) => f.write_str(&invalid.reason(*vocabulary)),
        }
    }
}

/// A list for people.
pub(crate) fn quoted(values: &[&str]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
    quoted.join(", ")
}

/// An item of a list, and what is wrong with it.
pub(crate) fn item(item: &str, what: impl Into<Cow<'static, str>>) -> Reason {
    let what = if octal(item) {
        "a zero before a number makes it octal to some programs, and not to others: leave it out"
            .into()
    } else {
        what.into()
    };
    Reason::Item {
        item: item.to_owned(),
        what,
    }
}

/// The items of a list, spaces around them removed.
pub(crate) fn items(text: &str) -> impl Iterator<Item = Result<&str, Reason>> {
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

/// Ports and port ranges: `8000:8010` as iptables writes them, or with another sign between.
pub(crate) fn ports(text: &str, between: char) -> Result<Ports, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            if part == "*" {
                return Err(item(
                    part,
                    "`*` stands alone, and not with this flag: list ports",
                ));
            }
            match part.split_once(between) {
                None => port(part).map(|port| (port.get(), port.get())),
                Some((first, last)) if first.is_empty() || last.is_empty() => Err(item(
                    part,
                    "a range has a port on either side, from 1 to 65535",
                )),
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
            cidr(part)
        })
        .collect()
}

/// One CIDR block.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Reason> {
    let block = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .ok_or_else(|| {
            item(
                text,
                "a CIDR block is an IP address and a length, like 10.0.0.0/8 or fd00::/8",
            )
        })?;
    match block {
        IpNet::V6(block) if block.prefix_len() >= 96 => match block.addr().to_ipv4_mapped() {
            Some(_) => Err(item(
                text,
                "no packet has an IPv4-mapped address: write it as IPv4, like 10.0.0.0/8",
            )),
            None => Ok(block.trunc().into()),
        },
        block => Ok(block.trunc()),
    }
}

/// The IPv4 block that counts as loopback.
pub(crate) fn loopback(text: &str) -> Result<Ipv4Net, Reason> {
    match cidr(text)? {
        IpNet::V4(block) => Ok(block),
        IpNet::V6(_) => Err(item(
            text,
            "it is about IPv4 (of IPv6 only ::1 counts): give a block like 127.0.0.1/32",
        )),
    }
}

/// Names of interfaces.
pub(crate) fn interfaces<C: FromIterator<InterfaceName>>(text: &str) -> Result<C, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            InterfaceName::new(part).ok_or_else(|| item(part, NOT_AN_INTERFACE))
        })
        .collect()
}

/// What an interface's name is.
pub(crate) const NOT_AN_INTERFACE: &str = "a name of an interface has 1 to 15 letters, digits and `._-@`, may end with `+` for all that \
     begin so, and is not lo";

/// A mark: decimal, or hexadecimal after `0x`.
pub(crate) fn mark(text: &str) -> Result<Mark, Reason> {
    let number = match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => number(text),
    };
    number.and_then(Mark::new).ok_or_else(|| {
        item(
            text,
            "a mark is a number from 1 to 4294967295, or from 0x1 to 0xffffffff",
        )
    })
}

/// A route table.
pub(crate) fn table(text: &str) -> Result<u32, Reason> {
    number(text).ok_or_else(|| item(text, "a route table is a number; names are not looked up"))
}

/// What an id is.
pub(crate) const NOT_AN_ID: &str =
    "an id is a number from 0 to 4294967294; names are not looked up";

/// Numeric user or group ids. The largest number means "none" to the kernel, and is refused.
pub(crate) fn ids<C: FromIterator<u32>>(text: &str) -> Result<C, Reason> {
    items(text)
        .map(|part| {
            let part = part?;
            id(part).ok_or_else(|| item(part, NOT_AN_ID))
        })
        .collect()
}

/// A numeric id.
pub(crate) fn id(text: &str) -> Option<u32> {
    number(text).filter(|id| *id != u32::MAX)
}

/// True or false, in all of Go's spellings.
pub(crate) fn boolean(text: &str) -> Result<bool, Reason> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Reason::NotOneOf(&["true", "false"])),
    }
}

/// Decimal digits only: no sign, no blank, no zero before others (octal to many programs).
pub(crate) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !octal(text))
        .then(|| text.parse().ok())
        .flatten()
}

/// Whether a zero stands before other digits.
fn octal(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether IPv6 is captured.
pub(crate) fn ipv6_mode(text: &str) -> Result<Ipv6Mode, Reason> {
    match text {
        "auto" => Ok(Ipv6Mode::Auto),
        "istio" => Ok(Ipv6Mode::Istio),
        "always" => Ok(Ipv6Mode::On),
        "never" => Ok(Ipv6Mode::Off),
        _ => Err(Reason::NotOneOf(&["auto", "istio", "always", "never"])),
    }
}

/// What writes the rules.
pub(crate) fn backend(text: &str) -> Result<BackendChoice, Reason> {
    match text {
        "auto" => Ok(BackendChoice::Auto),
        "nft" => Ok(BackendChoice::Nft),
        "iptables" => Ok(BackendChoice::Iptables),
        "iptables-nft" => Ok(BackendChoice::IptablesNft),
        "iptables-legacy" => Ok(BackendChoice::IptablesLegacy),
        _ => Err(Reason::NotOneOf(&[
            "auto",
            "nft",
            "iptables",
            "iptables-nft",
            "iptables-legacy",
        ])),
    }
}
