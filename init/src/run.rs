//! Arguments to verbs, outcomes to lines of text and an exit code.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use shunt_abi::{SCHEMA_VERSION, name};
use shunt_redirect::compat::istio::{Action, ArgumentError, IstioArgs};
use shunt_redirect::error::{ApplyError, KernelError, RemoveError};
use shunt_redirect::nft::render;
use shunt_redirect::routing::{InboundSource, PodAddresses};
use shunt_redirect::{Applied, CaptureConfig, Change, Removed};

use crate::exit::Exit;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (commit {}, schema {SCHEMA_VERSION})",
        env!("CARGO_PKG_VERSION"),
        env!("SHUNT_COMMIT")
    )
});

/// Writes a pod's redirect rules into its network namespace, or removes them.
#[derive(Debug, Parser)]
#[command(name = "shunt-init", version = VERSION.as_str(), about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the rules that Istio's arguments ask for
    #[command(name = ISTIO_IPTABLES)]
    IstioIptables(#[command(flatten)] IstioArgs),
    /// Remove what Shunt wrote, and nothing else
    Remove,
}

/// The verb, also as a name of the program.
const ISTIO_IPTABLES: &str = "istio-iptables";

/// Why a run failed.
#[derive(Debug)]
enum Failure {
    Argument(ArgumentError),
    Apply(ApplyError),
    Remove(RemoveError),
    Addresses(KernelError),
    Output(io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Argument(error) if error.is_unsupported() => Exit::Unsupported,
            Self::Argument(_) => Exit::Usage,
            Self::Apply(error) => error.cause().into(),
            Self::Remove(error) => error.cause().into(),
            Self::Addresses(error) => error.cause().into(),
            Self::Output(_) => Exit::Internal,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Remove(error) => error.fmt(f),
            Self::Addresses(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

/// Does what the arguments say.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(with_verb(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; a closed output changes nothing.
            let _unwritten = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
        }
    };
    let done = match cli.verb {
        Verb::IstioIptables(arguments) => istio(&arguments),
        Verb::Remove => remove(),
    };
    match done {
        Ok(text) => {
            // What is done is done, even if nobody hears of it.
            let _unheard = print(&text);
            Exit::Success
        }
        Err(failure) => {
            let _unwritten = writeln!(io::stderr(), "shunt-init: {failure}");
            failure.exit()
        }
    }
}

/// Called as `istio-iptables`, the verb is the program's name.
fn with_verb(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    if called == Some(OsStr::new(ISTIO_IPTABLES)) {
        arguments.insert(1, ISTIO_IPTABLES.into());
    }
    arguments
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

fn istio(arguments: &IstioArgs) -> Result<String, Failure> {
    let request = arguments
        .parse(|name| std::env::var(name).ok())
        .map_err(Failure::Argument)?;
    match request.action {
        Action::Apply => shunt_redirect::apply(&request.config)
            .map(|applied| applied_text(&applied))
            .map_err(Failure::Apply),
        Action::Print => dry_run(&request.config).map(|()| String::new()),
        Action::Remove => remove(),
    }
}

/// Prints the rules; here, that is the deed.
fn dry_run(config: &CaptureConfig) -> Result<(), Failure> {
    let pod = PodAddresses::read().map_err(Failure::Addresses)?;
    print(&render::table(&shunt_redirect::plan(config, &pod))).map_err(Failure::Output)
}

fn remove() -> Result<String, Failure> {
    shunt_redirect::remove()
        .map(|removed| removed_text(&removed))
        .map_err(Failure::Remove)
}

fn applied_text(applied: &Applied) -> String {
    let rules = applied.ruleset.rule_count();
    let families = match applied.ipv6 {
        Some(_) => "IPv4 and IPv6",
        None => "IPv4; IPv6 passes uncaptured",
    };
    let content = format!("{rules} rules ({families}), {}", applied.ruleset.mark());
    let table = format!("table inet {}", name::NFT_TABLE);
    let mut text = match &applied.change {
        Change::Unchanged => format!("{table}: unchanged, {content}\n"),
        Change::Created => format!("{table}: created, {content}\n"),
        Change::Replaced { difference } => {
            format!("{table}: replaced ({difference}), {content}\n")
        }
    };
    match applied.ipv6 {
        Some(InboundSource::Added) => text.push_str("lo: added ::6/128\n"),
        Some(InboundSource::Ipv6DisabledOnLo) => text.push_str(
            "lo: ::6/128 could not be added, because IPv6 is disabled on lo; the proxy cannot hand \
             inbound IPv6 connections to the application (remedy: \
             `sysctl net.ipv6.conf.lo.disable_ipv6=0`)\n",
        ),
        Some(InboundSource::Present) | None => {}
    }
    text
}

fn removed_text(removed: &Removed) -> String {
    let mut text = if removed.table {
        format!("table inet {}: removed\n", name::NFT_TABLE)
    } else {
        format!("table inet {}: there is none\n", name::NFT_TABLE)
    };
    if removed.inbound_source {
        text.push_str("lo: removed ::6/128\n");
    }
    text
}
