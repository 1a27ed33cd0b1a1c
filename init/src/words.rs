//! In whose words a policy may be asked for.

use clap::Subcommand;
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

/// A policy, as it is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Words {
    /// Write the rules of a policy file, or of flags (docs/policy.md)
    Apply(#[command(flatten)] ApplyArgs),
    /// Write the rules that Istio's arguments ask for
    #[command(name = ISTIO_IPTABLES)]
    IstioIptables(#[command(flatten)] IstioArgs),
    /// Write the rules that the arguments of Linkerd's proxy-init ask for
    #[command(name = LINKERD_INIT)]
    LinkerdInit(#[command(flatten)] LinkerdArgs),
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
