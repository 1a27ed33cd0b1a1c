//! In whose words a policy may be asked for.

use clap::builder::EnumValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches, Subcommand};
use shunt_redirect::BackendChoice;
use shunt_redirect::compat::istio::IstioArgs;
use shunt_redirect::compat::linkerd::LinkerdArgs;
use shunt_redirect::compat::{Accounts, Action, Request};
use shunt_redirect::policy::{ApplyArgs, ApplyArgsError};

use crate::failure::Failure;
use crate::message::Message;
use crate::verify::Choice;

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

/// Adds a verb for each way of asking. A verb's flags are made when it is met: a run needs one
/// verb's of a hundred flags.
fn verbs(command: Command, [apply, istio, linkerd]: [fn(Command) -> Command; 3]) -> Command {
    command.subcommands([
        Command::new(APPLY)
            .about("Write the rules of a policy file, or of flags (docs/policy.md)")
            .defer(apply),
        Command::new(ISTIO_IPTABLES)
            .about("Write the rules that Istio's arguments ask for")
            .defer(istio),
        Command::new(LINKERD_INIT)
            .about("Write the rules that the arguments of Linkerd's proxy-init ask for")
            .defer(linkerd),
    ])
}

impl Subcommand for Words {
    fn augment_subcommands(command: Command) -> Command {
        let flags = [
            ApplyArgs::augment_args,
            IstioArgs::augment_args,
            LinkerdArgs::augment_args,
        ];
        verbs(command, flags)
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
    fn request(&self) -> Result<Request, Failure> {
        match self {
            Self::Apply(arguments) => arguments.parse().map_err(|error| match error {
                ApplyArgsError::Argument(error) => Failure::Argument(error),
                error => Failure::File(error),
            }),
            Self::IstioIptables(arguments) => arguments
                .parse(|name| std::env::var_os(name), &Accounts::default())
                .map_err(Failure::Argument),
            Self::LinkerdInit(arguments) => arguments.parse().map_err(Failure::Argument),
        }
    }

    /// For a verb that only looks. What it has no use for is an error among flags of ours; in a
    /// command line of another program, which is given as it stands, it is told.
    pub(crate) fn request_to(&self, verb: Verb) -> Result<(Request, Vec<Message>), Failure> {
        let request = self.request()?;
        let idle = self.idle(&request, verb);
        let text = |what: &str| {
            let does = match verb {
                Verb::Policy => "`policy`, which prints what is captured",
                Verb::Diff => "`diff`, which compares rules",
            };
            format!("{what} has no effect with {does}, and changes nothing; leave it out")
        };
        match (self, idle.first()) {
            (Self::Apply(_), Some(first)) => Err(Failure::Idle(text(first))),
            _ => {
                let messages = idle.iter().map(|what| Message::warn(text(what))).collect();
                Ok((request, messages))
            }
        }
    }

    /// The flags that a verb which only looks has no use for.
    fn idle(&self, request: &Request, verb: Verb) -> Vec<&'static str> {
        let linkerd = matches!(self, Self::LinkerdInit(_));
        let mut idle = Vec::new();
        idle.extend(match request.action {
            Action::Apply => None,
            Action::Print { .. } if linkerd => Some("--simulate"),
            Action::Print { .. } => Some("--dry-run"),
            Action::Remove => Some("--cleanup-only"),
            Action::Leave => Some("--skip-rule-apply"),
        });
        idle.extend(request.validation.map(|_| "--run-validation"));
        let timeout = request.close_wait_timeout;
        idle.extend(timeout.map(|_| "--timeout-close-wait-secs"));
        if verb == Verb::Policy {
            let chosen = request.backend != BackendChoice::Auto;
            idle.extend(chosen.then_some("the choice of a backend"));
            let elsewhere = request.network_namespace.is_some();
            let flag = if linkerd {
                "--netns"
            } else {
                "--network-namespace"
            };
            idle.extend(elsewhere.then_some(flag));
        }
        idle
    }
}

/// A verb that only looks at what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Prints the policy.
    Policy,
    /// Compares the rules with those that are there.
    Diff,
}

/// Rules to be written, and whether they are proved then.
#[derive(Debug)]
pub(crate) struct Write {
    words: Words,
    verify: Choice,
}

const VERIFY: &str = "verify";

fn verify(command: Command) -> Command {
    let flag = Arg::new(VERIFY)
        .long(VERIFY)
        .help("Prove by packets that the rules work once they are written [auto: in Kubernetes]")
        .value_parser(EnumValueParser::<Choice>::new())
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("on");
    command.arg(flag)
}

impl Subcommand for Write {
    fn augment_subcommands(command: Command) -> Command {
        let flags: [fn(Command) -> Command; 3] = [
            |command| verify(ApplyArgs::augment_args(command)),
            |command| verify(IstioArgs::augment_args(command)),
            |command| verify(LinkerdArgs::augment_args(command)),
        ];
        verbs(command, flags)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Words::has_subcommand(name)
    }
}

impl FromArgMatches for Write {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = matches.subcommand().map(|(_, flags)| flags);
        let verify = flags.and_then(|flags| flags.get_one(VERIFY).copied());
        Ok(Self {
            words: Words::from_arg_matches(matches)?,
            verify: verify.unwrap_or_default(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Write {
    pub(crate) fn request(&self) -> Result<Request, Failure> {
        let request = self.words.request()?;
        match self.verify.refusal(&request) {
            Some(why) => Err(Failure::Idle(why)),
            None => Ok(request),
        }
    }

    pub(crate) fn verify(&self) -> Choice {
        self.verify
    }
}
