//! Arguments to verbs, outcomes to lines of text and an exit code.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use nix::unistd::{getgid, getuid};
use shunt_abi::SCHEMA_VERSION;
use shunt_redirect::compat::{Action, ArgumentError, Request, wants_json};
use shunt_redirect::error::{ApplyError, ListError, RemoveError};
use shunt_redirect::facts::{FactsError, PodFacts};
use shunt_redirect::iptables::IptablesError;
use shunt_redirect::netns::{self, NetnsError};
use shunt_redirect::nft::render;
use shunt_redirect::policy::{self, ApplyArgsError, WriteError};
use shunt_redirect::routing::InboundSource;
use shunt_redirect::sysctl::{self, SysctlError};
use shunt_redirect::verify::VerifyError;
use shunt_redirect::warnings::Container;
use shunt_redirect::{Applied, CaptureConfig, Change, Removed};

use crate::backend;
use crate::exit::Exit;
use crate::message::{Form, Message, print};
use crate::words::{ISTIO_IPTABLES, LINKERD_INIT, LINKERD2_PROXY_INIT, PROXY_INIT, Words};
use crate::{list, preflight, termination, verify};

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
    /// Prove by packets that the rules work once they are written [auto: in Kubernetes]
    #[arg(
        long,
        global = true,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value = "auto",
        default_missing_value = "on",
        hide_default_value = true
    )]
    verify: verify::Choice,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Write(Words),
    /// Print, as a policy file, what arguments ask for (docs/policy.md); change nothing
    Policy {
        #[command(subcommand)]
        words: Words,
    },
    /// Show the rules that are in place, with their counters and the policy fields they come from
    List,
    /// Show how the rules in place differ from those that arguments ask for; change nothing
    Diff {
        #[command(subcommand)]
        words: Words,
    },
    /// Remove what Shunt wrote, and nothing else
    Remove,
    /// Find out whether rules can be written here, and what is missing; changes nothing
    Preflight {
        /// Print an object a line
        #[arg(long)]
        json: bool,
    },
}

/// The names of other programs that this one replaces, and the verb for each.
const NAMES: [(&str, &str); 3] = [
    (ISTIO_IPTABLES, ISTIO_IPTABLES),
    (PROXY_INIT, LINKERD_INIT),
    (LINKERD2_PROXY_INIT, LINKERD_INIT),
];

/// Why a run failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Argument(ArgumentError),
    File(ApplyArgsError),
    Netns(NetnsError),
    Sysctl(SysctlError),
    Apply(ApplyError),
    Remove(RemoveError),
    Facts(FactsError),
    List(ListError),
    Iptables(IptablesError),
    Verify(VerifyError),
    /// The rules are there, but do not do what they should.
    Unproved {
        /// What was found.
        messages: Vec<Message>,
        cause: String,
    },
    Output(io::Error),
    Rules(PathBuf, io::Error),
    Policy(WriteError),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Argument(_) | Self::File(_) | Self::Rules(..) => Exit::Usage,
            Self::Netns(error) => error.cause().into(),
            Self::Sysctl(error) => error.cause().into(),
            Self::Apply(error) => error.cause().into(),
            Self::Remove(error) => error.cause().into(),
            Self::Facts(error) => error.cause().into(),
            Self::List(error) => error.cause().into(),
            Self::Iptables(error) => error.cause().into(),
            Self::Verify(error) => error.cause().into(),
            Self::Unproved { .. } => Exit::Unproved,
            Self::Output(_) | Self::Policy(_) => Exit::Internal,
        }
    }

    /// Says first what was done before.
    fn after(mut self, done: &[Message]) -> Self {
        if let Self::Unproved { messages, .. } = &mut self {
            messages.splice(0..0, done.iter().cloned());
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Policy(error) => error.fmt(f),
            Self::Netns(error) => error.fmt(f),
            Self::Sysctl(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Remove(error) => error.fmt(f),
            Self::Facts(error) => error.fmt(f),
            Self::List(error) => error.fmt(f),
            Self::Iptables(error) => error.fmt(f),
            Self::Verify(error) => error.fmt(f),
            Self::Unproved { cause, .. } => f.write_str(cause),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Rules(path, error) => write!(
                f,
                "cannot write the rules to {}: {error}; name a file in a folder that exists and \
                 can be written to, or leave the file out",
                path.display()
            ),
        }
    }
}

/// Does what the arguments say.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Exit {
    let arguments = with_verb(arguments);
    let form = if wants_json(&arguments) {
        Form::Json
    } else {
        Form::Text
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, form),
    };
    let done = match cli.verb {
        Verb::Write(words) => words
            .request()
            .and_then(|request| carry_out(&request, cli.verify)),
        Verb::Policy { words } => words.request().and_then(|request| print_policy(&request)),
        Verb::List => list::list(),
        Verb::Diff { words } => match words
            .request()
            .and_then(|request| list::difference(&request))
        {
            Ok(true) => return Exit::Differs,
            Ok(false) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        },
        Verb::Remove => remove(),
        Verb::Preflight { json } => {
            return preflight::run(if json { Form::Json } else { form });
        }
    };
    match done {
        Ok(messages) => {
            for message in messages {
                message.say(form);
            }
            Exit::Success
        }
        Err(failure) => {
            if let Failure::Unproved { messages, .. } = &failure {
                messages.iter().for_each(|message| message.say(form));
            }
            termination::tell(&failure.to_string());
            Message::error(&failure).say(form);
            failure.exit()
        }
    }
}

