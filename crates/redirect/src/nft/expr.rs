//! The kernel's expressions: what a rule is made of when it crosses netlink.
//!
//! Only those that Shunt's rules use, all through register 1. Anything else in our table is drift,
//! and named as such.

use super::attr::{Attribute, Attributes, Malformed, Writer};
use super::uapi::{DATA_VALUE, DATA_VERDICT, LIST_ELEM, VERDICT_CODE, VERDICT_RETURN, expr as abi};

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads packet metadata (`NFT_META_*`).
    Meta(u32),
    /// Loads bytes of a header.
    Payload { base: u32, offset: u32, len: u32 },
    /// Ends the rule unless the register is equal to the data.
    Equal(Vec<u8>),
    /// Ends the rule if the register is equal to the data.
    NotEqual(Vec<u8>),
    /// Ends the rule unless the register is in the set.
    Lookup(String),
    /// Turns 32 bits of the register into network byte order.
    HostToNetwork,
    /// Counts the packet.
    Counter { packets: u64, bytes: u64 },
    /// Loads data.
    Immediate(Vec<u8>),
    /// Leaves the chain.
    Return,
    /// Sends the connection to the port in the register.
    Redirect,
}

impl Expr {
    /// Writes the expression as one element of a rule's list.
    pub(crate) fn write(&self, list: &mut Writer) {
        list.nest(LIST_ELEM, |element| {
            element.string(abi::NAME, self.name());
            element.nest(abi::DATA, |data| self.write_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Payload { .. } => "payload",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::Lookup(_) => "lookup",
            Self::HostToNetwork => "byteorder",
            Self::Counter { .. } => "counter",
            Self::Immediate(_) | Self::Return => "immediate",
            Self::Redirect => "redir",
        }
    }

    fn write_data(&self, data: &mut Writer) {
        match self {
            Self::Meta(key) => {
                data.be32(abi::META_DREG, abi::REG_1);
                data.be32(abi::META_KEY, *key);
            }
            Self::Payload { base, offset, len } => {
                data.be32(abi::PAYLOAD_DREG, abi::REG_1);
                data.be32(abi::PAYLOAD_BASE, *base);
                data.be32(abi::PAYLOAD_OFFSET, *offset);
                data.be32(abi::PAYLOAD_LEN, *len);
            }
            Self::Equal(value) | Self::NotEqual(value) => {
                let op = match self {
                    Self::Equal(_) => abi::CMP_EQ,
                    _ => abi::CMP_NEQ,
                };
                data.be32(abi::CMP_SREG, abi::REG_1);
                data.be32(abi::CMP_OP, op);
                data.nest(abi::CMP_DATA, |nested| nested.bytes(DATA_VALUE, value));
            }
            Self::Lookup(set) => {
                data.string(abi::LOOKUP_SET, set);
                data.be32(abi::LOOKUP_SREG, abi::REG_1);
            }
            Self::HostToNetwork => {
                data.be32(abi::BYTEORDER_SREG, abi::REG_1);
                data.be32(abi::BYTEORDER_DREG, abi::REG_1);
                data.be32(abi::BYTEORDER_OP, abi::BYTEORDER_HTON);
                data.be32(abi::BYTEORDER_LEN, 4);
                data.be32(abi::BYTEORDER_SIZE, 4);
            }
            Self::Counter { packets, bytes } => {
                data.be64(abi::COUNTER_BYTES, *bytes);
                data.be64(abi::COUNTER_PACKETS, *packets);
            }
            Self::Immediate(value) => {
                data.be32(abi::IMMEDIATE_DREG, abi::REG_1);
                data.nest(abi::IMMEDIATE_DATA, |nested| {
                    nested.bytes(DATA_VALUE, value);
                });
            }
            Self::Return => {
                data.be32(abi::IMMEDIATE_DREG, abi::REG_VERDICT);
                data.nest(abi::IMMEDIATE_DATA, |nested| {
                    nested.nest(DATA_VERDICT, |verdict| {
                        verdict.be32(VERDICT_CODE, VERDICT_RETURN.cast_unsigned());
                    });
                });
            }
            Self::Redirect => {
                data.be32(abi::REDIR_PORT_MIN, abi::REG_1);
                data.be32(abi::REDIR_FLAGS, abi::REDIR_PORT_SPECIFIED);
            }
        }
    }

    /// Reads one element of a rule's list. An error says what is not among Shunt's expressions.
    pub(crate) fn read(element: Attribute<'_>) -> Result<Self, Malformed> {
        let mut name = "";
        let mut data = Attributes::new(&[]);
        for attribute in element.nested() {
            let attribute = attribute?;
            match attribute.kind {
                abi::NAME => name = attribute.string()?,
                abi::DATA => data = attribute.nested(),
                _ => {}
            }
        }
        match name {
            "meta" => read_meta(data),
            "payload" => read_payload(data),
            "cmp" => read_cmp(data),
            "lookup" => read_lookup(data),
            "byteorder" => read_byteorder(data),
            "counter" => read_counter(data),
            "immediate" => read_immediate(data),
            "redir" => read_redirect(data),
            _ => Err(Malformed("an expression that Shunt does not write")),
        }
    }
}

const OTHER_REGISTER: Malformed = Malformed("an expression on another register");

fn register_1(attribute: Attribute<'_>) -> Result<(), Malformed> {
    match attribute.be32()? {
        abi::REG_1 => Ok(()),
        _ => Err(OTHER_REGISTER),
    }
}

fn read_meta(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut key = None;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::META_DREG => register_1(attribute)?,
            abi::META_KEY => key = Some(attribute.be32()?),
            _ => return Err(Malformed("a meta statement")),
        }
    }
    key.map(Expr::Meta).ok_or(Malformed("meta without a key"))
}

