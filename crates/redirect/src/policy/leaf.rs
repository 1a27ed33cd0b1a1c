//! The values of a policy file: numbers and words, each strict and with a remedy.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor, value};
use serde::ser::{Serialize, Serializer};

use crate::capture::{CgroupPath, InterfaceName, Mark, Port, Ports};
use crate::compat::values::{self, Reason};

/// A value that is one word or number.
trait Word: Sized {
    /// What it is, to be read after "expected".
    const WHAT: &'static str;

    fn parse(text: &str) -> Result<Self, Reason>;
}

struct WordVisitor<T>(PhantomData<T>);

impl<T: Word> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(|reason| match reason {
            Reason::Item { item, what } => E::custom(format_args!("is `{item}`: {what}")),
            reason => E::custom(reason),
        })
    }
}

/// Reads a [`Word`], and writes it as a number or as text.
macro_rules! word {
    ($type:ty, $what:literal, $parse:expr, $write:expr) => {
        impl Word for $type {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, Reason> {
                $parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(WordVisitor(PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $write(self).serialize(serializer)
            }
        }
    };
}

/// A port.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortNumber(pub(super) Port);
word!(
    PortNumber,
    "a port",
    |text| values::port(text).map(PortNumber),
    |port: &PortNumber| port.0.get()
);

/// The tunnel's port, or the word for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel(pub(super) Option<Port>);
word!(
    Tunnel,
    "a port, or none",
    |text| match text {
        "none" => Ok(Tunnel(None)),
        text => values::port(text).map(|port| Tunnel(Some(port))),
    },
    |tunnel: &Tunnel| match tunnel.0 {
        Some(port) => NumberOrText::Number(port.get().into()),
        None => NumberOrText::Text("none".to_owned()),
    }
);

/// A port or a range of ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortRange(u16, u16);
word!(
    PortRange,
    "a port or a range of ports like 8000-8010",
    |text: &str| {
        if text.contains(',') {
            return Err(values::item(text, "write each port as an item of its own"));
        }
        let ports = values::ports(text, '-')?;
        let range = ports.iter().next();
        range
            .map(|(first, last)| PortRange(first, last))
            .ok_or_else(|| values::item(text, "write a port"))
    },
    |range: &PortRange| if range.0 == range.1 {
        NumberOrText::Number(range.0.into())
    } else {
        NumberOrText::Text(format!("{}-{}", range.0, range.1))
    }
);

impl PortRange {
    pub(super) fn list(ports: &Ports) -> Vec<Self> {
        ports
            .iter()
            .map(|(first, last)| Self(first, last))
            .collect()
    }

    pub(super) fn ports(list: &[Self]) -> Ports {
        list.iter().map(|range| (range.0, range.1)).collect()
    }
}

/// A user or group id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) u32);
word!(
    Id,
    "a numeric id",
    |text| values::id(text)
        .map(Id)
        .ok_or_else(|| values::item(text, values::NOT_AN_ID)),
    |id: &Id| id.0
);

/// A mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkNumber(pub(super) Mark);
word!(
    MarkNumber,
    "a mark",
    |text| values::mark(text).map(MarkNumber),
    |mark: &MarkNumber| mark.0.get()
);

/// A route table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table(pub(super) u32);
word!(
    Table,
    "a route table",
    |text| values::table(text).map(Table),
    |table: &Table| table.0
);

/// A CIDR block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cidr(pub(super) IpNet);
word!(
    Cidr,
    "a CIDR block",
    |text| values::cidr(text).map(Cidr),
    |cidr: &Cidr| cidr.0.to_string()
);

/// The loopback block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loopback(pub(super) Ipv4Net);
word!(
    Loopback,
    "a CIDR block in 127.0.0.0/8",
    |text| values::loopback(text).map(Loopback),
    |cidr: &Loopback| cidr.0.to_string()
);

/// An address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);
word!(
    Address,
    "an IP address",
    |text: &str| text
        .parse()
        .map(Address)
        .map_err(|_error| values::item(text, "give an IP address like 10.96.0.10 or fd00::a")),
    |address: &Address| address.0.to_string()
);

/// An interface's name.
#[derive(Clone, Debug)]
pub(super) struct Interface(pub(super) InterfaceName);
word!(
    Interface,
    "a name of an interface",
    |text| InterfaceName::new(text)
        .map(Interface)
        .ok_or_else(|| values::item(text, values::NOT_AN_INTERFACE)),
    |interface: &Interface| interface.0.to_string()
);

/// A cgroup's path.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(pub(super) CgroupPath);
word!(
    Cgroup,
    "a path of a cgroup",
    |text| {
        CgroupPath::new(text).map(Cgroup).ok_or_else(|| values::item(
        text,
        "give the path of a cgroup (version 2) below the root of its tree, without blanks, quotes \
         and `..`, like kubepods/pod1/proxy"
    ))
    },
    |cgroup: &Cgroup| cgroup.0.to_string()
);

/// Written as what it is.
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl Serialize for NumberOrText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// All, none, or a list.
#[derive(Debug)]
pub(super) enum Selection<T> {
    All,
    None,
    Only(Vec<T>),
}

struct SelectionVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SelectionVisitor<T> {
    type Value = Selection<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all, none, or a list")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "all" => Ok(Selection::All),
            "none" => Ok(Selection::None),
            _ => Err(E::custom(format_args!(
                "is `{text}`; expected all, none, or a list: write [{text}]"
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(value::SeqAccessDeserializer::new(seq)).map(Selection::Only)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Selection<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SelectionVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Selection<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::None => serializer.serialize_str("none"),
            Self::Only(list) => list.serialize(serializer),
        }
    }
}

/// DNS servers.
#[derive(Debug)]
pub(super) enum Servers {
    ResolvConf,
    All,
    Only(Vec<Address>),
}

struct ServersVisitor;

impl<'de> Visitor<'de> for ServersVisitor {
    type Value = Servers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resolvConf, all, or a list of addresses")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Servers, E> {
        match text {
            "resolvConf" => Ok(Servers::ResolvConf),
            "all" => Ok(Servers::All),
            _ => Err(E::custom(format_args!(
                "is `{text}`; expected resolvConf, all, or a list of addresses: write [{text}]"
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Servers, A::Error> {
        Vec::deserialize(value::SeqAccessDeserializer::new(seq)).map(Servers::Only)
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ServersVisitor)
    }
}

impl Serialize for Servers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::ResolvConf => serializer.serialize_str("resolvConf"),
            Self::All => serializer.serialize_str("all"),
            Self::Only(servers) => servers.serialize(serializer),
        }
    }
}
