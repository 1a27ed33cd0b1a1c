//! Sets of flags and variables of `istio-iptables`, one by one and at random.

use std::fmt;

use anyhow::{Context as _, Result};
use clap::{Args as _, FromArgMatches as _};
use fastrand::Rng;
use shunt_redirect::CaptureConfig;
use shunt_redirect::compat::Accounts;
use shunt_redirect::compat::istio::IstioArgs;

/// A flag, or a variable if it is in capitals, with its value. A switch has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value: Option<&'static str>,
}

/// What one run is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlagSet(pub(crate) Vec<Setting>);

/// A flag, the values that it is tried with, and how often it is given, in parts of a hundred.
struct Choice(&'static str, u32, &'static [&'static str]);

const SWITCH: &[&str] = &[];

/// What the injector always gives.
const INJECTED: [Setting; 4] = [
    Setting::new("-b", "*"),
    Setting::new("-i", "*"),
    Setting::new("-u", "1337"),
    Setting::new("-d", "15090,15021,15020"),
];

#[rustfmt::skip]
const CHOICES: &[Choice] = &[
    Choice("-p", 15, &["15101", "1"]),
    Choice("-z", 15, &["15106", "65535"]),
    Choice("-e", 15, &["15108", "8080"]),
    Choice("-u", 70, &["1337", "1337", "1337,2102", "3,4", "0"]),
    Choice("-g", 60, &["1337", "1337", "1", "1337,2102", "0"]),
    Choice("-m", 45, &["TPROXY", "TPROXY", "REDIRECT"]),
    Choice("-b", 85, &["*", "*", "*", "80,8080", "9080", ""]),
    Choice("-d", 50, &["15090,15021,15020", "8080", "80,443", ""]),
    Choice("-c", 20, &["eth1", "eth0", "eth2,eth1"]),
    Choice("-k", 20, &["eth1", "eth2", "eth1,eth2"]),
    Choice("-i", 85, &["*", "*", "*", "10.0.0.0/8,2001:db8:7::/48", "10.96.0.0/16", "127.0.0.1/32", "127.0.0.1/32,10.0.0.0/8", "::1/128,2001:db8::/32", ""]),
    Choice("-x", 40, &["10.96.0.0/16", "10.96.0.10/32,2001:db8:7::/64", "203.0.113.0/24,10.97.0.0/16", "2001:db8::/32", "127.0.0.0/8", ""]),
    Choice("-q", 25, &["80", "443,9080", "1,65535", ""]),
    Choice("-o", 30, &["80", "9080,8080", "53", "15001", ""]),
    Choice("-t", 25, &["1400", "255"]),
    Choice("-r", 25, &["200", "99"]),
    Choice("--redirect-dns", 35, SWITCH),
    Choice("--capture-all-dns", 25, SWITCH),
    Choice("--drop-invalid", 25, SWITCH),
    Choice("--dual-stack", 65, SWITCH),
    Choice("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", 20, &["127.0.0.0/8", "127.0.0.0/30", "127.0.0.1/32"]),
    Choice("ISTIO_OUTBOUND_OWNER_GROUPS", 15, &["1000", "2000,1000", "*", "3"]),
    Choice("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", 15, &["1000", "2000,2001"]),
    Choice("ENVOY_USER", 5, &["daemon"]),
    Choice("ISTIO_META_DNS_CAPTURE", 5, &["true", "false"]),
    Choice("INVALID_DROP", 5, &["true"]),
    Choice("ISTIO_DUAL_STACK", 10, &["true"]),
    Choice("INBOUND_CAPTURE_PORT", 5, &["15107"]),
];

impl Setting {
    const fn new(name: &'static str, value: &'static str) -> Self {
        Self {
            name,
            value: Some(value),
        }
    }

    fn is_variable(&self) -> bool {
        !self.name.starts_with('-')
    }
}

impl FlagSet {
    /// Each flag with each of its values, alone, and beside what the injector gives.
    pub(crate) fn singles() -> Vec<Self> {
        let mut sets = vec![Self(Vec::new()), Self(INJECTED.to_vec())];
        for Choice(name, _, values) in CHOICES {
            let mut values: Vec<Option<&'static str>> = values.iter().copied().map(Some).collect();
            if values.is_empty() {
                values.push(None);
            }
            values.dedup();
            for value in values {
                let setting = Setting { name, value };
                sets.push(Self(vec![setting]));
                let mut beside = INJECTED.to_vec();
                beside.retain(|injected| injected.name != *name);
                // Without it, nothing of IPv6 would be seen.
                beside.push(Setting {
                    name: "--dual-stack",
                    value: None,
                });
                beside.retain(|injected| injected.name != *name);
                beside.push(setting);
                sets.push(Self(beside));
            }
        }
        sets
    }

    /// Any, the same for the same state of `rng`.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut settings = Vec::new();
        for Choice(name, percent, values) in CHOICES {
            if rng.u32(..100) < *percent {
                let value = match values {
                    [] => None,
                    values => Some(values[rng.usize(..values.len())]),
                };
                settings.push(Setting { name, value });
            }
        }
        Self(settings)
    }

    /// The command line.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let flags = self.0.iter().filter(|setting| !setting.is_variable());
        flags
            .flat_map(|setting| [Some(setting.name), setting.value])
            .flatten()
            .collect()
    }

    /// The environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let variables = self.0.iter().filter(|setting| setting.is_variable());
        variables.filter_map(|setting| Some((setting.name, setting.value?)))
    }

    /// Whether Istio is to look for IPv6 beyond the first address.
    pub(crate) fn dual_stack(&self) -> bool {
        self.is_on("--dual-stack") || self.is_on("ISTIO_DUAL_STACK")
    }

    fn is_on(&self, name: &str) -> bool {
        let found = self.0.iter().find(|setting| setting.name == name);
        found.is_some_and(|setting| setting.value.is_none_or(|value| value == "true"))
    }

    /// The user id that Istio's rules name first, if the command line names it.
    pub(crate) fn first_uid(&self) -> Option<u32> {
        let found = self.0.iter().find(|setting| setting.name == "-u");
        let uids = found.and_then(|setting| setting.value)?;
        uids.split(',').next()?.parse().ok()
    }

    /// The policy that our own parser reads in it; by it flows are chosen, nothing else.
    pub(crate) fn policy(&self) -> Result<CaptureConfig> {
        let command = IstioArgs::augment_args(clap::Command::new("istio-iptables"));
        let arguments = ["istio-iptables"].into_iter().chain(self.arguments());
        let matches = command.try_get_matches_from(arguments)?;
        let variables: Vec<_> = self.variables().collect();
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).into())
        };
        IstioArgs::from_arg_matches(&matches)?
            .parse(environment, &Accounts::default())
            .map(|request| request.config)
            .with_context(|| format!("reading {self}"))
    }

    /// The same with one setting less, for each of its settings.
    pub(crate) fn smaller(&self) -> impl Iterator<Item = Self> {
        (0..self.0.len()).map(|at| {
            let mut settings = self.0.clone();
            settings.remove(at);
            Self(settings)
        })
    }
}

impl fmt::Display for FlagSet {
    /// As a person would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.variables() {
            write!(f, "{name}='{value}' ")?;
        }
        f.write_str("istio-iptables")?;
        for argument in self.arguments() {
            match argument.starts_with('-') {
                true => write!(f, " {argument}")?,
                false => write!(f, " '{argument}'")?,
            }
        }
        Ok(())
    }
}
