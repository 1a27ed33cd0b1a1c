//! Ports, marks and names that every part of Shunt agrees on.
//!
//! Nothing else in the workspace spells one of these numbers. The crate has no dependencies, so
//! that kernel programs can use it too.
#![no_std]
#![forbid(unsafe_code)]

/// TCP ports, host byte order.
pub mod port {
    /// The sidecar's admin interface, loopback only (Envoy's admin in Istio).
    pub const ADMIN: u16 = 15000;
    /// Captured outbound connections arrive here (`virtualOutbound`).
    pub const OUTBOUND: u16 = 15001;
    /// Captured inbound connections arrive here (`virtualInbound`).
    pub const INBOUND: u16 = 15006;
    /// HBONE tunnel; never captured.
    pub const TUNNEL: u16 = 15008;
    /// Istio's merged metrics and health of the agent.
    pub const STATUS: u16 = 15020;
    /// Readiness, asked by the kubelet.
    pub const READINESS: u16 = 15021;
    /// Istio's port for the proxy's own metrics.
    pub const METRICS: u16 = 15090;
}

/// Who the proxy is, as the redirect rules see it.
pub mod identity {
    /// Numeric uid and gid of the sidecar unless told otherwise (Istio's `istio-proxy`).
    pub const PROXY_UID: u32 = 1337;
}

/// Addresses with a meaning of their own.
pub mod addr {
    use core::net::{Ipv4Addr, Ipv6Addr};

    /// Source of the sidecar's inbound upstream connections; the rules let it pass (Istio).
    pub const INBOUND_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
    /// The same for IPv6; `shunt-init` adds it to `lo`.
    pub const INBOUND_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
}

/// How Shunt recognises the address it added itself.
pub mod lo {
    /// Interface index of `lo` in every network namespace (`LOOPBACK_IFINDEX`,
    /// include/net/flow.h).
    pub const INDEX: u32 = 1;
    /// Route metric (`IFA_RT_PRIORITY`, "ShNt") of the [`super::addr::INBOUND_SOURCE_V6`] that
    /// `shunt-init` adds. With `noprefixroute` it moves no packet; it only tells our address from
    /// one that was there before, also after a run that died half-way. Kernels keep it since 4.18.
    pub const OWN_ADDRESS_METRIC: u32 = 0x5368_4e74;
}

/// Names in the kernel that belong to Shunt.
pub mod name {
    /// The nf_tables table in family `inet`.
    pub const NFT_TABLE: &str = "shunt";

    /// Chains of [`NFT_TABLE`], named as the hooks they stand on.
    pub mod chain {
        /// Packets that arrive from an interface.
        pub const PREROUTING: &str = "prerouting";
        /// Packets that a process of the pod sends.
        pub const OUTPUT: &str = "output";
    }

    /// Sets of [`NFT_TABLE`]. One exists only if a rule uses it.
    pub mod set {
        /// Uids of the proxy.
        pub const PROXY_UIDS: &str = "proxy_uids";
        /// Gids of the proxy.
        pub const PROXY_GIDS: &str = "proxy_gids";
        /// Inbound ports that pass.
        pub const INBOUND_EXCLUDE_PORTS: &str = "inbound_exclude_ports";
        /// Inbound ports that are captured, when not all are.
        pub const INBOUND_INCLUDE_PORTS: &str = "inbound_include_ports";
        /// Outbound ports that pass.
        pub const OUTBOUND_EXCLUDE_PORTS: &str = "outbound_exclude_ports";
        /// Outbound ports that are captured whatever the address.
        pub const OUTBOUND_INCLUDE_PORTS: &str = "outbound_include_ports";
        /// Outbound IPv4 destinations that pass.
        pub const OUTBOUND_EXCLUDE_V4: &str = "outbound_exclude_v4";
        /// Outbound IPv6 destinations that pass.
        pub const OUTBOUND_EXCLUDE_V6: &str = "outbound_exclude_v6";
        /// Outbound IPv4 destinations that are captured, when not all are.
        pub const OUTBOUND_INCLUDE_V4: &str = "outbound_include_v4";
        /// Outbound IPv6 destinations that are captured, when not all are.
        pub const OUTBOUND_INCLUDE_V6: &str = "outbound_include_v6";
    }
}

/// Keys of the rules: the comment that each rule carries in the kernel, and the name under which
/// its counter is read. A key is unique within the table.
pub mod rule {
    /// IPv6 that arrives while IPv6 capture is off: passes.
    pub const INBOUND_IPV6_OFF: &str = "inbound/ipv6-off";
    /// The HBONE tunnel port: passes.
    pub const INBOUND_TUNNEL: &str = "inbound/tunnel-port";
    /// Excluded inbound ports: pass.
    pub const INBOUND_EXCLUDE_PORTS: &str = "inbound/exclude-ports";
    /// All other inbound TCP: to the inbound capture port.
    pub const INBOUND_CAPTURE: &str = "inbound/capture";
    /// Listed inbound ports: to the inbound capture port.
    pub const INBOUND_INCLUDE_PORTS: &str = "inbound/include-ports";

