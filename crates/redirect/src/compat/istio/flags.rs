//! The flags and variables of `istio-iptables`: names, meaning, and what Shunt does not follow.

/// A flag of `istio-iptables`.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    /// Whether the flag's name in capitals is a variable.
    pub(super) own_variable: bool,
    pub(super) additional_variable: Option<&'static str>,
    /// `--flag` alone means true.
    pub(super) switch: bool,
    /// The values that work, if not all do, and what to do instead.
    pub(super) only: Option<(&'static [&'static str], &'static str)>,
    pub(super) help: &'static str,
}

impl Flag {
    const fn new(long: &'static str, short: Option<char>, help: &'static str) -> Self {
        Self {
            long,
            short,
            own_variable: true,
            additional_variable: None,
            switch: false,
            only: None,
            help,
        }
    }

    const fn without_variable(mut self) -> Self {
        self.own_variable = false;
        self
    }

    const fn or_variable(mut self, name: &'static str) -> Self {
        self.additional_variable = Some(name);
        self
    }

    const fn switch(mut self) -> Self {
        self.switch = true;
        self
    }

    const fn only(mut self, values: &'static [&'static str], instead: &'static str) -> Self {
        self.only = Some((values, instead));
        self
    }
}

pub(super) const NOT_YET: &str = "Shunt does not do this yet";
const IPTABLES_ONLY: &str = "Shunt writes nf_tables and needs no iptables program";
const ONLY_TPROXY: &str = "it has a meaning only with TPROXY, which Shunt does not do yet";
const NO_VALIDATION: &str = "Shunt reads its rules back after writing; it has no probe yet";
const ALWAYS_APPLIES: &str = "it leaves the rules to a CNI plugin and only validates them, which \
                              Shunt does not do yet; --dry-run prints rules and writes none";
const OFF: &[&str] = &["false"];
const UNSET: &[&str] = &[""];

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
pub(super) const LOG_AS_JSON: &str = "log_as_json";
pub(super) const IPV6: &str = "ipv6";

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
        "Numeric user ids of the proxy, comma separated [1337]",
    )
    .or_variable("ENVOY_USER"),
    Flag::new(
        PROXY_GID,
        Some('g'),
        "Numeric group ids of the proxy [as the user ids]",
    ),
    Flag::new(
        MODE,
        Some('m'),
        "How inbound connections are captured: REDIRECT (TPROXY is not supported yet)",
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
        "Capture IPv6: auto (if the pod has an address), istio (as Istio decides), off [auto]",
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
    Flag::new(
        "reconcile",
        None,
        "Heal rules that differ; Shunt always does",
    )
    .switch(),
    Flag::new("native-nftables", None, "Use nf_tables; Shunt always does").switch(),
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
    Flag::new(
        "istio-exclude-interfaces",
        Some('c'),
        "Interfaces whose packets pass",
    )
    .only(UNSET, NOT_YET),
    Flag::new(
        "kube-virt-interfaces",
        Some('k'),
        "Interfaces whose packets count as outbound",
    )
    .only(UNSET, NOT_YET),
    Flag::new("istio-inbound-tproxy-mark", Some('t'), "Mark of TPROXY")
        .only(&["", "1337"], ONLY_TPROXY),
    Flag::new(
        "istio-inbound-tproxy-route-table",
        Some('r'),
        "Route table of TPROXY",
    )
    .only(&["", "133"], ONLY_TPROXY),
    Flag::new("redirect-dns", None, "Capture DNS")
        .or_variable("ISTIO_META_DNS_CAPTURE")
        .switch()
        .only(OFF, NOT_YET),
    Flag::new("capture-all-dns", None, "Capture DNS to any server")
        .switch()
        .only(OFF, NOT_YET),
    Flag::new("drop-invalid", None, "Drop packets of no known connection")
        .or_variable("INVALID_DROP")
        .switch()
        .only(OFF, NOT_YET),
    Flag::new("skip-rule-apply", None, "Write no rules")
        .switch()
        .only(OFF, ALWAYS_APPLIES),
    Flag::new("run-validation", None, "Probe the rules")
        .switch()
        .only(OFF, NO_VALIDATION),
    Flag::new("iptables-probe-port", None, "Port of that probe")
        .only(&["", "15002"], NO_VALIDATION),
    Flag::new("probe-timeout", None, "Time limit of that probe").only(&["", "5s"], NO_VALIDATION),
    Flag::new("network-namespace", None, "Network namespace to write to")
        .only(UNSET, "run Shunt inside that namespace (`nsenter --net=…`)"),
    Flag::new("cni-mode", None, "Run from a CNI plugin")
        .switch()
        .only(OFF, NOT_YET),
    Flag::new(
        "force-apply",
        None,
        "Write rules even if they are there already",
    )
    .switch()
    .only(
        OFF,
        "rules that differ are always rewritten, others never need to be",
    ),
    Flag::new(
        "force-iptables-binary",
        None,
        "Which iptables program to use",
    )
    .only(UNSET, IPTABLES_ONLY),
];

/// Variables of the original that are no flags, and the values under which they change nothing.
pub(super) static VARIABLES: &[(&str, &[&str], &str)] = &[
    (
        "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        &["127.0.0.1/32"],
        NOT_YET,
    ),
    ("ISTIO_OUTBOUND_OWNER_GROUPS", &["*"], NOT_YET),
    ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", &[], NOT_YET),
    (
        "DRY_RUN_FILE_PATH",
        &[],
        "--dry-run prints to standard output",
    ),
];