fn read_payload(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let [mut base, mut offset, mut len] = [None; 3];
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::PAYLOAD_DREG => register_1(attribute)?,
            abi::PAYLOAD_BASE => base = Some(attribute.be32()?),
            abi::PAYLOAD_OFFSET => offset = Some(attribute.be32()?),
            abi::PAYLOAD_LEN => len = Some(attribute.be32()?),
            _ => return Err(Malformed("a payload statement")),
        }
    }
    match (base, offset, len) {
        (Some(base), Some(offset), Some(len)) => Ok(Expr::Payload { base, offset, len }),
        _ => Err(Malformed("payload without base, offset or length")),
    }
}

fn read_cmp(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut op = None;
    let mut value = None;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::CMP_SREG => register_1(attribute)?,
            abi::CMP_OP => op = Some(attribute.be32()?),
            abi::CMP_DATA => value = Some(data_value(attribute)?),
            _ => {}
        }
    }
    match (op, value) {
        (Some(abi::CMP_EQ), Some(value)) => Ok(Expr::Equal(value)),
        (Some(abi::CMP_NEQ), Some(value)) => Ok(Expr::NotEqual(value)),
        _ => Err(Malformed("a comparison other than equal or not equal")),
    }
}

fn read_lookup(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut set = None;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::LOOKUP_SET => set = Some(attribute.string()?.to_owned()),
            abi::LOOKUP_SREG => register_1(attribute)?,
            abi::LOOKUP_FLAGS if attribute.be32()? != 0 => {
                return Err(Malformed("an inverted set lookup"));
            }
            abi::LOOKUP_DREG => return Err(Malformed("a map lookup")),
            abi::LOOKUP_FLAGS | abi::LOOKUP_SET_ID => {}
            _ => return Err(Malformed("an unknown kind of set lookup")),
        }
    }
    set.map(Expr::Lookup)
        .ok_or(Malformed("lookup without a set"))
}

fn read_byteorder(data: Attributes<'_>) -> Result<Expr, Malformed> {
    for attribute in data {
        let attribute = attribute?;
        let number = attribute.be32()?;
        let expected = match attribute.kind {
            abi::BYTEORDER_SREG | abi::BYTEORDER_DREG => abi::REG_1,
            abi::BYTEORDER_OP => abi::BYTEORDER_HTON,
            abi::BYTEORDER_LEN | abi::BYTEORDER_SIZE => 4,
            _ => continue,
        };
        if number != expected {
            return Err(Malformed("another change of byte order"));
        }
    }
    Ok(Expr::HostToNetwork)
}

fn read_counter(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let [mut packets, mut bytes] = [0; 2];
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::COUNTER_BYTES => bytes = attribute.be64()?,
            abi::COUNTER_PACKETS => packets = attribute.be64()?,
            _ => {}
        }
    }
    Ok(Expr::Counter { packets, bytes })
}

fn read_immediate(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut register = None;
    let mut value = None;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::IMMEDIATE_DREG => register = Some(attribute.be32()?),
            abi::IMMEDIATE_DATA => value = Some(attribute),
            _ => {}
        }
    }
    match (register, value) {
        (Some(abi::REG_VERDICT), Some(data)) => read_verdict(data),
        (Some(abi::REG_1), Some(data)) => Ok(Expr::Immediate(data_value(data)?)),
        _ => Err(OTHER_REGISTER),
    }
}

fn read_verdict(data: Attribute<'_>) -> Result<Expr, Malformed> {
    for attribute in data.nested() {
        let attribute = attribute?;
        if attribute.kind != DATA_VERDICT {
            continue;
        }
        for attribute in attribute.nested() {
            let attribute = attribute?;
            if attribute.kind == VERDICT_CODE && attribute.be32()?.cast_signed() == VERDICT_RETURN {
                return Ok(Expr::Return);
            }
        }
    }
    Err(Malformed("a verdict other than return"))
}

fn read_redirect(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut port = false;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::REDIR_PORT_MIN | abi::REDIR_PORT_MAX => {
                register_1(attribute)?;
                port = true;
            }
            abi::REDIR_FLAGS if attribute.be32()? != abi::REDIR_PORT_SPECIFIED => {
                return Err(Malformed("a redirect with other flags"));
            }
            _ => {}
        }
    }
    if port {
        Ok(Expr::Redirect)
    } else {
        Err(Malformed("a redirect without a port"))
    }
}

/// The bytes in a `NFTA_DATA_VALUE`.
pub(crate) fn data_value(data: Attribute<'_>) -> Result<Vec<u8>, Malformed> {
    for attribute in data.nested() {
        let attribute = attribute?;
        if attribute.kind == DATA_VALUE {
            return Ok(attribute.value.to_vec());
        }
    }
    Err(Malformed("data without a value"))
}
