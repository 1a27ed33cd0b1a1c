//! Numbers of the kernel's ABI (include/uapi/linux/netfilter/{nf_tables,nfnetlink}.h,
//! include/uapi/linux/netlink.h), as far as they are used.

/// `NETLINK_NETFILTER`.
pub(crate) const NETLINK_NETFILTER: isize = 12;
/// `NFPROTO_INET`.
pub(crate) const NFPROTO_INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub(crate) const NFPROTO_IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub(crate) const NFPROTO_IPV6: u8 = 10;

/// Netlink header flags.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(crate) const CAPPED: u16 = 0x100;
    pub(crate) const ACK_TLVS: u16 = 0x200;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// Message types. Those of nf_tables stand in the low byte, the subsystem in the high one.
pub(crate) mod msg {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const BATCH_BEGIN: u16 = 0x10;
    pub(crate) const BATCH_END: u16 = 0x11;

    pub(crate) const SUBSYSTEM: u16 = 10;
    const NF_TABLES: u16 = SUBSYSTEM << 8;
    pub(crate) const NEWTABLE: u16 = NF_TABLES;
    pub(crate) const GETTABLE: u16 = NF_TABLES | 1;
    pub(crate) const DELTABLE: u16 = NF_TABLES | 2;
    pub(crate) const NEWCHAIN: u16 = NF_TABLES | 3;
    pub(crate) const GETCHAIN: u16 = NF_TABLES | 4;
    pub(crate) const DELCHAIN: u16 = NF_TABLES | 5;
    pub(crate) const NEWRULE: u16 = NF_TABLES | 6;
    pub(crate) const GETRULE: u16 = NF_TABLES | 7;
    pub(crate) const DELRULE: u16 = NF_TABLES | 8;
    pub(crate) const NEWSET: u16 = NF_TABLES | 9;
    pub(crate) const GETSET: u16 = NF_TABLES | 10;
    pub(crate) const NEWSETELEM: u16 = NF_TABLES | 12;
    pub(crate) const GETSETELEM: u16 = NF_TABLES | 13;
    pub(crate) const NEWGEN: u16 = NF_TABLES | 15;
    pub(crate) const GETGEN: u16 = NF_TABLES | 16;
    pub(crate) const GETOBJ: u16 = NF_TABLES | 19;
    pub(crate) const GETFLOWTABLE: u16 = NF_TABLES | 23;
}

/// `NLMSGERR_ATTR_MSG`: the kernel's own words about an error.
pub(crate) const ERROR_TEXT: u16 = 1;
/// `NFNL_BATCH_GENID`: refuse the batch unless the rules are still of this generation.
pub(crate) const BATCH_GENID: u16 = 1;
/// `NFTA_GEN_ID`.
pub(crate) const GEN_ID: u16 = 1;
/// `NFTA_LIST_ELEM`.
pub(crate) const LIST_ELEM: u16 = 1;
/// `NFTA_DATA_VALUE`.
pub(crate) const DATA_VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`.
pub(crate) const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE`.
pub(crate) const VERDICT_CODE: u16 = 1;
/// `NFTA_VERDICT_CHAIN`.
pub(crate) const VERDICT_CHAIN: u16 = 2;
/// `NFT_RETURN`.
pub(crate) const VERDICT_RETURN: i32 = -5;
/// `NF_DROP`.
pub(crate) const VERDICT_DROP: i32 = 0;
/// `NF_ACCEPT`.
pub(crate) const VERDICT_ACCEPT: i32 = 1;
/// `NF_ACCEPT`.
pub(crate) const POLICY_ACCEPT: u32 = 1;

/// `NFTA_TABLE_*`.
pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    /// How many chains, sets, objects and flowtables it holds.
    pub(crate) const USE: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    /// `NFT_TABLE_F_DORMANT`: no packet meets its chains.
    pub(crate) const FLAG_DORMANT: u32 = 1;
    /// `NFT_TABLE_F_OWNER`: only the process that made the table can change it.
    pub(crate) const FLAG_OWNER: u32 = 2;
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUM: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    /// `NF_INET_PRE_ROUTING`.
    pub(crate) const PREROUTING: u32 = 0;
    /// `NF_INET_LOCAL_OUT`.
    pub(crate) const LOCAL_OUT: u32 = 3;
}

/// `NFTA_OBJ_*` and `NFTA_FLOWTABLE_*`, which are alike so far.
pub(crate) mod named {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
}

/// `NFTA_RULE_*`.
pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
}

