//! The flags of `shunt-init apply`: a policy file, and what shall hold instead of what it says.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::PolicyError;
use crate::capture::{
    self, CaptureConfig, Dns, DnsServers, InboundCapture, InboundMode, OutboundCapture, Ports,
};
use crate::compat::arguments::{ArgumentError, BACKEND, Flag, Given, LOG_AS_JSON, Values, augment};
use crate::compat::values::{Reason, cidrs, ids, interfaces, ipv6_mode, item, items, port, ports};
use crate::compat::{Action, Request};
use crate::field::{Field, Flagged, Vocabulary};
use crate::validate::Invalid;

const POLICY: &str = "policy";
const PROXY_UIDS: &str = "proxy-uids";
const PROXY_GIDS: &str = "proxy-gids";
const INBOUND_PORT: &str = "inbound-port";
const OUTBOUND_PORT: &str = "outbound-port";
const INBOUND: &str = "capture-inbound-ports";
const EXCLUDE_INBOUND_PORTS: &str = "exclude-inbound-ports";
const EXCLUDE_INBOUND_SOURCES: &str = "exclude-inbound-sources";
const TPROXY: &str = "tproxy";
const OUTBOUND: &str = "capture-outbound-cidrs";
const EXCLUDE_OUTBOUND_CIDRS: &str = "exclude-outbound-cidrs";
const INCLUDE_OUTBOUND_PORTS: &str = "include-outbound-ports";
const EXCLUDE_OUTBOUND_PORTS: &str = "exclude-outbound-ports";
const EXCLUDE_INTERFACES: &str = "exclude-interfaces";
const DNS: &str = "dns";
const IPV6: &str = "ipv6";
const DRY_RUN: &str = "dry-run";
const NETWORK_NAMESPACE: &str = "network-namespace";

/// All flags, in the order of `--help`.
pub(super) static FLAGS: &[Flag] = &[
    flag(
        POLICY,
        "Policy file, or - for standard input (docs/policy.md) [everything is captured]",
    ),
    flag(
        PROXY_UIDS,
        "Numeric user ids of the proxy, comma separated [1337]",
    ),
    flag(
        PROXY_GIDS,
        "Numeric group ids of the proxy, comma separated [1337]",
    ),
    flag(
        INBOUND_PORT,
        "Port that captured inbound connections go to [15006]",
    ),
    flag(
        OUTBOUND_PORT,
        "Port that captured outbound connections go to [15001]",
    ),
    flag(
        INBOUND,
        "Inbound ports to capture: all, none, or a list with ranges (8000-8010) [all]",
    ),
    flag(
        EXCLUDE_INBOUND_PORTS,
        "Inbound ports that pass [15020,15021,15090]",
    ),
    flag(
        EXCLUDE_INBOUND_SOURCES,
        "Clients whose connections pass, as CIDR blocks",
    ),
    flag(
        TPROXY,
        "Capture inbound connections by TPROXY, with Istio's mark and table",
    )
    .switch(),
    flag(
        OUTBOUND,
        "Outbound destinations to capture: all, none, or CIDR blocks [all]",
    ),
    flag(
        EXCLUDE_OUTBOUND_CIDRS,
        "Outbound destinations that pass, as CIDR blocks",
    ),
    flag(
        INCLUDE_OUTBOUND_PORTS,
        "Outbound ports to capture whatever the destination",
    ),
    flag(
        EXCLUDE_OUTBOUND_PORTS,
        "Outbound ports that pass, TCP and UDP",
    ),
    flag(
        EXCLUDE_INTERFACES,
        "Interfaces whose packets pass, both ways",
    ),
    flag(
        DNS,
        "Capture DNS queries to: none, resolv-conf, all, or a list of servers [none]",
    ),
    flag(
        IPV6,
        "Capture IPv6: auto (if the pod has an address), istio, always, never [auto]",
    ),
    flag(DRY_RUN, "Print the rules, change nothing").switch(),
    flag(
        NETWORK_NAMESPACE,
        "Do it in this network namespace, a file like /proc/1234/ns/net (needs CAP_SYS_ADMIN)",
    ),
    flag(
        BACKEND,
        "What writes the rules: auto, nft, iptables, iptables-nft, iptables-legacy [auto]",
    ),
    flag(LOG_AS_JSON, "Print messages as JSON, one object a line").switch(),
];

