//! Linkerd's way of asking for capture: the flags of its `proxy-init`.
//!
//! What the original does with connections is done: no call of the proxy to its own pod is
//! captured, nor is DNS, and everything on `lo` passes. Where it skips an entry of a list that is
//! wrong, this is an error. By which programs it is told to write its rules says which of the
//! kernel's interfaces is meant; where that is nf_tables, no program is needed.

mod flags;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use shunt_abi::{identity, port as port_of};

use self::flags::{
    BIN_PATH, CLOSE_WAIT, FLAGS, IN_PORTS_TO_IGNORE, INCOMING_PORT, IPTABLES_MODE, IPV6, LOG_LEVEL,
    NETNS, OUT_PORTS_TO_IGNORE, OUTGOING_PORT, PORTS_TO_REDIRECT, PROXY_GID, PROXY_UID, SIMULATE,
    SUBNETS_TO_IGNORE, USE_WAIT_FLAG,
};
use super::arguments::{ArgumentError, Given, LOG_AS_JSON, LOG_FORMAT, Values, augment};
use super::request::{Action, Request};
use super::values::{NOT_AN_ID, Reason, cidrs, item, number, port, ports};
use crate::backend::BackendChoice;
use crate::capture::{
    self, CaptureConfig, Inbound, InboundCapture, InboundMode, Ipv6Mode, Outbound, OutboundCapture,
    OwnerGroups, Port, Ports, ProxyIdentity,
};
use crate::field::{Field, Vocabulary};
use crate::validate::Invalid;

/// The arguments as given, nothing looked at yet. A part of any clap command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkerdArgs(Given);

