//! Expressions from netlink. An error says what is not among Shunt's.

use super::{Code, Expr};
use crate::nft::attr::{Attribute, Attributes, Malformed};
use crate::nft::uapi::{DATA_VALUE, DATA_VERDICT, VERDICT_CODE, expr as abi};

impl Expr {
    /// Reads one element of a rule's list.
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
            "ct" => read_connection(data),
            "socket" => read_socket(data),
            "payload" => read_payload(data),
            "cmp" => read_cmp(data),
            "lookup" => read_lookup(data),
            "bitwise" => read_bitwise(data),
            "byteorder" => read_byteorder(data),
            "counter" => read_counter(data),
            "immediate" => read_immediate(data),
            "redir" => read_redirect(data),
            "tproxy" => read_tproxy(data),
            _ => Err(Malformed("an expression that Shunt does not write")),
        }
    }
}

impl Expr {
    /// What a rule's expression has counted, if it counts; the others are not looked into.
    pub(crate) fn packets(element: Attribute<'_>) -> Result<u64, Malformed> {
        let mut counts = false;
        let mut packets = 0;
        for attribute in element.nested() {
            let attribute = attribute?;
            match attribute.kind {
                abi::NAME => counts = attribute.string()? == "counter",
                abi::DATA if counts => {
                    if let Self::Counter { packets: found, .. } = read_counter(attribute.nested())?
                    {
                        packets = found;
                    }
                }
                _ => {}
            }
        }
        Ok(packets)
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
    let mut set = false;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::META_DREG => register_1(attribute)?,
            abi::META_SREG => {
                register_1(attribute)?;
                set = true;
            }
            abi::META_KEY => key = Some(attribute.be32()?),
            _ => return Err(Malformed("an unknown kind of meta")),
        }
    }
    match (key, set) {
        (Some(key), false) => Ok(Expr::Meta(key)),
        (Some(key), true) => Ok(Expr::SetMeta(key)),
        (None, _) => Err(Malformed("meta without a key")),
    }
}

fn read_connection(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut key = None;
    let mut set = false;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::CT_DREG => register_1(attribute)?,
            abi::CT_SREG => {
                register_1(attribute)?;
                set = true;
            }
            abi::CT_KEY => key = Some(attribute.be32()?),
            _ => return Err(Malformed("ct with a direction")),
        }
    }
    match (key, set) {
        (Some(key), false) => Ok(Expr::Connection(key)),
        (Some(key), true) => Ok(Expr::SetConnection(key)),
        (None, _) => Err(Malformed("ct without a key")),
    }
}

fn read_socket(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let [mut key, mut level] = [None; 2];
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::SOCKET_DREG => register_1(attribute)?,
            abi::SOCKET_KEY => key = Some(attribute.be32()?),
            abi::SOCKET_LEVEL => level = Some(attribute.be32()?),
            _ => return Err(Malformed("an unknown kind of socket")),
        }
    }
    match (key, level) {
        (Some(abi::SOCKET_CGROUPV2), Some(level)) => Ok(Expr::Cgroup { level }),
        _ => Err(Malformed("a socket's property other than its cgroup")),
    }
}

fn read_bitwise(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut mask = None;
    for attribute in data {
        let attribute = attribute?;
        let expected = match attribute.kind {
            abi::BITWISE_SREG | abi::BITWISE_DREG => attribute.be32()? == abi::REG_1,
            abi::BITWISE_LEN => attribute.be32()? == 4,
            abi::BITWISE_OP => attribute.be32()? == abi::BITWISE_MASK_XOR,
            abi::BITWISE_XOR => data_value(attribute)? == [0; 4],
            abi::BITWISE_MASK => {
                mask = <[u8; 4]>::try_from(data_value(attribute)?).ok();
                mask.is_some()
            }
            _ => false,
        };
        if !expected {
            return Err(Malformed("another operation on bits"));
        }
    }
    mask.map(|mask| Expr::And(u32::from_ne_bytes(mask)))
        .ok_or(Malformed("bitwise without a mask"))
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
    let mut flags = 0;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::LOOKUP_SET => set = Some(attribute.string()?.to_owned()),
            abi::LOOKUP_SREG => register_1(attribute)?,
            abi::LOOKUP_FLAGS => flags = attribute.be32()?,
            abi::LOOKUP_SET_ID => {}
            abi::LOOKUP_DREG => return Err(Malformed("a map lookup")),
            _ => return Err(Malformed("an unknown kind of set lookup")),
        }
    }
    match (set, flags) {
        (Some(set), 0) => Ok(Expr::Lookup(set)),
        (Some(set), abi::LOOKUP_INVERTED) => Ok(Expr::NotLookup(set)),
        (Some(_), _) => Err(Malformed("a set lookup with other flags")),
        (None, _) => Err(Malformed("lookup without a set")),
    }
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
            if attribute.kind != VERDICT_CODE {
                continue;
            }
            let number = attribute.be32()?.cast_signed();
            let code = Code::ALL.into_iter().find(|code| code.number() == number);
            return code
                .map(Expr::Verdict)
                .ok_or(Malformed("a jump or another verdict"));
        }
    }
    Err(Malformed("a verdict without a code"))
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

fn read_tproxy(data: Attributes<'_>) -> Result<Expr, Malformed> {
    let mut port = false;
    for attribute in data {
        let attribute = attribute?;
        match attribute.kind {
            abi::TPROXY_REG_PORT => {
                register_1(attribute)?;
                port = true;
            }
            abi::TPROXY_FAMILY if attribute.be32()? == abi::TPROXY_ANY_FAMILY => {}
            _ => return Err(Malformed("a tproxy to an address")),
        }
    }
    if port {
        Ok(Expr::Tproxy)
    } else {
        Err(Malformed("a tproxy without a port"))
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
