//! In whose words a policy may be asked for.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, Command, FromArgMatches, Subcommand};
use shunt_redirect::compat::istio::IstioArgs;
use shunt_redirect::compat::linkerd::LinkerdArgs;
use shunt_redirect::compat::{Accounts, Request};
use shunt_redirect::policy::{ApplyArgs, ApplyArgsError};

use crate::run::Failure;

/// Istio's program, and the verb for its arguments.
pub(crate) const ISTIO_IPTABLES: &str = "istio-iptables";
/// Linkerd's program, in the image of its own.
pub(crate) const PROXY_INIT: &str = "proxy-init";
/// The same in the proxy's image, where later releases have it.
pub(crate) const LINKERD2_PROXY_INIT: &str = "linkerd2-proxy-init";
/// The verb for its arguments.
pub(crate) const LINKERD_INIT: &str = "linkerd-init";

/// The verb for ours.
const APPLY: &str = "apply";

/// A policy, as it is asked for.
#[derive(Debug)]
pub(crate) enum Words {
    /// A policy file, or flags of ours (docs/policy.md).
    Apply(ApplyArgs),
    /// Istio's arguments.
    IstioIptables(IstioArgs),
    /// The arguments of Linkerd's proxy-init.
    LinkerdInit(LinkerdArgs),
}

impl Subcommand for Words {
    /// Each verb's flags are made when it is met: a run needs one verb's of a hundred flags.
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands([
            Command::new(APPLY)
                .about("Write the rules of a policy file, or of flags (docs/policy.md)")
                .defer(ApplyArgs::augment_args),
            Command::new(ISTIO_IPTABLES)
                .about("Write the rules that Istio's arguments ask for")
                .defer(IstioArgs::augment_args),
            Command::new(LINKERD_INIT)
                .about("Write the rules that the arguments of Linkerd's proxy-init ask for")
                .defer(LinkerdArgs::augment_args),
        ])
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        [APPLY, ISTIO_IPTABLES, LINKERD_INIT].contains(&name)
    }
}

impl FromArgMatches for Words {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((APPLY, matches)) => ApplyArgs::from_arg_matches(matches).map(Self::Apply),
            Some((ISTIO_IPTABLES, matches)) => {
                IstioArgs::from_arg_matches(matches).map(Self::IstioIptables)
            }
            Some((LINKERD_INIT, matches)) => {
                LinkerdArgs::from_arg_matches(matches).map(Self::LinkerdInit)
            }
            _ => Err(clap::Error::raw(
                ErrorKind::MissingSubcommand,
                "a verb is missing: apply, istio-iptables or linkerd-init",
            )),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Words {
    pub(crate) fn request(&self) -> Result<Request, Failure> {
        match self {
            Self::Apply(arguments) => arguments.parse().map_err(|error| match error {
                ApplyArgsError::Argument(error) => Failure::Argument(error),
                error => Failure::File(error),
            }),
            Self::IstioIptables(arguments) => arguments
                .parse(|name| std::env::var(name).ok(), &Accounts::default())
                .map_err(Failure::Argument),
            Self::LinkerdInit(arguments) => arguments.parse().map_err(Failure::Argument),
        }
    }
}
