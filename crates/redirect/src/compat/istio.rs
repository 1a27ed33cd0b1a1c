//! Istio's way of asking for capture: the flags and environment of `istio-iptables`.
//!
//! Every flag of the original is known. What Shunt does is done, what it does not do yet is
//! refused unless its value means "off"; nothing is ignored in silence. Precedence is the
//! original's: a flag's own variable, then its additional one, then the command line.

use std::fmt;

use clap::builder::{Arg, ArgAction};
use clap::{ArgMatches, Command};

use super::values::{Reason, boolean, cidrs, ids, port, ports};
use crate::capture::{
    CaptureConfig, INBOUND, Inbound, InboundCapture, Ipv6Mode, OUTBOUND, Outbound, OutboundCapture,
    ProxyIdentity, TUNNEL,
};

/// A flag of `istio-iptables`.
#[derive(Debug)]
struct Flag {
    long: &'static str,
    short: Option<char>,
    /// Whether the flag's name in capitals is a variable.
    own_variable: bool,
    additional_variable: Option<&'static str>,
    /// `--flag` alone means true.
    switch: bool,
    /// The values that work, if not all do, and what to do instead.
    only: Option<(&'static [&'static str], &'static str)>,
    help: &'static str,
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

const NOT_YET: &str = "Shunt does not do this yet";
const IPTABLES_ONLY: &str = "Shunt writes nf_tables and needs no iptables program";
const ONLY_TPROXY: &str = "it has a meaning only with TPROXY, which Shunt does not do yet";
const NO_VALIDATION: &str = "Shunt reads its rules back after writing; it has no probe yet";
const OFF: &[&str] = &["false"];
const UNSET: &[&str] = &[""];

const ENVOY_PORT: &str = "envoy-port";
const INBOUND_CAPTURE_PORT: &str = "inbound-capture-port";
const INBOUND_TUNNEL_PORT: &str = "inbound-tunnel-port";
const PROXY_UID: &str = "proxy-uid";
const PROXY_GID: &str = "proxy-gid";
const MODE: &str = "istio-inbound-interception-mode";
const INBOUND_PORTS: &str = "istio-inbound-ports";
const LOCAL_EXCLUDE_PORTS: &str = "istio-local-exclude-ports";
const SERVICE_CIDR: &str = "istio-service-cidr";
const SERVICE_EXCLUDE_CIDR: &str = "istio-service-exclude-cidr";
const OUTBOUND_PORTS: &str = "istio-outbound-ports";
const OUTBOUND_PORTS_EXCLUDE: &str = "istio-local-outbound-ports-exclude";
const DUAL_STACK: &str = "dual-stack";
const DRY_RUN: &str = "dry-run";
const CLEANUP_ONLY: &str = "cleanup-only";
const IPV6: &str = "ipv6";

/// All flags, in the order of `--help`.
static FLAGS: &[Flag] = &[
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
        "How inbound connections are captured: REDIRECT",
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
        "log_as_json",
        None,
        "Print messages as JSON, one object a line",
    )
    .without_variable()
    .switch()
    .only(OFF, "Shunt prints text"),
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
        .only(OFF, NO_VALIDATION),
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
static VARIABLES: &[(&str, &[&str], &str)] = &[
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

/// The arguments as given, nothing looked at yet. A part of any clap command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IstioArgs(Vec<(&'static str, String)>);

impl clap::Args for IstioArgs {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| {
            let mut arg = Arg::new(flag.long)
                .long(flag.long)
                .short(flag.short)
                .action(ArgAction::Set)
                .help(flag.help)
                .value_name("VALUE");
            if flag.switch {
                arg = arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("BOOL");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for IstioArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|flag| {
            let value = matches.get_one::<String>(flag.long)?;
            Some((flag.long, value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The policy.
    pub config: CaptureConfig,
    /// What to do with it.
    pub action: Action,
}

/// What to do with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the rules.
    Apply,
    /// Print the rules.
    Print,
    /// Remove whatever rules there are.
    Remove,
}

/// An argument that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} {reason}")]
pub struct ArgumentError {
    /// Where the value came from, with the value.
    origin: String,
    /// What is wrong, and the remedy.
    reason: Reason,
}

impl ArgumentError {
    /// Whether the argument is right in Istio, but not done by Shunt yet.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.reason, Reason::Unsupported { .. })
    }
}

impl IstioArgs {
    /// Reads the arguments, and where none is given the environment.
    ///
    /// # Errors
    /// The first value that is wrong or not supported, by name and with a remedy.
    pub fn parse(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Request, ArgumentError> {
        let values = self.resolve(&environment)?;
        let uids = values
            .list(PROXY_UID, ids)?
            .unwrap_or_else(|| CaptureConfig::default().proxy.uids);
        let gids = values.list(PROXY_GID, ids)?.unwrap_or_else(|| uids.clone());
        let config = CaptureConfig {
            proxy: ProxyIdentity { uids, gids },
            inbound: values.inbound()?,
            outbound: values.outbound()?,
            ipv6: values.ipv6()?,
        };
        if config.inbound.port == config.outbound.port {
            let error = Reason::SamePort {
                flag: "--envoy-port",
            };
            return Err(values.error(INBOUND_CAPTURE_PORT, error));
        }
        let action = match (values.switch(CLEANUP_ONLY)?, values.switch(DRY_RUN)?) {
            (true, true) => return Err(values.error(CLEANUP_ONLY, Reason::NotWithDryRun)),
            (true, false) => Action::Remove,
            (false, true) => Action::Print,
            (false, false) => Action::Apply,
        };
        Ok(Request { config, action })
    }

    /// Settles where each value comes from, and refuses what is not supported.
    fn resolve(
        &self,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<Values<'_>, ArgumentError> {
        for (name, neutral, instead) in VARIABLES {
            let value = environment(name).filter(|value| !value.is_empty());
            if let Some(value) = value.filter(|value| !neutral.contains(&value.as_str())) {
                return Err(ArgumentError {
                    origin: format!("{name}={value}"),
                    reason: Reason::Unsupported {
                        values: neutral,
                        instead,
                    },
                });
            }
        }
        let variable = |name: &str| {
            // As in the original, an empty variable is none.
            let value = environment(name).filter(|value| !value.is_empty())?;
            Some((Origin::Variable(name.to_owned()), value))
        };
        let mut values = Vec::new();
        for flag in FLAGS {
            let given = self.0.iter().find(|(long, _)| *long == flag.long);
            let own = flag
                .own_variable
                .then(|| flag.long.to_uppercase().replace('-', "_"));
            let found = given
                .map(|(_, value)| (Origin::Flag(flag), value.clone()))
                .or_else(|| flag.additional_variable.and_then(variable))
                .or_else(|| own.and_then(|own| variable(&own)));
            let Some((origin, text)) = found else {
                continue;
            };
            let value = Value {
                flag: flag.long,
                origin,
                text,
            };
            if let Some((allowed, instead)) = flag.only {
                let off = flag.switch && !value.read(boolean)?;
                if !off && !allowed.contains(&value.text.as_str()) {
                    return Err(value.error(Reason::Unsupported {
                        values: allowed,
                        instead,
                    }));
                }
            }
            values.push(value);
        }
        Ok(Values(values))
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Origin<'a> {
    Flag(&'a Flag),
    Variable(String),
}

/// A flag's value, not read yet.
#[derive(Debug)]
struct Value<'a> {
    flag: &'static str,
    origin: Origin<'a>,
    text: String,
}

impl Value<'_> {
    fn read<T>(&self, parse: impl Fn(&str) -> Result<T, Reason>) -> Result<T, ArgumentError> {
        parse(&self.text).map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: Reason) -> ArgumentError {
        ArgumentError {
            origin: self.to_string(),
            reason,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag(Flag {
                long,
                short: Some(short),
                ..
            }) => write!(f, "-{short} '{}' (--{long})", self.text),
            Origin::Flag(flag) => write!(f, "--{}={}", flag.long, self.text),
            Origin::Variable(name) => write!(f, "{name}={}", self.text),
        }
    }
}

/// All values that were given.
struct Values<'a>(Vec<Value<'a>>);

impl Values<'_> {
    fn get(&self, flag: &str) -> Option<&Value<'_>> {
        self.0.iter().find(|value| value.flag == flag)
    }

    /// A value that may be a list; `None` if not given or empty.
    fn list<T>(
        &self,
        flag: &str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Result<Option<T>, ArgumentError> {
        self.get(flag)
            .filter(|value| !value.text.is_empty())
            .map(|value| value.read(parse))
            .transpose()
    }

    fn switch(&self, flag: &str) -> Result<bool, ArgumentError> {
        let value = self.get(flag).map(|value| value.read(boolean));
        Ok(value.transpose()?.unwrap_or(false))
    }

    fn error(&self, flag: &str, reason: Reason) -> ArgumentError {
        match self.get(flag) {
            Some(value) => value.error(reason),
            None => ArgumentError {
                origin: format!("--{flag} by default"),
                reason,
            },
        }
    }

    fn inbound(&self) -> Result<Inbound, ArgumentError> {
        if let Some(mode) = self.get(MODE) {
            mode.read(interception_mode)?;
        }
        let except = self.list(LOCAL_EXCLUDE_PORTS, ports)?.unwrap_or_default();
        let capture = match self.get(INBOUND_PORTS) {
            Some(value) if value.text == "*" => InboundCapture::All { except },
            _ => self
                .list(INBOUND_PORTS, ports)?
                .map_or(InboundCapture::Nothing, InboundCapture::Only),
        };
        Ok(Inbound {
            port: self.list(INBOUND_CAPTURE_PORT, port)?.unwrap_or(INBOUND),
            tunnel: self.list(INBOUND_TUNNEL_PORT, port)?.unwrap_or(TUNNEL),
            capture,
        })
    }

    fn outbound(&self) -> Result<Outbound, ArgumentError> {
        let capture = match self.get(SERVICE_CIDR) {
            Some(value) if value.text == "*" => OutboundCapture::All,
            _ => OutboundCapture::Only(self.list(SERVICE_CIDR, cidrs)?.unwrap_or_default()),
        };
        Ok(Outbound {
            port: self.list(ENVOY_PORT, port)?.unwrap_or(OUTBOUND),
            capture,
            exclude_cidrs: self.list(SERVICE_EXCLUDE_CIDR, cidrs)?.unwrap_or_default(),
            include_ports: self.list(OUTBOUND_PORTS, ports)?.unwrap_or_default(),
            exclude_ports: self
                .list(OUTBOUND_PORTS_EXCLUDE, ports)?
                .unwrap_or_default(),
        })
    }

    fn ipv6(&self) -> Result<Ipv6Mode, ArgumentError> {
        let mode = match self.get(IPV6) {
            Some(value) => value.read(ipv6_mode)?,
            None => Ipv6Mode::default(),
        };
        // Istio's "dual stack" is what auto does.
        match (mode, self.switch(DUAL_STACK)?) {
            (Ipv6Mode::Istio, true) => Ok(Ipv6Mode::Auto),
            _ => Ok(mode),
        }
    }
}

fn interception_mode(text: &str) -> Result<(), Reason> {
    match text {
        "" | "REDIRECT" => Ok(()),
        "TPROXY" => Err(Reason::Unsupported {
            values: &["REDIRECT"],
            instead: NOT_YET,
        }),
        _ => Err(Reason::NotOneOf(&["REDIRECT"])),
    }
}

fn ipv6_mode(text: &str) -> Result<Ipv6Mode, Reason> {
    match text {
        "auto" => Ok(Ipv6Mode::Auto),
        "istio" => Ok(Ipv6Mode::Istio),
        "off" => Ok(Ipv6Mode::Off),
        _ => Err(Reason::NotOneOf(&["auto", "istio", "off"])),
    }
}

#[cfg(test)]
mod tests;
