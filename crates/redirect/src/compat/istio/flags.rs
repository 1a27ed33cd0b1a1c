//! The flags and variables of `istio-iptables`: names and meaning.

use crate::compat::arguments::{BACKEND, Flag, LOG_AS_JSON};

pub(super) const ENVOY_PORT: &str = "envoy-port";
pub(super) const INBOUND_CAPTURE_PORT: &str = "inbound-capture-port";
pub(super) const INBOUND_TUNNEL_PORT: &str = "inbound-tunnel-port";
pub(super) const PROXY_UID: &str = "proxy-uid";
pub(super) const PROXY_GID: &str = "proxy-gid";
pub(super) const MODE: &str = "istio-inbound-interception-mode";
pub(super) const INBOUND_PORTS: &str = "istio-inbound-ports";
pub(super) const LOCAL_EXCLUDE_PORTS: &str = "istio-local-exclude-ports";
pub(super) const SERVICE_CIDR: &str = "istio-service-cidr";
pub(super) const SERVICE_EXCLUDE_CIDR: &str = "istio-service-exclude-cidr";
pub(super) const OUTBOUND_PORTS: &str = "istio-outbound-ports";
pub(super) const OUTBOUND_PORTS_EXCLUDE: &str = "istio-local-outbound-ports-exclude";
pub(super) const DUAL_STACK: &str = "dual-stack";
pub(super) const DRY_RUN: &str = "dry-run";
pub(super) const CLEANUP_ONLY: &str = "cleanup-only";
pub(super) const IPV6: &str = "ipv6";
pub(super) const EXCLUDE_INTERFACES: &str = "istio-exclude-interfaces";
pub(super) const REROUTE_INTERFACES: &str = "kube-virt-interfaces";
pub(super) const TPROXY_MARK: &str = "istio-inbound-tproxy-mark";
pub(super) const TPROXY_TABLE: &str = "istio-inbound-tproxy-route-table";
pub(super) const REDIRECT_DNS: &str = "redirect-dns";
pub(super) const CAPTURE_ALL_DNS: &str = "capture-all-dns";
pub(super) const DROP_INVALID: &str = "drop-invalid";
pub(super) const SKIP_RULE_APPLY: &str = "skip-rule-apply";
pub(super) const RUN_VALIDATION: &str = "run-validation";
pub(super) const PROBE_PORT: &str = "iptables-probe-port";
pub(super) const PROBE_TIMEOUT: &str = "probe-timeout";
pub(super) const NETWORK_NAMESPACE: &str = "network-namespace";
pub(super) const CNI_MODE: &str = "cni-mode";
pub(super) const RECONCILE: &str = "reconcile";
pub(super) const FORCE_APPLY: &str = "force-apply";
pub(super) const NATIVE_NFTABLES: &str = "native-nftables";
pub(super) const FORCE_IPTABLES_BINARY: &str = "force-iptables-binary";

/// The user whose id is the proxy's, if no id is given.
pub(super) const ENVOY_USER: &str = "ENVOY_USER";
/// The IPv4 addresses that count as loopback.
pub(super) const LOOPBACK_CIDR: &str = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR";
/// Whose connections are captured.
pub(super) const OWNER_GROUPS: &str = "ISTIO_OUTBOUND_OWNER_GROUPS";
/// Whose connections pass.
pub(super) const OWNER_GROUPS_EXCLUDE: &str = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE";
/// Where a dry run writes the rules as well.
pub(super) const DRY_RUN_FILE: &str = "DRY_RUN_FILE_PATH";

/// Variables of the original that are no flags.
pub(super) const VARIABLES: &[&str] = &[
    ENVOY_USER,
    LOOPBACK_CIDR,
    OWNER_GROUPS,
    OWNER_GROUPS_EXCLUDE,
    DRY_RUN_FILE,
];