const fn flag(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, None, help).without_variable()
}

/// The arguments as given, nothing looked at yet. A part of any clap command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyArgs(Given);

impl clap::Args for ApplyArgs {
    fn augment_args(command: Command) -> Command {
        augment(command, FLAGS)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ApplyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::of(matches, FLAGS)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Why `apply` has no policy.
#[derive(Debug, thiserror::Error)]
pub enum ApplyArgsError {
    /// The file cannot be read.
    #[error("cannot read the policy {file}: {source}; {}", remedy(source))]
    Unreadable {
        /// The file, or standard input.
        file: String,
        /// The system's word.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("{file}: {error}")]
    Policy {
        /// The file, or standard input.
        file: String,
        /// What is wrong.
        error: PolicyError,
    },
    /// A flag is wrong.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
}

/// A network namespace has no files of its own.
const CALLERS_RESOLV_CONF: &str = "the DNS servers are those of the /etc/resolv.conf that is seen here, which may be the node's \
     and not the pod's; name them (`--dns 10.96.0.10`, `dns.servers` in a policy file), or capture \
     queries to any server (`all`)";

impl ApplyArgs {
    /// Reads the policy file, if one is given, then the flags, which replace what it says.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is wrong.
    pub fn parse(&self) -> Result<Request, ApplyArgsError> {
        let values = self.0.resolve(FLAGS, &[], &|_variable| None)?;
        let mut config = match values.get(POLICY) {
            Some(file) => from_file(&file.text)?,
            None => CaptureConfig::default(),
        };
        values.replace(&mut config)?;
        let vocabulary = Vocabulary::Flags(values.flagged());
        config
            .validate()
            .map_err(|invalid| values.contradiction(invalid, vocabulary))?;
        values.switch(LOG_AS_JSON)?;
        let action = if values.switch(DRY_RUN)? {
            Action::Print { file: None }
        } else {
            Action::Apply
        };
        let network_namespace = values.filled(NETWORK_NAMESPACE);
        let from_file = config
            .dns
            .as_ref()
            .is_some_and(|dns| dns.servers == DnsServers::ResolvConf);
        let elsewhere = network_namespace.is_some() && from_file;
        Ok(Request {
            backend: values.backend_or(None)?,
            notes: elsewhere
                .then(|| CALLERS_RESOLV_CONF.to_owned())
                .into_iter()
                .collect(),
            network_namespace: network_namespace.map(|value| PathBuf::from(&value.text)),
            ..Request::new(config, action, vocabulary)
        })
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::FileTooLarge => "write wider CIDR blocks and port ranges",
        io::ErrorKind::IsADirectory => "name the file in it",
        _ => "check the path, that it is mounted, and its permissions",
    }
}

fn from_file(name: &str) -> Result<CaptureConfig, ApplyArgsError> {
    let file = match name {
        "-" => "standard input".to_owned(),
        name => name.to_owned(),
    };
    let text = match name {
        "-" => limited(io::stdin().lock()),
        name => fs::File::open(name).and_then(limited),
    };
    match text {
        Err(source) => Err(ApplyArgsError::Unreadable { file, source }),
        Ok(text) => super::read(&text).map_err(|error| ApplyArgsError::Policy { file, error }),
    }
}

/// Larger than any policy: 100,000 blocks take two.
const MOST_BYTES: u64 = 8 << 20;

fn limited(file: impl io::Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        let what = format!("it is longer than {} MiB", MOST_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

impl Values {
    /// Puts what is given in the place of what the policy says. An empty list is a list.
    fn replace(&self, config: &mut CaptureConfig) -> Result<(), ArgumentError> {
        set(&mut config.proxy.uids, self.list(PROXY_UIDS, ids)?);
        set(&mut config.proxy.gids, self.list(PROXY_GIDS, ids)?);
        let inbound = &mut config.inbound;
        set(&mut inbound.port, self.whole(INBOUND_PORT, port)?);
        set(
            &mut inbound.capture,
            self.whole(INBOUND, |text| match text {
                "all" => Ok(InboundCapture::All),
                "none" => Ok(InboundCapture::Nothing),
                text => port_list(text).map(InboundCapture::Only),
            })?,
        );
        set(
            &mut inbound.exclude_ports,
            self.list(EXCLUDE_INBOUND_PORTS, port_list)?,
        );
        set(
            &mut inbound.exclude_sources,
            self.list(EXCLUDE_INBOUND_SOURCES, cidrs)?,
        );
        if self.get(TPROXY).is_some() {
            inbound.mode = match (self.switch(TPROXY)?, inbound.mode) {
                (false, _) => InboundMode::Redirect,
                (true, tproxy @ InboundMode::Tproxy { .. }) => tproxy,
                (true, InboundMode::Redirect) => InboundMode::Tproxy {
                    mark: capture::TPROXY_MARK,
                    table: capture::TPROXY_TABLE,
                },
            };
        }
        let outbound = &mut config.outbound;
        set(&mut outbound.port, self.whole(OUTBOUND_PORT, port)?);
        set(
            &mut outbound.capture,
            self.whole(OUTBOUND, |text| match text {
                "all" => Ok(OutboundCapture::All),
                "none" => Ok(OutboundCapture::Only(Vec::new())),
                text => cidrs(text).map(OutboundCapture::Only),
            })?,
        );
        set(
            &mut outbound.exclude_cidrs,
            self.list(EXCLUDE_OUTBOUND_CIDRS, cidrs)?,
        );
        set(
            &mut outbound.include_ports,
            self.list(INCLUDE_OUTBOUND_PORTS, port_list)?,
        );
        set(
            &mut outbound.exclude_ports,
            self.list(EXCLUDE_OUTBOUND_PORTS, port_list)?,
        );
        set(
            &mut config.interfaces.exclude,
            self.list(EXCLUDE_INTERFACES, interfaces)?,
        );
        if let Some(servers) = self.whole(DNS, servers)? {
            let port = config
                .dns
                .as_ref()
                .map_or(capture::DNS_PROXY, |dns| dns.port);
            config.dns = servers.map(|servers| Dns { port, servers });
        }
        set(&mut config.ipv6, self.whole(IPV6, ipv6_mode)?);
        Ok(())
    }

    /// A list; given, but empty, it is an empty one.
    fn list<T: Default>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Result<Option<T>, ArgumentError> {
        let given = self.get(name);
        given
            .map(|value| match value.text.as_str() {
                "" => Ok(T::default()),
                _ => value.read(parse),
            })
            .transpose()
    }

    /// A value that cannot be empty.
    fn whole<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Result<Option<T>, ArgumentError> {
        self.get(name).map(|value| value.read(parse)).transpose()
    }

    /// The fields that these flags set; without a file, all that have one.
    fn flagged(&self) -> Flagged {
        if self.get(POLICY).is_none() {
            return Flagged::ALL;
        }
        let given = Field::ALL.into_iter().filter(|field| {
            let flag = field.flag().map(|flag| flag.trim_start_matches('-'));
            flag.is_some_and(|flag| self.get(flag).is_some())
        });
        given.fold(Flagged::default(), Flagged::with)
    }

    /// At the flag that it is about, or at the field of the file.
    fn contradiction(&self, invalid: Invalid, vocabulary: Vocabulary) -> ArgumentError {
        let name = invalid.field().name(vocabulary);
        let reason = Reason::Invalid(invalid, vocabulary);
        match name.strip_prefix("--") {
            Some(flag) => self.error(flag, reason),
            None => ArgumentError::of_field(name, reason),
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn port_list(text: &str) -> Result<Ports, Reason> {
    ports(text, '-')
}

fn servers(text: &str) -> Result<Option<DnsServers>, Reason> {
    Ok(match text {
        "none" => None,
        "resolv-conf" => Some(DnsServers::ResolvConf),
        "all" => Some(DnsServers::All),
        text => {
            let servers = items(text).map(|part| {
                let part = part?;
                part.parse().map_err(|_error| {
                    item(
                        part,
                        "give none, resolv-conf, all, or a list of IP addresses",
                    )
                })
            });
            Some(DnsServers::Only(servers.collect::<Result<_, _>>()?))
        }
    })
}