impl clap::Args for LinkerdArgs {
    fn augment_args(command: Command) -> Command {
        augment(command, FLAGS)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for LinkerdArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::of(matches, FLAGS)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What Linkerd's chart asks for when nothing is annotated: ports 4143 and 4140, user 2102, all
/// but the proxy's own inbound ports 4190 and 4191 and, both ways, the ports 4567 and 4568.
#[must_use]
pub fn chart_defaults() -> CaptureConfig {
    let single = |ports: &[u16]| ports.iter().map(|port| (*port, *port)).collect();
    let mut config = shape(INCOMING, OUTGOING);
    config.proxy.uids = BTreeSet::from([identity::LINKERD_PROXY_UID]);
    config.inbound.exclude_ports = single(&[
        port_of::LINKERD_CONTROL,
        port_of::LINKERD_ADMIN,
        port_of::GALERA,
        port_of::GALERA_STATE,
    ]);
    config.outbound.exclude_ports = single(&[port_of::GALERA, port_of::GALERA_STATE]);
    config
}

const INCOMING: Port = capture::well_known(port_of::LINKERD_INBOUND);
const OUTGOING: Port = capture::well_known(port_of::LINKERD_OUTBOUND);

/// What holds of every policy of Linkerd's: all connections, and none of the proxy's.
fn shape(incoming: Port, outgoing: Port) -> CaptureConfig {
    CaptureConfig {
        proxy: ProxyIdentity {
            self_calls: false,
            ..ProxyIdentity::default()
        },
        inbound: Inbound {
            port: incoming,
            tunnel: None,
            mode: InboundMode::Redirect,
            capture: InboundCapture::All,
            exclude_ports: Ports::default(),
            exclude_sources: Vec::new(),
        },
        outbound: Outbound {
            port: outgoing,
            capture: OutboundCapture::All,
            exclude_cidrs: Vec::new(),
            include_ports: Ports::default(),
            exclude_ports: Ports::default(),
            owners: OwnerGroups::default(),
        },
        dns: None,
        ..CaptureConfig::default()
    }
}

impl LinkerdArgs {
    /// Reads the arguments. The original has no variables.
    ///
    /// # Errors
    /// The first value that is wrong, by name and with a remedy.
    pub fn parse(&self) -> Result<Request, ArgumentError> {
        let values = self.0.resolve(FLAGS, &[], &|_variable| None)?;
        let mut config = shape(
            values.required_port(INCOMING_PORT)?,
            values.required_port(OUTGOING_PORT)?,
        );
        config.proxy.uids = values.owner(PROXY_UID)?;
        config.proxy.gids = values.owner(PROXY_GID)?;
        if let Some(ports) = values.read(PORTS_TO_REDIRECT, port_list)? {
            config.inbound.capture = InboundCapture::Only(ports);
        }
        config.inbound.exclude_ports = values
            .read(IN_PORTS_TO_IGNORE, port_list)?
            .unwrap_or_default();
        config.inbound.exclude_sources = values.read(SUBNETS_TO_IGNORE, cidrs)?.unwrap_or_default();
        config.outbound.exclude_ports = values
            .read(OUT_PORTS_TO_IGNORE, port_list)?
            .unwrap_or_default();
        config.ipv6 = if values.switch_or(IPV6, true)? {
            Ipv6Mode::Auto
        } else {
            Ipv6Mode::Off
        };
        if let Err(invalid) = config.validate() {
            return Err(values.linkerd_invalid(invalid));
        }
        values.read(LOG_FORMAT, log_format)?;
        values.read(LOG_LEVEL, log_level)?;
        for switch in [USE_WAIT_FLAG, LOG_AS_JSON] {
            values.switch(switch)?;
        }
        let action = if values.switch(SIMULATE)? {
            Action::Print { file: None }
        } else {
            Action::Apply
        };
        Ok(Request {
            backend: values.linkerd_backend()?,
            network_namespace: values.filled(NETNS).map(|value| PathBuf::from(&value.text)),
            close_wait_timeout: values.read(CLOSE_WAIT, seconds)?.flatten(),
            ..Request::new(config, action, Vocabulary::Linkerd)
        })
    }
}

impl Values {
    /// A port without which the proxy cannot be reached.
    fn required_port(&self, flag: &'static str) -> Result<Port, ArgumentError> {
        let given = self.filled(flag).filter(|value| value.text != "-1");
        match given {
            Some(value) => value.read(port),
            None => Err(self.error_without_default(
                flag,
                Reason::Is("is missing: give the port at which the proxy listens".into()),
            )),
        }
    }

    /// An id; as in the original, 0 and below mean none.
    fn owner(&self, flag: &'static str) -> Result<BTreeSet<u32>, ArgumentError> {
        let id = self.read(flag, |text| {
            let negative = text.strip_prefix('-').and_then(number).is_some();
            if negative {
                return Ok(None);
            }
            let id = number(text).filter(|id| *id != u32::MAX);
            let id = id.ok_or_else(|| item(text, NOT_AN_ID))?;
            Ok((id > 0).then_some(id))
        })?;
        Ok(id.flatten().into_iter().collect())
    }

    fn linkerd_backend(&self) -> Result<BackendChoice, ArgumentError> {
        let mode = self.read(IPTABLES_MODE, iptables_mode)?;
        let path = self.read(BIN_PATH, program)?.flatten();
        if let (Some(mode), Some(path)) = (mode, path)
            && mode != Some(path)
        {
            return Err(self.error(IPTABLES_MODE, Reason::NotWith("--firewall-bin-path")));
        }
        let mode = mode.flatten().map(|choice| ("--iptables-mode", choice));
        let path = path.map(|choice| ("--firewall-bin-path", choice));
        self.backend_or(mode.or(path))
    }

    fn linkerd_invalid(&self, invalid: Invalid) -> ArgumentError {
        let flag = match invalid.field() {
            Field::InboundPort => INCOMING_PORT,
            Field::ProxyGids => PROXY_GID,
            _ => PROXY_UID,
        };
        self.error_without_default(flag, Reason::Invalid(invalid, Vocabulary::Linkerd))
    }
}

fn port_list(text: &str) -> Result<Ports, Reason> {
    ports(text, '-')
}

/// What writes the rules, if the mode says so.
fn iptables_mode(text: &str) -> Result<Option<BackendChoice>, Reason> {
    match text {
        "legacy" => Ok(Some(BackendChoice::IptablesLegacy)),
        "nft" => Ok(Some(BackendChoice::Nft)),
        "plain" => Ok(None),
        _ => Err(Reason::NotOneOf(&["legacy", "nft", "plain"])),
    }
}

/// The older form of a mode: a program, wherever it is.
fn program(path: &str) -> Result<Option<BackendChoice>, Reason> {
    match path.rsplit('/').next() {
        Some("" | "iptables") => Ok(None),
        Some("iptables-legacy") => Ok(Some(BackendChoice::IptablesLegacy)),
        Some("iptables-nft") => Ok(Some(BackendChoice::Nft)),
        _ => Err(Reason::Is(
            "names no program of which it is known what part of the kernel it writes to: it is \
             iptables, iptables-legacy or iptables-nft, in whatever folder; or choose by \
             --backend, and leave it out"
                .into(),
        )),
    }
}

fn log_format(text: &str) -> Result<(), Reason> {
    match text {
        "plain" | "json" => Ok(()),
        _ => Err(Reason::NotOneOf(&["plain", "json"])),
    }
}

/// Levels that the original knows, in any case of letters.
const LOG_LEVELS: &[&str] = &[
    "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
];

fn log_level(text: &str) -> Result<(), Reason> {
    LOG_LEVELS
        .contains(&text.to_ascii_lowercase().as_str())
        .then_some(())
        .ok_or(Reason::NotOneOf(LOG_LEVELS))
}

/// Seconds; 0 means that the kernel's own number stays.
fn seconds(text: &str) -> Result<Option<NonZeroU32>, Reason> {
    number(text)
        .filter(|seconds| i32::try_from(*seconds).is_ok())
        .map(NonZeroU32::new)
        .ok_or_else(|| item(text, "it is a number of seconds from 0 to 2147483647"))
}
