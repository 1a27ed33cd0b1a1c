//! Istio's way of asking for capture: the flags and environment of `istio-iptables`.
//!
//! Every flag of the original is known. What Shunt does is done, what it does not do yet is
//! refused unless its value means "off"; nothing is ignored in silence. Precedence is the
//! original's: a flag's own variable, then its additional one, then the command line.

mod flags;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;

use clap::builder::{Arg, ArgAction};
use clap::{ArgMatches, Command};

use self::flags::{
    CLEANUP_ONLY, DRY_RUN, DUAL_STACK, ENVOY_PORT, FLAGS, Flag, INBOUND_CAPTURE_PORT,
    INBOUND_PORTS, INBOUND_TUNNEL_PORT, IPV6, LOCAL_EXCLUDE_PORTS, LOG_AS_JSON, MODE, NOT_YET,
    OUTBOUND_PORTS, OUTBOUND_PORTS_EXCLUDE, PROXY_GID, PROXY_UID, SERVICE_CIDR,
    SERVICE_EXCLUDE_CIDR, VARIABLES,
};
use super::values::{Reason, boolean, cidrs, ids, port, ports, quoted};
use crate::capture::{
    CaptureConfig, INBOUND, Inbound, InboundCapture, Ipv6Mode, OUTBOUND, Outbound, OutboundCapture,
    Ports, ProxyIdentity, TUNNEL,
};

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
                .value_name("VALUE")
                // Our own parser names the flag and the range. All hyphens would be too much: after
                // an unquoted empty variable, `-i -b 80` would take `-b` for a value.
                .allow_negative_numbers(true);
            if let Some((values, _)) = flag.only {
                arg = arg
                    .help_heading(NOT_SUPPORTED)
                    .help(refused(flag.help, values));
            }
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

/// Heading in the help, above flags that are known only to be refused by name.
const NOT_SUPPORTED: &str = "Not supported yet (refused, but for values that change nothing)";

/// The help of a flag that is followed only where it changes nothing.
fn refused(help: &str, values: &[&str]) -> String {
    format!("Not supported yet: {help} [accepted: {}]", quoted(values))
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

impl Request {
    /// What was asked for, but is seldom meant: Istio's defaults let every connection pass the
    /// mesh by. Nothing where rules are removed.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        if self.action == Action::Remove {
            return Vec::new();
        }
        let outbound = self.config.outbound.captures_nothing().then_some(
            "captures nothing outbound (no -i, no -q): every connection that the pod opens passes \
             the proxy by; `-i '*'` captures all of them",
        );
        let inbound = self.config.inbound.captures_nothing().then_some(
            "captures nothing inbound (no -b): every connection that arrives passes the proxy by; \
             `-b '*'` captures all of them",
        );
        outbound.into_iter().chain(inbound).collect()
    }
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

/// Whether messages are wanted as JSON (`--log_as_json`). Looks at the bare command line, because
/// a message about a wrong argument should have the right form too.
#[must_use]
pub fn log_as_json(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .filter_map(|argument| {
            argument
                .to_str()?
                .strip_prefix("--")?
                .strip_prefix(LOG_AS_JSON)
        })
        .any(|rest| match rest.strip_prefix('=') {
            Some(value) => boolean(value) == Ok(true),
            None => rest.is_empty(),
        })
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
            proxy: ProxyIdentity {
                uids,
                gids,
                ..CaptureConfig::default().proxy
            },
            inbound: values.inbound()?,
            outbound: values.outbound()?,
            ipv6: values.ipv6()?,
            ..CaptureConfig::default()
        };
        if config.inbound.port == config.outbound.port {
            let error = Reason::SamePort {
                flag: "--envoy-port",
            };
            return Err(values.error(INBOUND_CAPTURE_PORT, error));
        }
        // Followed by whoever writes the messages, but wrong here.
        values.switch(LOG_AS_JSON)?;
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
        let exclude = self.list(LOCAL_EXCLUDE_PORTS, ports)?.unwrap_or_default();
        let (capture, exclude_ports) = match self.get(INBOUND_PORTS) {
            Some(value) if value.text == "*" => (InboundCapture::All, exclude),
            _ => (
                self.list(INBOUND_PORTS, ports)?
                    .map_or(InboundCapture::Nothing, InboundCapture::Only),
                Ports::default(),
            ),
        };
        Ok(Inbound {
            port: self.list(INBOUND_CAPTURE_PORT, port)?.unwrap_or(INBOUND),
            tunnel: Some(self.list(INBOUND_TUNNEL_PORT, port)?.unwrap_or(TUNNEL)),
            capture,
            exclude_ports,
            ..CaptureConfig::default().inbound
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
            ..CaptureConfig::default().outbound
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