/// Help and version come this way too, and are no messages.
fn not_parsed(error: &clap::Error, form: Form) -> Exit {
    if !error.use_stderr() {
        // A closed output changes nothing.
        let _unwritten = error.print();
        return Exit::Success;
    }
    termination::tell(&error.render().to_string());
    match form {
        Form::Json => Message::error(&error.render()).say(form),
        Form::Text => {
            let _unwritten = error.print();
        }
    }
    Exit::Usage
}

/// Called by the name of a program that it replaces, the verb is that program's.
fn with_verb(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let verb = NAMES
        .iter()
        .find(|(name, _)| called == Some(OsStr::new(name)));
    if let Some((_, verb)) = verb {
        arguments.insert(1, verb.into());
    }
    arguments
}

/// Prints the effective policy, so that a user can convert.
fn print_policy(request: &Request) -> Result<Vec<Message>, Failure> {
    let text = policy::write(&request.config).map_err(Failure::Policy)?;
    print(&text).map_err(Failure::Output)?;
    Ok(request.notes.iter().map(Message::warn).collect())
}

/// Does what was asked for, in whatever words.
fn carry_out(request: &Request, verify: verify::Choice) -> Result<Vec<Message>, Failure> {
    if let Some(path) = &request.network_namespace {
        netns::enter(path).map_err(Failure::Netns)?;
    }
    if let (Some(seconds), Action::Apply) = (request.close_wait_timeout, &request.action) {
        sysctl::set_close_wait_timeout(seconds).map_err(Failure::Sysctl)?;
    }
    let mut messages = match &request.action {
        Action::Apply => {
            let applied = request.apply().map_err(Failure::Apply)?;
            let mut messages = applied_messages(&applied);
            let validation = request.validation.as_ref();
            let proved = verify::after_apply(&applied, verify, validation);
            messages.extend(proved.map_err(|failure| failure.after(&messages))?);
            messages
        }
        Action::Print { file } => dry_run(&request.config, file.as_deref()).map(|()| Vec::new())?,
        Action::Remove => remove()?,
        Action::Leave => {
            let mut messages = vec![Message::info("no rules are written, as asked")];
            if let Some(validation) = &request.validation {
                messages.extend(verify::of_others(&request.config, validation)?);
            }
            messages
        }
    };
    if matches!(request.action, Action::Apply | Action::Print { .. }) {
        messages.extend(warnings(request).into_iter().map(Message::warn));
    }
    Ok(messages)
}

/// What may not be meant. What is done is done, even if the pod cannot be looked at any more.
fn warnings(request: &Request) -> Vec<String> {
    match PodFacts::read(&request.config) {
        Ok(pod) => request.warnings(&pod, own_container().as_slice()),
        Err(_) => request.notes.clone(),
    }
}

/// Under which user this init container runs. Root is what it needs to be, and tells nothing; any
/// other is most likely the pod's, and then the application's too.
fn own_container() -> Option<Container> {
    let uid = getuid().as_raw();
    (uid != 0).then(|| Container {
        name: "this init container, and so most likely the application,".to_owned(),
        uid: Some(uid),
        gid: Some(getgid().as_raw()),
    })
}

/// Prints the rules; here, that is the deed.
fn dry_run(config: &CaptureConfig, file: Option<&Path>) -> Result<(), Failure> {
    let pod = PodFacts::read(config).map_err(Failure::Facts)?;
    let rules = render::table(&shunt_redirect::plan(config, &pod).ruleset);
    if let Some(path) = file {
        std::fs::write(path, &rules).map_err(|error| Failure::Rules(path.to_owned(), error))?;
    }
    print(&rules).map_err(Failure::Output)
}

fn remove() -> Result<Vec<Message>, Failure> {
    shunt_redirect::remove()
        .map(|removed| removed_messages(&removed))
        .map_err(Failure::Remove)
}

fn applied_messages(applied: &Applied) -> Vec<Message> {
    let rules = applied.plan.ruleset.rule_count();
    let families = match applied.ipv6 {
        Some(_) => "IPv4 and IPv6",
        None => "IPv4; IPv6 passes uncaptured",
    };
    let content = format!(
        "{rules} rules ({families}), {}",
        applied.plan.ruleset.mark()
    );
    let table = backend::place(applied.backend);
    let mut messages = vec![Message::info(match &applied.change {
        Change::Unchanged => format!("{table}: unchanged, {content}"),
        Change::Created => format!("{table}: created, {content}"),
        Change::Replaced { difference } => {
            format!("{table}: replaced ({difference}), {content}")
        }
    })];
    match applied.ipv6 {
        Some(InboundSource::Added) => messages.push(Message::info("lo: added ::6/128")),
        Some(InboundSource::Ipv6DisabledOnLo) => messages.push(Message::warn(
            "IPv6 is disabled on lo: IPv6 connections are captured, but neither inbound nor \
             outbound ones will be served, because the proxy is reached at ::1 and calls the \
             application from ::6, and lo can have neither; run `sysctl \
             net.ipv6.conf.lo.disable_ipv6=0` and this again, or use `--ipv6 off` if IPv6 may pass \
             the mesh by",
        )),
        Some(InboundSource::Present) | None => {}
    }
    if applied.routing_added {
        messages.push(Message::info("policy routing: added"));
    }
    if applied.routing_removed {
        messages.push(Message::info("policy routing of an earlier run: removed"));
    }
    messages.extend(backend::applied(applied));
    messages
}

fn removed_messages(removed: &Removed) -> Vec<Message> {
    let mut messages = backend::removed(removed);
    if removed.routing {
        messages.push(Message::info("policy routing: removed"));
    }
    if removed.inbound_source {
        messages.push(Message::info("lo: removed ::6/128"));
    }
    messages
}
