//! Istio's way of asking for capture: the flags and environment of `istio-iptables`.
//!
//! Every flag and variable of the original is followed. Those by which it is told how to write its
//! rules (`--reconcile`, `--force-apply`, `--cni-mode`) change nothing here, because what they ask
//! for always holds. Precedence is the original's: a flag's own variable, then its additional one,
//! then the command line.

mod flags;
mod owners;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use shunt_abi::port as port_of;

use self::flags::{
    CAPTURE_ALL_DNS, CLEANUP_ONLY, CNI_MODE, DROP_INVALID, DRY_RUN, DRY_RUN_FILE, DUAL_STACK,
    ENVOY_PORT, EXCLUDE_INTERFACES, FLAGS, FORCE_APPLY, FORCE_IPTABLES_BINARY,
    INBOUND_CAPTURE_PORT, INBOUND_PORTS, INBOUND_TUNNEL_PORT, IPV6, LOCAL_EXCLUDE_PORTS,
    LOOPBACK_CIDR, MODE, NATIVE_NFTABLES, NETWORK_NAMESPACE, OUTBOUND_PORTS,
    OUTBOUND_PORTS_EXCLUDE, PROBE_PORT, PROBE_TIMEOUT, RECONCILE, REDIRECT_DNS, REROUTE_INTERFACES,
    RUN_VALIDATION, SERVICE_CIDR, SERVICE_EXCLUDE_CIDR, SKIP_RULE_APPLY, TPROXY_MARK, TPROXY_TABLE,
    VARIABLES,
};
use super::accounts::Accounts;
use super::arguments::{ArgumentError, BACKEND, Given, LOG_AS_JSON, Values, augment};
use super::duration::go_duration;
use super::request::{Action, Request, Validation};
use super::values::{Reason, cidrs, interfaces, ipv6_mode, loopback, mark, port, ports, table};
use crate::backend::BackendChoice;
use crate::capture::{
    self, CaptureConfig, DNS_PROXY, Dns, DnsServers, INBOUND, Inbound, InboundCapture, InboundMode,
    Interfaces, Ipv6Mode, LOOPBACK_V4, OUTBOUND, Outbound, OutboundCapture, Port, Ports, TUNNEL,
};
use crate::field::{Field, Vocabulary};
use crate::validate::Invalid;

/// The arguments as given, nothing looked at yet. A part of any clap command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IstioArgs(Given);