    /// IPv6 that is sent while IPv6 capture is off: passes.
    pub const OUTBOUND_IPV6_OFF: &str = "outbound/ipv6-off";
    /// Excluded outbound TCP ports: pass.
    pub const OUTBOUND_EXCLUDE_PORTS_TCP: &str = "outbound/exclude-ports-tcp";
    /// Excluded outbound UDP ports: pass.
    pub const OUTBOUND_EXCLUDE_PORTS_UDP: &str = "outbound/exclude-ports-udp";
    /// The proxy's inbound upstream connections, IPv4 (source 127.0.0.6): pass.
    pub const INBOUND_SOURCE_V4: &str = "outbound/inbound-source-v4";
    /// The same for IPv6 (source ::6).
    pub const INBOUND_SOURCE_V6: &str = "outbound/inbound-source-v6";
    /// The proxy (by uid) calls the pod's own IPv4 address: to the inbound capture port.
    pub const SELF_CALL_UID_V4: &str = "outbound/self-call-uid-v4";
    /// The same for IPv6.
    pub const SELF_CALL_UID_V6: &str = "outbound/self-call-uid-v6";
    /// The proxy (by gid) calls the pod's own IPv4 address: to the inbound capture port.
    pub const SELF_CALL_GID_V4: &str = "outbound/self-call-gid-v4";
    /// The same for IPv6.
    pub const SELF_CALL_GID_V6: &str = "outbound/self-call-gid-v6";
    /// Everything else the proxy sends, by uid: passes.
    pub const PROXY_UID: &str = "outbound/proxy-uid";
    /// Everything else the proxy sends, by gid: passes.
    pub const PROXY_GID: &str = "outbound/proxy-gid";
    /// What the application sends over `lo`, its own pod IP included: passes.
    pub const LOOPBACK_INTERFACE: &str = "outbound/loopback-interface";
    /// Destination 127.0.0.1: passes.
    pub const LOOPBACK_V4: &str = "outbound/loopback-v4";
    /// Destination ::1: passes.
    pub const LOOPBACK_V6: &str = "outbound/loopback-v6";
    /// Excluded IPv4 destinations: pass.
    pub const OUTBOUND_EXCLUDE_V4: &str = "outbound/exclude-cidrs-v4";
    /// Excluded IPv6 destinations: pass.
    pub const OUTBOUND_EXCLUDE_V6: &str = "outbound/exclude-cidrs-v6";
    /// Outbound ports captured whatever the address: to the outbound capture port.
    pub const OUTBOUND_INCLUDE_PORTS: &str = "outbound/include-ports";
    /// All other outbound TCP: to the outbound capture port.
    pub const OUTBOUND_CAPTURE: &str = "outbound/capture";
    /// Listed IPv4 destinations: to the outbound capture port.
    pub const OUTBOUND_INCLUDE_V4: &str = "outbound/include-cidrs-v4";
    /// Listed IPv6 destinations: to the outbound capture port.
    pub const OUTBOUND_INCLUDE_V6: &str = "outbound/include-cidrs-v6";
}

/// Version of what Shunt writes into the kernel; a reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// What Shunt writes into the comment of its table, by which every tool recognises what it meets:
/// `shunt schema=1 policy=0123456789abcdef`.
///
/// It is a comment (`NFTNL_UDATA_TABLE_COMMENT`) and nothing else, because every `nft` shows one
/// and none chokes on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMark {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// Hash of the rules as they were written; `None` only if a newer writer left it out.
    pub policy: Option<u64>,
}

impl TableMark {
    /// Type of a comment in the userdata of tables, chains and rules (`NFTNL_UDATA_*_COMMENT`).
    pub const COMMENT: u8 = 0;

    /// Reads a table's comment. `None`: the table is not Shunt's.
    #[must_use]
    pub fn parse(comment: &str) -> Option<Self> {
        let mut fields = comment.strip_prefix("shunt schema=")?.split(' ');
        let schema = fields.next()?.parse().ok()?;
        let policy = fields.find_map(|field| field.strip_prefix("policy="));
        let policy = policy.and_then(|hash| u64::from_str_radix(hash, 16).ok());
        if policy.is_none() && schema <= SCHEMA_VERSION {
            return None;
        }
        Some(Self { schema, policy })
    }
}

impl core::fmt::Display for TableMark {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "shunt schema={}", self.schema)?;
        self.policy
            .map_or(Ok(()), |policy| write!(f, " policy={policy:016x}"))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{SCHEMA_VERSION, TableMark};
    use std::string::ToString as _;

    #[test]
    fn a_table_mark_reads_back_as_written() {
        let mark = TableMark {
            schema: SCHEMA_VERSION,
            policy: Some(0x00ab),
        };
        assert_eq!(mark.to_string(), "shunt schema=1 policy=00000000000000ab");
        assert_eq!(TableMark::parse(&mark.to_string()), Some(mark));
    }

    #[test]
    fn a_newer_mark_is_recognised_whatever_follows() {
        let mark = TableMark::parse("shunt schema=99 digest=sha256:77");
        assert_eq!(mark.map(|mark| mark.schema), Some(99));
    }

    #[test]
    fn other_comments_are_not_a_mark() {
        for comment in [
            "",
            "shunt",
            "shunt schema=",
            "shunt schema=x policy=1",
            "shunt schema=1",
            "shunt schema=1 policy=xyz",
            "my shunt schema=1 policy=1",
        ] {
            assert_eq!(TableMark::parse(comment), None, "{comment}");
        }
    }
}
