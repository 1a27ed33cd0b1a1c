//! Arguments to verbs, outcomes to lines of text and an exit code.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use nix::unistd::{getgid, getuid};
use shunt_abi::SCHEMA_VERSION;
use shunt_redirect::backend::Turn;
use shunt_redirect::capture::CaptureConfig;
use shunt_redirect::compat::{Action, Request, wants_json};
use shunt_redirect::error::Cause;
use shunt_redirect::facts::PodFacts;
use shunt_redirect::iptables::{self, render as chains};
use shunt_redirect::nft::render;
use shunt_redirect::routing::InboundSource;
use shunt_redirect::ruleset::Family;
use shunt_redirect::sysctl::CloseWaitBefore;
use shunt_redirect::warnings::Container;
use shunt_redirect::{Applied, BackendChoice, Change, Removed, netns, policy, sysctl};

use crate::backend;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::message::{Form, Message, print};
use crate::words::{
    ISTIO_IPTABLES, LINKERD_INIT, LINKERD2_PROXY_INIT, PROXY_INIT, Verb as Looking, Words, Write,
};
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
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Write(Write),
    /// Print, as a policy file, what arguments ask for (docs/policy.md); change nothing
    Policy {
        #[command(subcommand)]
        words: Words,
    },
    /// Show the rules that are in place, with their counters and the policy fields they come from
    List {
        /// Print messages as JSON, one object a line
        #[arg(long = "log_as_json")]
        json: bool,
    },
    /// Show how the rules in place differ from those that arguments ask for; change nothing
    Diff {
        #[command(subcommand)]
        words: Words,
    },
    /// Remove what Shunt wrote, and nothing else
    Remove {
        /// Print messages as JSON, one object a line
        #[arg(long = "log_as_json")]
        json: bool,
    },
    /// Find out whether rules can be written here, and what is missing; changes nothing
    Preflight {
        /// Print messages as JSON, one object a line
        #[arg(long, visible_alias = "log_as_json")]
        json: bool,
    },
}

