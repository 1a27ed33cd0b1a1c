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

/// Names in the kernel that belong to Shunt.
pub mod name {
    /// The nf_tables table in family `inet`.
    pub const NFT_TABLE: &str = "shunt";
}

/// Version of what Shunt writes into the kernel; a reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;
