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
    /// The DNS proxy that captured queries go to (Istio's agent).
    pub const DNS_PROXY: u16 = 15053;
    /// DNS servers (RFC 1035).
    pub const DNS: u16 = 53;
    /// Istio's merged metrics and health of the agent.
    pub const STATUS: u16 = 15020;
    /// Readiness, asked by the kubelet.
    pub const READINESS: u16 = 15021;
    /// Istio's port for the proxy's own metrics.
    pub const METRICS: u16 = 15090;
    /// Istio's port for the proof of its rules; nobody listens there.
    pub const PROBE: u16 = 15002;
    /// Captured inbound connections arrive here in a pod of Linkerd's.
    pub const LINKERD_INBOUND: u16 = 4143;
    /// Captured outbound connections arrive here in a pod of Linkerd's.
    pub const LINKERD_OUTBOUND: u16 = 4140;
    /// Through which Linkerd's control plane taps its proxy.
    pub const LINKERD_CONTROL: u16 = 4190;
    /// Admin and metrics of Linkerd's proxy.
    pub const LINKERD_ADMIN: u16 = 4191;
    /// Galera's replication, which Linkerd's chart lets pass: the server speaks first.
    pub const GALERA: u16 = 4567;
    /// Galera's incremental state transfer, likewise.
    pub const GALERA_STATE: u16 = 4568;
}

/// Who the proxy is, as the redirect rules see it.
pub mod identity {
    /// Numeric uid and gid of the sidecar unless told otherwise (Istio's `istio-proxy`).
    pub const PROXY_UID: u32 = 1337;
    /// uid of Linkerd's proxy unless told otherwise (its chart).
    pub const LINKERD_PROXY_UID: u32 = 2102;
}

/// Marks of packets (`SO_MARK`) and connections, and conntrack zones.
pub mod mark {
    /// What TPROXY marks captured packets with, and the proxy its connections to the application
    /// (Istio's `istio-inbound-tproxy-mark`).
    pub const TPROXY: u32 = 1337;
    /// What marks the proxy's calls to its own pod while TPROXY is used (Istio).
    pub const SELF_CALL: u32 = 1338;
    /// Mark of a connection ("ShTP") whose first packet TPROXY captured: its later packets are
    /// looked up as that was. No packet ever has it.
    pub const CAPTURED: u32 = 0x5368_5450;
    /// Conntrack zone of DNS between the proxy and resolvers (Istio).
    pub const DNS_ZONE_PROXY: u16 = 1;
    /// Conntrack zone of DNS between the application and the proxy (Istio).
    pub const DNS_ZONE_APP: u16 = 2;
}

/// How marked packets find the proxy: one policy rule and one local route a family.
pub mod policy_route {
    /// The table of the local default route (Istio's `istio-inbound-tproxy-route-table`).
    pub const TABLE: u32 = 133;
    /// Preference of the policy rule: before the main table (32766) and those that `ip rule add`
    /// numbers by itself (32765 and down).
    pub const PREFERENCE: u32 = 31_337;
    /// Origin ("S") that tells Shunt's rule and route from others (`FRA_PROTOCOL`,
    /// `rtm_protocol`).
    pub const PROTOCOL: u8 = 0x53;
    /// While rules are verified: the table ("ShPr") in which what the probes send finds their
    /// link, and nothing else.
    pub const PROBE_TABLE: u32 = 0x5368_5072;
    /// Preference of the rules that lead there, by source address: after [`PREFERENCE`], as the
    /// main table, and before that.
    pub const PROBE_PREFERENCE: u32 = 31_338;
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

    /// Chains of the iptables backend, in tables that others use too.
    pub mod iptables {
        /// What all of them begin with. A chain of such a name in `raw`, `mangle` or `nat` is
        /// Shunt's, whatever it holds.
        pub const PREFIX: &str = "SHUNT_";
        /// Jumped to from `PREROUTING`.
        pub const PREROUTING: &str = "SHUNT_PREROUTING";
        /// Jumped to from `OUTPUT`.
        pub const OUTPUT: &str = "SHUNT_OUTPUT";
        /// Gives packets a mark, whose number follows, and ends the chain that went to it.
        pub const MARK: &str = "SHUNT_MARK_";
        /// Gives packets their connection's mark, and ends the chain that went to it.
        pub const RESTORE_MARK: &str = "SHUNT_RESTORE_MARK";
        /// Gives connections their packet's mark, and ends the chain that went to it.
        pub const SAVE_MARK: &str = "SHUNT_SAVE_MARK";
        /// Hands packets to the proxy's transparent socket, and marks their connection.
        pub const TPROXY: &str = "SHUNT_TPROXY";
        /// Puts packets into a conntrack zone, whose number follows, and ends the chain that went
        /// to it.
        pub const ZONE: &str = "SHUNT_ZONE_";
        /// What the comment of each rule begins with; its key follows.
        pub const COMMENT: &str = "shunt:";
        /// Key of the rules that jump to Shunt's chains; after it stands
        /// [`SCHEMA_VERSION`](crate::SCHEMA_VERSION).
        pub const JUMP: &str = "jump schema=";
    }
    /// Where probes come in and go out while rules are verified: a link that leads nowhere.
    pub const PROBE_LINK: &str = "shunt-probe";
    /// The far end of [`PROBE_LINK`], where what leaves is seen and what arrives is made.
    pub const PROBE_FAR_END: &str = "shunt-probe-far";
    /// Abstract Unix socket that whoever verifies holds: one at a time in a network namespace.
    pub const PROBE_LOCK: &str = "shunt-verify";