/// The names of other programs that this one replaces, and the verb for each.
const NAMES: [(&str, &str); 3] = [
    (ISTIO_IPTABLES, ISTIO_IPTABLES),
    (PROXY_INIT, LINKERD_INIT),
    (LINKERD2_PROXY_INIT, LINKERD_INIT),
];

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
        Verb::Write(write) => write
            .request()
            .and_then(|request| carry_out(&request, write.verify())),
        Verb::Policy { words } => words
            .request_to(Looking::Policy)
            .and_then(|(request, idle)| print_policy(&request, idle)),
        Verb::List { json: _ } => list::list(),
        Verb::Diff { words } => {
            let difference = words
                .request_to(Looking::Diff)
                .and_then(|(request, idle)| difference(&request, idle));
            match difference {
                Ok((true, messages)) => {
                    messages.iter().for_each(|message| message.say(form));
                    return Exit::Differs;
                }
                other => other.map(|(_, messages)| messages),
            }
        }
        Verb::Remove { json: _ } => remove(),
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
            let before = failure.before().iter();
            before.for_each(|message| message.say(form));
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
    // The whole help is no cause.
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let cause = if error.kind() == help {
        "the command line has no verb; `shunt-init --help` lists them".to_owned()
    } else {
        error.render().to_string()
    };
    termination::tell(&cause);
    match form {
        Form::Json => Message::error(&cause).say(form),
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
fn print_policy(request: &Request, idle: Vec<Message>) -> Result<Vec<Message>, Failure> {
    let text = policy::write(&request.config).map_err(Failure::Policy)?;
    print(&text).map_err(Failure::Output)?;
    // Where the pod cannot be looked at, the policy is right all the same.
    let pod = PodFacts::read(&request.config).unwrap_or_default();
    Ok(warnings(request, &pod).chain(idle).collect())
}

/// Prints what would be changed, and says whether anything would.
fn difference(request: &Request, idle: Vec<Message>) -> Result<(bool, Vec<Message>), Failure> {
    if let Some(path) = &request.network_namespace {
        netns::enter(path).map_err(Failure::Netns)?;
    }
    let pod = PodFacts::read(&request.config).map_err(Failure::Facts)?;
    let differs = list::difference(request, &pod)?;
    Ok((differs, warnings(request, &pod).chain(idle).collect()))
}

/// Does what was asked for, in whatever words.
fn carry_out(request: &Request, verify: verify::Choice) -> Result<Vec<Message>, Failure> {
    if let Some(path) = &request.network_namespace {
        netns::enter(path).map_err(Failure::Netns)?;
    }
    match &request.action {
        Action::Apply => {
            // Kept until they are verified: nobody changes them meanwhile.
            let turn = Turn::take();
            let timeout = request
                .close_wait_timeout
                .map(sysctl::set_close_wait_timeout);
            let before = timeout.transpose().map_err(Failure::Sysctl)?;
            let applied = request.apply(&turn).map_err(|error| {
                let restored = before.map_or(Ok(()), CloseWaitBefore::restore);
                Failure::Apply(error, restored.err())
            })?;
            let mut messages = applied_messages(&applied);
            let validation = request.validation.as_ref();
            let proved = verify::after_apply(&applied, verify, validation);
            messages.extend(proved.map_err(|failure| failure.after(&messages))?);
            drop(turn);
            messages.extend(before_the_sidecar(&request.config));
            messages.extend(warnings(request, &applied.pod));
            Ok(messages)
        }
        Action::Print { file } => dry_run(request, file.as_deref()),
        Action::Remove => remove(),
        Action::Leave => {
            let mut messages = vec![Message::info("no rules are written, as asked")];
            if let Some(validation) = &request.validation {
                messages.extend(verify::of_others(&request.config, validation)?);
            }
            Ok(messages)
        }
    }
}

/// What becomes of init containers that run after this one and before the sidecar. Which there are,
/// nobody tells this one.
fn before_the_sidecar(config: &CaptureConfig) -> Option<Message> {
    let outbound = &config.outbound;
    (verify::in_kubernetes() && !outbound.captures_nothing()).then(|| {
        Message::info(format!(
            "while no sidecar listens on port {}, captured connections are refused: an init \
             container that needs the network belongs after a native sidecar (restartPolicy: \
             Always), or what it calls must be excluded",
            outbound.port
        ))
    })
}

/// What may not be meant.
fn warnings(request: &Request, pod: &PodFacts) -> impl Iterator<Item = Message> + use<> {
    let warnings = request.warnings(pod, own_container().as_slice());
    warnings.into_iter().map(Message::warn)
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

/// Prints the rules as the backend would write them; here, that is the deed.
fn dry_run(request: &Request, file: Option<&Path>) -> Result<Vec<Message>, Failure> {
    let pod = PodFacts::read(&request.config).map_err(Failure::Facts)?;
    let rules = match request.backend {
        BackendChoice::Auto | BackendChoice::Nft => {
            render::table(&shunt_redirect::plan(&request.config, &pod).ruleset)
        }
        _ => {
            let plan = shunt_redirect::plan_for_iptables(&request.config, &pod);
            let family = |family| chains::state(&plan.ruleset, family).text();
            let v6 = plan.ipv6.then(|| format!("# IPv6\n{}", family(Family::V6)));
            format!("# IPv4\n{}{}", family(Family::V4), v6.unwrap_or_default())
        }
    };
    if let Some(path) = file {
        std::fs::write(path, &rules).map_err(|error| Failure::Rules(path.to_owned(), error))?;
    }
    print(&rules).map_err(Failure::Output)?;
    Ok(warnings(request, &pod).collect())
}

fn remove() -> Result<Vec<Message>, Failure> {
    let removed = shunt_redirect::remove().map_err(Failure::Remove)?;
    let mut messages = removed_messages(&removed);
    let Some(unchecked) = &removed.unchecked else {
        return Ok(messages);
    };
    match iptables::list() {
        // Whoever may look could find rules that capture.
        Err(why) if why.cause() != Cause::ProgramMissing => Err(Failure::Left { messages, why }),
        _ => {
            messages.push(backend::unchecked(unchecked));
            Ok(messages)
        }
    }
}

fn applied_messages(applied: &Applied) -> Vec<Message> {
    let rules = applied.plan.ruleset.rule_count();
    let families = match applied.ipv6 {
        Some(_) => "IPv4 and IPv6",
        None => "IPv4; IPv6 passes uncaptured",
    };
    let content = format!("{rules} rules ({families}), {}", applied.mark);
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
             net.ipv6.conf.lo.disable_ipv6=0` and this again, or use `--ipv6 never` if IPv6 may pass \
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
