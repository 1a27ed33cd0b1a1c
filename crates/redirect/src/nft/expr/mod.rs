//! The kernel's expressions: what a rule is made of when it crosses netlink.
//!
//! Only those that Shunt's rules use, all through register 1. Anything else in our table is drift,
//! and named as such.

mod read;

use super::attr::Writer;
use super::uapi::{
    DATA_VALUE, DATA_VERDICT, LIST_ELEM, VERDICT_ACCEPT, VERDICT_CODE, VERDICT_DROP,
    VERDICT_RETURN, expr as abi,
};
pub(crate) use read::data_value;

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads packet metadata (`NFT_META_*`).
    Meta(u32),
    /// Sets packet metadata to the register.
    SetMeta(u32),
    /// Loads a property of the packet's connection (`NFT_CT_*`).
    Connection(u32),
    /// Sets a property of the packet's connection to the register.
    SetConnection(u32),
    /// Loads the number of the cgroup, so many levels below the root, of the packet's socket.
    Cgroup { level: u32 },
    /// Loads bytes of a header.
    Payload { base: u32, offset: u32, len: u32 },
    /// Ends the rule unless the register is equal to the data.
    Equal(Vec<u8>),
    /// Ends the rule if the register is equal to the data.
    NotEqual(Vec<u8>),
    /// Ends the rule unless the register is in the set.
    Lookup(String),
    /// Ends the rule if the register is in the set.
    NotLookup(String),
    /// Keeps only these bits of 32 in the register, host byte order.
    And(u32),
    /// Turns 32 bits of the register into network byte order.
    HostToNetwork,
    /// Counts the packet.
    Counter { packets: u64, bytes: u64 },
    /// Loads data.
    Immediate(Vec<u8>),
    /// Ends the rule with a verdict.
    Verdict(Code),
    /// Sends the connection to the port in the register.
    Redirect,
    /// Hands the packet to the transparent socket that listens on the port in the register; ends
    /// the rule if there is none.
    Tproxy,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Ends the hook.
    Drop,
    /// Ends the base chain.
    Accept,
    /// Ends the chain.
    Return,
}

impl Code {
    const ALL: [Self; 3] = [Self::Drop, Self::Accept, Self::Return];

    const fn number(self) -> i32 {
        match self {
            Self::Drop => VERDICT_DROP,
            Self::Accept => VERDICT_ACCEPT,
            Self::Return => VERDICT_RETURN,
        }
    }
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
            Self::Meta(_) | Self::SetMeta(_) => "meta",
            Self::Connection(_) | Self::SetConnection(_) => "ct",
            Self::Cgroup { .. } => "socket",
            Self::And(_) => "bitwise",
            Self::Payload { .. } => "payload",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::Lookup(_) | Self::NotLookup(_) => "lookup",
            Self::HostToNetwork => "byteorder",
            Self::Counter { .. } => "counter",
            Self::Immediate(_) | Self::Verdict(_) => "immediate",
            Self::Redirect => "redir",
            Self::Tproxy => "tproxy",
        }
    }

    fn write_data(&self, data: &mut Writer) {
        match self {
            Self::Meta(key) => {
                data.be32(abi::META_DREG, abi::REG_1);
                data.be32(abi::META_KEY, *key);
            }
            Self::SetMeta(key) => {
                data.be32(abi::META_KEY, *key);
                data.be32(abi::META_SREG, abi::REG_1);
            }
            Self::Connection(key) => {
                data.be32(abi::CT_DREG, abi::REG_1);
                data.be32(abi::CT_KEY, *key);
            }
            Self::SetConnection(key) => {
                data.be32(abi::CT_KEY, *key);
                data.be32(abi::CT_SREG, abi::REG_1);
            }
            Self::Cgroup { level } => {
                data.be32(abi::SOCKET_KEY, abi::SOCKET_CGROUPV2);
                data.be32(abi::SOCKET_DREG, abi::REG_1);
                data.be32(abi::SOCKET_LEVEL, *level);
            }
            Self::And(mask) => {
                data.be32(abi::BITWISE_SREG, abi::REG_1);
                data.be32(abi::BITWISE_DREG, abi::REG_1);
                data.be32(abi::BITWISE_LEN, 4);
                data.nest(abi::BITWISE_MASK, |nested| {
                    nested.bytes(DATA_VALUE, &mask.to_ne_bytes());
                });
                data.nest(abi::BITWISE_XOR, |nested| {
                    nested.bytes(DATA_VALUE, &[0; 4]);
                });
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
            Self::NotLookup(set) => {
                data.string(abi::LOOKUP_SET, set);
                data.be32(abi::LOOKUP_SREG, abi::REG_1);
                data.be32(abi::LOOKUP_FLAGS, abi::LOOKUP_INVERTED);
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
            Self::Verdict(code) => {
                data.be32(abi::IMMEDIATE_DREG, abi::REG_VERDICT);
                data.nest(abi::IMMEDIATE_DATA, |nested| {
                    nested.nest(DATA_VERDICT, |verdict| {
                        verdict.be32(VERDICT_CODE, code.number().cast_unsigned());
                    });
                });
            }
            Self::Redirect => {
                data.be32(abi::REDIR_PORT_MIN, abi::REG_1);
                data.be32(abi::REDIR_FLAGS, abi::REDIR_PORT_SPECIFIED);
            }
            Self::Tproxy => {
                data.be32(abi::TPROXY_FAMILY, abi::TPROXY_ANY_FAMILY);
                data.be32(abi::TPROXY_REG_PORT, abi::REG_1);
            }
        }
    }
}
