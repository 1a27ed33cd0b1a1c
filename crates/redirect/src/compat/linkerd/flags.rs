//! The flags of Linkerd's `proxy-init`: names and meaning.

use crate::compat::arguments::{BACKEND, Flag, LOG_AS_JSON, LOG_FORMAT};

pub(super) const INCOMING_PORT: &str = "incoming-proxy-port";
pub(super) const OUTGOING_PORT: &str = "outgoing-proxy-port";
pub(super) const PROXY_UID: &str = "proxy-uid";
pub(super) const PROXY_GID: &str = "proxy-gid";
pub(super) const PORTS_TO_REDIRECT: &str = "ports-to-redirect";
pub(super) const IN_PORTS_TO_IGNORE: &str = "inbound-ports-to-ignore";
pub(super) const OUT_PORTS_TO_IGNORE: &str = "outbound-ports-to-ignore";
pub(super) const SUBNETS_TO_IGNORE: &str = "subnets-to-ignore";
pub(super) const SIMULATE: &str = "simulate";
pub(super) const NETNS: &str = "netns";
pub(super) const USE_WAIT_FLAG: &str = "use-wait-flag";
pub(super) const CLOSE_WAIT: &str = "timeout-close-wait-secs";
pub(super) const IPTABLES_MODE: &str = "iptables-mode";
pub(super) const BIN_PATH: &str = "firewall-bin-path";
pub(super) const LOG_LEVEL: &str = "log-level";
pub(super) const IPV6: &str = "ipv6";

/// All flags, in the order of `--help`.
pub(super) static FLAGS: &[Flag] = &[
    Flag::new(
        INCOMING_PORT,
        Some('p'),
        "Port that captured inbound connections go to (required)",
    )
    .without_variable(),
    Flag::new(
        OUTGOING_PORT,
        Some('o'),
        "Port that captured outbound connections go to (required)",
    )
    .without_variable(),
    Flag::new(
        PROXY_UID,
        Some('u'),
        "Numeric user id of the proxy; 0 or less: none. It or the group id is required",
    )
    .without_variable(),
    Flag::new(
        PROXY_GID,
        Some('g'),
        "Numeric group id of the proxy; 0 or less: none",
    )
    .without_variable(),
    Flag::new(
        PORTS_TO_REDIRECT,
        Some('r'),
        "Inbound ports to capture, and no others [all]",
    )
    .without_variable()
    .repeats(),
    Flag::new(
        IN_PORTS_TO_IGNORE,
        None,
        "Inbound ports and ranges (8000-8010) that pass",
    )
    .without_variable()
    .repeats(),
    Flag::new(
        OUT_PORTS_TO_IGNORE,
        None,
        "Outbound ports and ranges (8000-8010) that pass, TCP and UDP",
    )
    .without_variable()
    .repeats(),
    Flag::new(
        SUBNETS_TO_IGNORE,
        None,
        "Clients whose connections pass, as CIDR blocks, IPv4 and IPv6",
    )
    .without_variable()
    .repeats(),
    Flag::new(
        IPV6,
        None,
        "Capture IPv6 where the pod has an address of it [true]",
    )
    .without_variable()
    .switch(),
    Flag::new(SIMULATE, None, "Print the rules, change nothing")
        .without_variable()
        .switch(),
    Flag::new(
        NETNS,
        None,
        "Do it in this network namespace, a file like /proc/1234/ns/net (needs CAP_SYS_ADMIN)",
    )
    .without_variable(),
    Flag::new(
        CLOSE_WAIT,
        None,
        "Set net.netfilter.nf_conntrack_tcp_timeout_close_wait (needs a writable /proc/sys); 0: \
         leave it [0]",
    )
    .without_variable(),
    Flag::new(
        IPTABLES_MODE,
        None,
        "What writes the rules: nft (nf_tables, without a program), legacy (iptables-legacy), or \
         plain (nf_tables, else iptables) [plain]",
    )
    .without_variable(),
    Flag::new(
        BIN_PATH,
        None,
        "The older form: iptables-nft, iptables-legacy, or another program, which means plain",
    )
    .without_variable(),
    Flag::new(
        "firewall-save-bin-path",
        None,
        "Which program the original reads rules with; Shunt knows it by the other flag",
    )
    .without_variable(),
    Flag::new(
        USE_WAIT_FLAG,
        Some('w'),
        "Wait for the lock of iptables; Shunt always does where it needs it",
    )
    .without_variable()
    .switch(),
    Flag::new(
        BACKEND,
        None,
        "What writes the rules: auto, nft, iptables, iptables-nft, iptables-legacy [auto]",
    )
    .without_variable(),
    Flag::new(
        LOG_LEVEL,
        None,
        "Linkerd's log level; Shunt prints a few lines at any level",
    )
    .without_variable(),
    Flag::new(
        LOG_FORMAT,
        None,
        "How messages are printed: plain or json [plain]",
    )
    .without_variable(),
    Flag::new(
        LOG_AS_JSON,
        None,
        "Print messages as JSON, one object a line",
    )
    .without_variable()
    .switch(),
];