    /// Chains of [`NFT_TABLE`], named as the hooks they stand on, in a packet's order.
    pub mod chain {
        /// Arriving packets, before conntrack.
        pub const RAW_PREROUTING: &str = "raw_prerouting";
        /// Sent packets, before conntrack.
        pub const RAW_OUTPUT: &str = "raw_output";
        /// Arriving packets, all of them.
        pub const MANGLE_PREROUTING: &str = "mangle_prerouting";
        /// Sent packets, all of them.
        pub const MANGLE_OUTPUT: &str = "mangle_output";
        /// Arriving connections.
        pub const NAT_PREROUTING: &str = "nat_prerouting";
        /// Connections that a process of the pod opens.
        pub const NAT_OUTPUT: &str = "nat_output";
    }

    /// Sets of [`NFT_TABLE`]. One exists only if a rule uses it.
    pub mod set {
        /// Uids of the proxy.
        pub const PROXY_UIDS: &str = "proxy_uids";
        /// Gids of the proxy.
        pub const PROXY_GIDS: &str = "proxy_gids";
        /// Gids whose sockets pass, or, when only some are captured, those that are.
        pub const OWNER_GROUPS: &str = "owner_groups";
        /// The block of IPv4 loopback addresses, where it is more than 127.0.0.1.
        pub const LOOPBACK_V4: &str = "loopback_v4";
        /// IPv4 resolvers whose queries are captured, when not all are.
        pub const DNS_SERVERS_V4: &str = "dns_servers_v4";
        /// IPv6 resolvers whose queries are captured, when not all are.
        pub const DNS_SERVERS_V6: &str = "dns_servers_v6";
        /// IPv4 clients whose connections pass.
        pub const INBOUND_EXCLUDE_V4: &str = "inbound_exclude_v4";
        /// IPv6 clients whose connections pass.
        pub const INBOUND_EXCLUDE_V6: &str = "inbound_exclude_v6";
        /// Blocks of IPv4 clients whose connections pass, where the addresses among them are in a set of their own.
        pub const INBOUND_EXCLUDE_BLOCKS_V4: &str = "inbound_exclude_blocks_v4";
        /// Blocks of IPv6 clients whose connections pass, where the addresses among them are in a set of their own.
        pub const INBOUND_EXCLUDE_BLOCKS_V6: &str = "inbound_exclude_blocks_v6";
        /// Ports to which the proxy's calls to its own pod are not captured.
        pub const SELF_CALL_EXCLUDE_PORTS: &str = "self_call_exclude_ports";
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
        /// Blocks of IPv4 outbound destinations that pass, where the addresses among them are in a set of their own.
        pub const OUTBOUND_EXCLUDE_BLOCKS_V4: &str = "outbound_exclude_blocks_v4";
        /// Blocks of IPv6 outbound destinations that pass, where the addresses among them are in a set of their own.
        pub const OUTBOUND_EXCLUDE_BLOCKS_V6: &str = "outbound_exclude_blocks_v6";
        /// Outbound IPv4 destinations that are captured, when not all are.
        pub const OUTBOUND_INCLUDE_V4: &str = "outbound_include_v4";
        /// Outbound IPv6 destinations that are captured, when not all are.
        pub const OUTBOUND_INCLUDE_V6: &str = "outbound_include_v6";
        /// Blocks of IPv4 outbound destinations that are captured, when not all are, where the addresses among them are in a set of their own.
        pub const OUTBOUND_INCLUDE_BLOCKS_V4: &str = "outbound_include_blocks_v4";
        /// Blocks of IPv6 outbound destinations that are captured, when not all are, where the addresses among them are in a set of their own.
        pub const OUTBOUND_INCLUDE_BLOCKS_V6: &str = "outbound_include_blocks_v6";
    }
}

pub mod rule;

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