impl clap::Args for IstioArgs {
    fn augment_args(command: Command) -> Command {
        augment(command, FLAGS)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for IstioArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::of(matches, FLAGS)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl IstioArgs {
    /// Reads the arguments, and where none is given the environment; names of users and groups are
    /// those of `accounts`.
    ///
    /// # Errors
    /// The first value that is wrong, by name and with a remedy.
    pub fn parse(
        &self,
        environment: impl Fn(&str) -> Option<OsString>,
        accounts: &Accounts,
    ) -> Result<Request, ArgumentError> {
        let values = self.0.resolve(FLAGS, VARIABLES, &environment)?;
        let config = CaptureConfig {
            proxy: values.proxy(accounts)?,
            inbound: values.inbound()?,
            outbound: Outbound {
                owners: values.owner_groups(accounts)?,
                ..values.outbound()?
            },
            dns: values.dns()?,
            interfaces: Interfaces {
                exclude: values
                    .read(EXCLUDE_INTERFACES, interfaces)?
                    .unwrap_or_default(),
                reroute: values
                    .read(REROUTE_INTERFACES, interfaces)?
                    .unwrap_or_default(),
            },
            loopback_v4: values.read(LOOPBACK_CIDR, loopback)?.unwrap_or(LOOPBACK_V4),
            drop_invalid: values.switch(DROP_INVALID)?,
            ipv6: values.ipv6()?,
        };
        if let Err(invalid) = config.validate() {
            return Err(values.invalid(invalid));
        }
        // What these ask for always holds, or is whoever's who writes the messages. A value that is
        // no value is wrong all the same.
        for switch in [LOG_AS_JSON, RECONCILE, FORCE_APPLY] {
            values.switch(switch)?;
        }
        let action = values.action()?;
        Ok(Request {
            validation: values.validation(&action)?,
            backend: values.backend(&action)?,
            network_namespace: values
                .filled(NETWORK_NAMESPACE)
                .map(|value| PathBuf::from(&value.text)),
            notes: values.notes(&config)?,
            ..Request::new(config, action, Vocabulary::Istio)
        })
    }
}

impl Values {
    fn inbound(&self) -> Result<Inbound, ArgumentError> {
        let exclude = self.read(LOCAL_EXCLUDE_PORTS, port_list)?;
        let (capture, exclude_ports) = match self.get(INBOUND_PORTS) {
            Some(value) if value.text == "*" => (InboundCapture::All, exclude.unwrap_or_default()),
            _ => (
                self.read(INBOUND_PORTS, port_list)?
                    .map_or(InboundCapture::Nothing, InboundCapture::Only),
                Ports::default(),
            ),
        };
        let mark = self.read(TPROXY_MARK, mark)?;
        let table = self.read(TPROXY_TABLE, table)?;
        let mode = match self.read(MODE, interception_mode)? {
            Some(Mode::Tproxy) => InboundMode::Tproxy {
                mark: mark.unwrap_or(capture::TPROXY_MARK),
                table: table.unwrap_or(capture::TPROXY_TABLE),
            },
            Some(Mode::Redirect) | None => InboundMode::Redirect,
        };
        Ok(Inbound {
            port: self.read(INBOUND_CAPTURE_PORT, port)?.unwrap_or(INBOUND),
            tunnel: Some(self.read(INBOUND_TUNNEL_PORT, port)?.unwrap_or(TUNNEL)),
            mode,
            capture,
            exclude_ports,
            exclude_sources: Vec::new(),
        })
    }

    fn outbound(&self) -> Result<Outbound, ArgumentError> {
        let capture = match self.get(SERVICE_CIDR) {
            Some(value) if value.text == "*" => OutboundCapture::All,
            _ => OutboundCapture::Only(self.read(SERVICE_CIDR, cidrs)?.unwrap_or_default()),
        };
        Ok(Outbound {
            port: self.read(ENVOY_PORT, port)?.unwrap_or(OUTBOUND),
            capture,
            exclude_cidrs: self.read(SERVICE_EXCLUDE_CIDR, cidrs)?.unwrap_or_default(),
            include_ports: self.read(OUTBOUND_PORTS, port_list)?.unwrap_or_default(),
            exclude_ports: self
                .read(OUTBOUND_PORTS_EXCLUDE, port_list)?
                .unwrap_or_default(),
            owners: capture::OwnerGroups::default(),
        })
    }

    fn dns(&self) -> Result<Option<Dns>, ArgumentError> {
        let servers = if self.switch(CAPTURE_ALL_DNS)? {
            DnsServers::All
        } else {
            DnsServers::ResolvConf
        };
        let port = DNS_PROXY;
        Ok(self.switch(REDIRECT_DNS)?.then_some(Dns { port, servers }))
    }

    fn ipv6(&self) -> Result<Ipv6Mode, ArgumentError> {
        let mode = self.read(IPV6, ipv6_mode)?.unwrap_or_default();
        // Istio's "dual stack" is what auto does.
        match (mode, self.switch(DUAL_STACK)?) {
            (Ipv6Mode::Istio, true) => Ok(Ipv6Mode::Auto),
            _ => Ok(mode),
        }
    }

    fn action(&self) -> Result<Action, ArgumentError> {
        let print = self.switch(DRY_RUN)?;
        let remove = self.switch(CLEANUP_ONLY)?;
        let leave = self.switch(SKIP_RULE_APPLY)?;
        match (print, remove, leave) {
            (true, true, _) => Err(self.error(CLEANUP_ONLY, Reason::NotWith("--dry-run"))),
            (true, _, true) => Err(self.error(SKIP_RULE_APPLY, Reason::NotWith("--dry-run"))),
            (_, true, true) => Err(self.error(SKIP_RULE_APPLY, Reason::NotWith("--cleanup-only"))),
            (true, false, false) => Ok(Action::Print {
                file: self
                    .filled(DRY_RUN_FILE)
                    .map(|value| PathBuf::from(&value.text)),
            }),
            (false, true, false) => Ok(Action::Remove),
            (false, false, true) => Ok(Action::Leave),
            (false, false, false) => Ok(Action::Apply),
        }
    }

    fn validation(&self, action: &Action) -> Result<Option<Validation>, ArgumentError> {
        let probe_port = self.read(PROBE_PORT, port)?.unwrap_or(PROBE);
        let timeout = self.read(PROBE_TIMEOUT, timeout)?.unwrap_or(TIMEOUT);
        if !self.switch(RUN_VALIDATION)? {
            return Ok(None);
        }
        let without_rules = match action {
            Action::Print { .. } => Some("--dry-run"),
            Action::Remove => Some("--cleanup-only"),
            Action::Apply | Action::Leave => None,
        };
        match without_rules {
            Some(other) => Err(self.error(RUN_VALIDATION, Reason::NotWith(other))),
            None => Ok(Some(Validation {
                probe_port,
                timeout,
            })),
        }
    }

    fn backend(&self, action: &Action) -> Result<BackendChoice, ArgumentError> {
        let without = match action {
            Action::Remove => Some("--cleanup-only, which removes the rules of every backend"),
            Action::Leave => Some("--skip-rule-apply, which writes none"),
            Action::Apply | Action::Print { .. } => None,
        };
        if let (Some(with), Some(_)) = (without, self.filled(BACKEND)) {
            return Err(self.error(BACKEND, Reason::NotWith(with)));
        }
        let native = self.switch(NATIVE_NFTABLES)?;
        let binary = self.read(FORCE_IPTABLES_BINARY, iptables_binary)?;
        if native && binary.is_some() {
            let with = Reason::NotWith("--native-nftables");
            return Err(self.error(FORCE_IPTABLES_BINARY, with));
        }
        let binary = binary.map(|choice| ("--force-iptables-binary", choice));
        let native = native.then_some(("--native-nftables", BackendChoice::Nft));
        self.backend_or(binary.or(native))
    }

    /// What has no effect, or another than may be meant.
    fn notes(&self, config: &CaptureConfig) -> Result<Vec<String>, ArgumentError> {
        let mut notes = Vec::new();
        let mut unless = |effective: bool, name: &str, why: &str| {
            if let Some(value) = self.filled(name)
                && !effective
            {
                notes.push(format!("{value} has no effect: {why}"));
            }
        };
        unless(
            config.inbound.capture == InboundCapture::All,
            LOCAL_EXCLUDE_PORTS,
            "excluded inbound ports count only when all others are captured (-b '*'); leave it \
             out, or capture all",
        );
        unless(
            config.dns.is_some() || !self.switch(CAPTURE_ALL_DNS)?,
            CAPTURE_ALL_DNS,
            "DNS is captured only with --redirect-dns; add that",
        );
        for flag in [TPROXY_MARK, TPROXY_TABLE] {
            unless(
                config.inbound.mode != InboundMode::Redirect,
                flag,
                "it counts only with -m TPROXY; leave it out, or use that mode",
            );
        }
        let validates = self.switch(RUN_VALIDATION)?;
        for flag in [PROBE_PORT, PROBE_TIMEOUT] {
            unless(
                validates,
                flag,
                "it counts only with --run-validation; leave it out, or add that",
            );
        }
        unless(
            self.switch(DRY_RUN)?,
            DRY_RUN_FILE,
            "rules are written to a file only with --dry-run; leave it out, or add that",
        );
        self.owner_notes(&mut notes);
        let elsewhere = self.switch(CNI_MODE)? || self.filled(NETWORK_NAMESPACE).is_some();
        let from_file = config
            .dns
            .as_ref()
            .is_some_and(|dns| dns.servers == DnsServers::ResolvConf);
        if elsewhere && from_file {
            notes.push(
                "the DNS servers are those of the /etc/resolv.conf that is seen here, which may be \
                 the node's and not the pod's; with --capture-all-dns queries to any server are \
                 captured"
                    .to_owned(),
            );
        }
        Ok(notes)
    }

    /// A contradiction, at the flag or variable that it is about.
    fn invalid(&self, invalid: Invalid) -> ArgumentError {
        // The DNS proxy's port is no flag's.
        let invalid = match invalid {
            Invalid::SamePort {
                one: Field::DnsPort,
                other,
                port,
            } => Invalid::SamePort {
                one: other,
                other: Field::DnsPort,
                port,
            },
            invalid => invalid,
        };
        let name = match invalid.field() {
            Field::InboundPort => INBOUND_CAPTURE_PORT,
            Field::TunnelPort => INBOUND_TUNNEL_PORT,
            Field::TproxyMark => TPROXY_MARK,
            Field::TproxyTable => TPROXY_TABLE,
            Field::Loopback => LOOPBACK_CIDR,
            field => field.name(Vocabulary::Istio).trim_start_matches('-'),
        };
        self.error(name, Reason::Invalid(invalid, Vocabulary::Istio))
    }
}

/// Port of Istio's proof by default.
const PROBE: Port = capture::well_known(port_of::PROBE);
/// Its time limit by default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How inbound connections are captured.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Redirect,
    Tproxy,
}

fn interception_mode(text: &str) -> Result<Mode, Reason> {
    match text {
        "REDIRECT" => Ok(Mode::Redirect),
        "TPROXY" => Ok(Mode::Tproxy),
        "NONE" => Err(Reason::Is(
            "means that no rules are written at all: do not run this, or use REDIRECT or TPROXY"
                .into(),
        )),
        _ => Err(Reason::NotOneOf(&["REDIRECT", "TPROXY"])),
    }
}

fn port_list(text: &str) -> Result<Ports, Reason> {
    ports(text, ':')
}

fn iptables_binary(text: &str) -> Result<BackendChoice, Reason> {
    match text {
        "legacy" => Ok(BackendChoice::IptablesLegacy),
        "nft" => Ok(BackendChoice::IptablesNft),
        _ => Err(Reason::NotOneOf(&["legacy", "nft"])),
    }
}

fn timeout(text: &str) -> Result<Duration, Reason> {
    go_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            Reason::Is("is not a duration above zero, like 5s, 1m30s or 300ms: give one".into())
        })
}