/// `NFTA_SET_*` and `NFTA_SET_ELEM_*`.
pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const DESCRIPTION_SIZE: u16 = 1;
    pub(crate) const ID: u16 = 10;
    pub(crate) const FLAG_INTERVAL: u32 = 4;
    /// Key types exist only for `nft` to print by; the numbers are its.
    pub(crate) const TYPE_IPV4: u32 = 7;
    pub(crate) const TYPE_IPV6: u32 = 8;
    pub(crate) const TYPE_SERVICE: u32 = 13;
    pub(crate) const TYPE_UID: u32 = 24;
    pub(crate) const TYPE_GID: u32 = 25;

    pub(crate) const ELEM_TABLE: u16 = 1;
    pub(crate) const ELEM_SET: u16 = 2;
    pub(crate) const ELEM_ELEMENTS: u16 = 3;
    pub(crate) const ELEM_KEY: u16 = 1;
    pub(crate) const ELEM_FLAGS: u16 = 3;
    pub(crate) const ELEM_INTERVAL_END: u32 = 1;
}

/// Names and attributes of expressions (`NFTA_EXPR_*`, then each expression's own).
pub(crate) mod expr {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    /// `NFT_REG_VERDICT`.
    pub(crate) const REG_VERDICT: u32 = 0;
    /// `NFT_REG_1`: 16 bytes, enough for every key used.
    pub(crate) const REG_1: u32 = 1;

    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const META_SREG: u16 = 3;
    pub(crate) const META_MARK: u32 = 3;
    pub(crate) const META_IIF: u32 = 4;
    pub(crate) const META_OIF: u32 = 5;
    pub(crate) const META_IIFNAME: u32 = 6;
    pub(crate) const META_OIFNAME: u32 = 7;
    pub(crate) const META_SKUID: u32 = 10;
    pub(crate) const META_SKGID: u32 = 11;
    pub(crate) const META_NFPROTO: u32 = 15;
    pub(crate) const META_L4PROTO: u32 = 16;

    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OP: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;
    pub(crate) const CMP_EQ: u32 = 0;
    pub(crate) const CMP_NEQ: u32 = 1;

    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LEN: u16 = 4;
    pub(crate) const BASE_NETWORK: u32 = 1;
    pub(crate) const BASE_TRANSPORT: u32 = 2;

    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_SET_ID: u16 = 4;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    /// `NFT_LOOKUP_F_INV`.
    pub(crate) const LOOKUP_INVERTED: u32 = 1;

    pub(crate) const BYTEORDER_SREG: u16 = 1;
    pub(crate) const BYTEORDER_DREG: u16 = 2;
    pub(crate) const BYTEORDER_OP: u16 = 3;
    pub(crate) const BYTEORDER_LEN: u16 = 4;
    pub(crate) const BYTEORDER_SIZE: u16 = 5;
    pub(crate) const BYTEORDER_HTON: u32 = 1;

    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LEN: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;
    pub(crate) const BITWISE_OP: u16 = 6;
    /// `NFT_BITWISE_BOOL`, later renamed `NFT_BITWISE_MASK_XOR`.
    pub(crate) const BITWISE_MASK_XOR: u32 = 0;

    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_SREG: u16 = 4;
    pub(crate) const CT_STATE: u32 = 0;
    pub(crate) const CT_DIRECTION: u32 = 1;
    pub(crate) const CT_MARK: u32 = 3;
    pub(crate) const CT_ZONE: u32 = 17;
    /// `IP_CT_DIR_ORIGINAL`.
    pub(crate) const DIRECTION_ORIGINAL: u8 = 0;
    /// Bits of `NFT_CT_STATE` (`NF_CT_STATE_*`).
    pub(crate) const STATE_INVALID: u32 = 1;
    pub(crate) const STATE_ESTABLISHED: u32 = 2;
    pub(crate) const STATE_RELATED: u32 = 4;

    pub(crate) const SOCKET_KEY: u16 = 1;
    pub(crate) const SOCKET_DREG: u16 = 2;
    pub(crate) const SOCKET_LEVEL: u16 = 3;
    /// `NFT_SOCKET_CGROUPV2`.
    pub(crate) const SOCKET_CGROUPV2: u32 = 3;

    pub(crate) const TPROXY_FAMILY: u16 = 1;
    pub(crate) const TPROXY_REG_PORT: u16 = 3;
    /// `NFPROTO_UNSPEC`: the packet's own.
    pub(crate) const TPROXY_ANY_FAMILY: u32 = 0;

    pub(crate) const COUNTER_BYTES: u16 = 1;
    pub(crate) const COUNTER_PACKETS: u16 = 2;

    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;

    pub(crate) const REDIR_PORT_MIN: u16 = 1;
    pub(crate) const REDIR_PORT_MAX: u16 = 2;
    pub(crate) const REDIR_FLAGS: u16 = 3;
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`.
    pub(crate) const REDIR_PORT_SPECIFIED: u32 = 2;
}