/// All flags, in the order of `--help`.
pub(super) static FLAGS: &[Flag] = &[
    Flag::new(
        ENVOY_PORT,
        Some('p'),
        "Port that captured outbound connections go to [15001]",
    )
    .without_variable(),
    Flag::new(
        INBOUND_CAPTURE_PORT,
        Some('z'),
        "Port that captured inbound connections go to [15006]",
    ),
    Flag::new(
        INBOUND_TUNNEL_PORT,
        Some('e'),
        "Port of the tunnel, never captured [15008]",
    ),
    Flag::new(
        PROXY_UID,
        Some('u'),
        "Numeric user ids of the proxy, comma separated [that of the user $ENVOY_USER or istio-proxy, else 1337]",
    ),
    Flag::new(
        PROXY_GID,
        Some('g'),
        "Numeric group ids of the proxy [as the user ids]",
    ),
    Flag::new(
        MODE,
        Some('m'),
        "How inbound connections are captured: REDIRECT or TPROXY [REDIRECT]",
    ),
    Flag::new(
        INBOUND_PORTS,
        Some('b'),
        "Inbound ports to capture: * for all, a list, or '' for none",
    ),
    Flag::new(
        LOCAL_EXCLUDE_PORTS,
        Some('d'),
        "Inbound ports that pass, when all others are captured",
    ),
    Flag::new(
        SERVICE_CIDR,
        Some('i'),
        "Outbound destinations to capture: * for all, or CIDR blocks",
    ),
    Flag::new(
        SERVICE_EXCLUDE_CIDR,
        Some('x'),
        "Outbound destinations that pass, as CIDR blocks",
    ),
    Flag::new(
        OUTBOUND_PORTS,
        Some('q'),
        "Outbound ports to capture whatever the destination",
    ),
    Flag::new(
        OUTBOUND_PORTS_EXCLUDE,
        Some('o'),
        "Outbound ports that pass, TCP and UDP",
    ),
    Flag::new(
        IPV6,
        None,
        "Capture IPv6: auto (if the pod has an address), istio (as Istio decides), always, \
         never [auto]",
    )
    .without_variable(),
    Flag::new(
        DUAL_STACK,
        None,
        "With --ipv6 istio: look at all addresses, not only the first",
    )
    .or_variable("ISTIO_DUAL_STACK")
    .switch(),
    Flag::new(DRY_RUN, Some('n'), "Print the rules, change nothing").switch(),
    Flag::new(CLEANUP_ONLY, None, "Remove the rules, write none").switch(),
    Flag::new(RECONCILE, None, "Heal rules that differ; Shunt always does").switch(),
    Flag::new(
        FORCE_APPLY,
        None,
        "Write rules even if they are there; Shunt needs no force, what differs is rewritten",
    )
    .switch(),
    Flag::new(
        EXCLUDE_INTERFACES,
        Some('c'),
        "Interfaces whose packets pass, both ways",
    ),
    Flag::new(
        REROUTE_INTERFACES,
        Some('k'),
        "Interfaces of virtual machines: what arrives by them counts as outbound",
    ),
    Flag::new(
        TPROXY_MARK,
        Some('t'),
        "With -m TPROXY: mark of captured packets [1337]",
    ),
    Flag::new(
        TPROXY_TABLE,
        Some('r'),
        "With -m TPROXY: route table of marked packets [133]",
    ),
    Flag::new(
        REDIRECT_DNS,
        None,
        "Capture DNS queries to the servers in /etc/resolv.conf, UDP and TCP",
    )
    .or_variable("ISTIO_META_DNS_CAPTURE")
    .switch(),
    Flag::new(
        CAPTURE_ALL_DNS,
        None,
        "With --redirect-dns: capture DNS queries to any server",
    )
    .switch(),
    Flag::new(
        DROP_INVALID,
        None,
        "Drop arriving packets of no known connection",
    )
    .or_variable("INVALID_DROP")
    .switch(),
    Flag::new(
        SKIP_RULE_APPLY,
        None,
        "Write no rules (Istio's CNI plugin did), only validate",
    )
    .switch(),
    Flag::new(
        RUN_VALIDATION,
        None,
        "Prove the rules by a connection of the proxy to itself",
    )
    .switch(),
    Flag::new(
        PROBE_PORT,
        None,
        "Port that this connection is opened to [15002]",
    ),
    Flag::new(
        PROBE_TIMEOUT,
        None,
        "How long it may take, like 5s or 1m30s [5s]",
    ),
    Flag::new(
        NETWORK_NAMESPACE,
        None,
        "Do it in this network namespace, a file like /proc/1234/ns/net (needs CAP_SYS_ADMIN)",
    ),
    Flag::new(
        CNI_MODE,
        None,
        "Run from a CNI plugin, with the node's files; Shunt needs no other locks for that",
    )
    .switch(),
    Flag::new(NATIVE_NFTABLES, None, "Use nf_tables, the default").switch(),
    Flag::new(
        FORCE_IPTABLES_BINARY,
        None,
        "Use an iptables program: legacy or nft",
    ),
    Flag::new(
        BACKEND,
        None,
        "What writes the rules: auto, nft, iptables, iptables-nft, iptables-legacy [auto]",
    )
    .without_variable(),
    Flag::new(
        "log_output_level",
        None,
        "Istio's log scopes; Shunt prints a few lines at any level",
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
