//! Proof of the rules after they are written: when it is asked for, and what is said of it.

use std::time::{Duration, Instant};

use serde_json::json;
use shunt_abi::mark;
use shunt_redirect::compat::{Action, Request, Validation};
use shunt_redirect::field::Vocabulary;
use shunt_redirect::ruleset::Verdict;
use shunt_redirect::verify::{LO_UP, Leg, Options, Proof, Report, unprivileged, verify};
use shunt_redirect::{Applied, Backend, CaptureConfig, Plan, PodFacts, nft};

use crate::failure::Failure;
use crate::message::Message;

/// Whether the rules are proved once they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// In a container of Kubernetes.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Choice {
    /// Why it cannot be followed, if it cannot: nothing is written that could be proved, or the proof
    /// is asked for elsewhere.
    pub(crate) fn refusal(self, request: &Request) -> Option<String> {
        let other = match (self, &request.action) {
            (Self::Auto, _) => return None,
            (Self::Off, _) => {
                request.validation?;
                return Some(
                    "--verify=off cannot be combined with --run-validation, which asks for a proof; \
                     leave one of them out"
                        .to_owned(),
                );
            }
            (Self::On, Action::Apply) => return None,
            (Self::On, Action::Leave) => {
                return Some(
                    "--verify has no effect with --skip-rule-apply, which leaves the rules to \
                     another program; use --run-validation to prove that program's"
                        .to_owned(),
                );
            }
            (Self::On, Action::Remove) => "--cleanup-only, which removes rules",
            (Self::On, Action::Print { .. }) if request.vocabulary == Vocabulary::Linkerd => {
                "--simulate, which only prints rules"
            }
            (Self::On, Action::Print { .. }) => "--dry-run, which only prints rules",
        };
        Some(format!(
            "--verify has no effect with {other}; leave one of them out"
        ))
    }

    fn holds(self) -> bool {
        match self {
            Self::Auto => in_kubernetes(),
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// The kubelet gives every container this variable.
pub(crate) fn in_kubernetes() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Proves rules that were written just now. Istio's arguments may ask for it, too.
pub(crate) fn after_apply(
    applied: &Applied,
    choice: Choice,
    asked: Option<&Validation>,
) -> Result<Vec<Message>, Failure> {
    if asked.is_none() && !choice.holds() {
        return Ok(Vec::new());
    }
    let options = options(asked);
    let begun = Instant::now();
    let report = verify(&applied.plan, applied.backend, &options).map_err(Failure::Verify)?;
    judge(&report, begun.elapsed())
}

/// Proves rules that somebody else wrote, as Istio's CNI plugin does, with whatever this process
/// may do: often nothing but open connections.
pub(crate) fn of_others(
    config: &CaptureConfig,
    asked: &Validation,
) -> Result<Vec<Message>, Failure> {
    let pod = PodFacts::read(config).map_err(Failure::Facts)?;
    let plan = shunt_redirect::plan(config, &pod);
    let begun = Instant::now();
    // Where there is a table of ours, and this process may look at it, all can be proved.
    let report = match nft::list() {
        Ok(Some(_)) => {
            verify(&plan, Backend::Nft, &options(Some(asked))).map_err(Failure::Verify)?
        }
        _ => unprivileged(
            &plan,
            asked.probe_port.get(),
            config.inbound.port.get(),
            asked.timeout,
        ),
    };
    let messages = judge(&report, begun.elapsed())?;
    if shows_capture(&plan, &report) {
        return Ok(messages);
    }
    let ids: Vec<String> = config.proxy.uids.iter().map(u32::to_string).collect();
    Err(Failure::Unproved {
        messages,
        cause: format!(
            "nothing shows that there are rules: no connection that they capture could be tried \
             from here, and the legs above say why not; run this as the proxy's user (uid {}) \
             while nobody listens on port {}, or where the rules are Shunt's with CAP_NET_ADMIN \
             and CAP_NET_RAW",
            ids.join(" or "),
            config.inbound.port
        ),
    })
}

/// Whether a leg that captures is proved, if there is any. In a namespace without rules all that
/// should pass does.
fn shows_capture(plan: &Plan, report: &Report) -> bool {
    let keys = |wanted: fn(Verdict) -> bool| -> Vec<&str> {
        let rules = plan.ruleset.chains.iter().flat_map(|chain| &chain.rules);
        let rules = rules.filter(|rule| wanted(rule.verdict));
        rules.map(|rule| rule.key.as_str()).collect()
    };
    let capturing =
        keys(|verdict| matches!(verdict, Verdict::Redirect(_) | Verdict::Tproxy { .. }));
    // What has this mark is captured.
    let marking = keys(|verdict| verdict == Verdict::SetMark(mark::SELF_CALL));
    let proved = |leg: &Leg| {
        let key = leg.key.as_str();
        (capturing.contains(&key) || marking.contains(&key))
            && matches!(leg.proof, Proof::Live | Proof::ReadBack { .. })
    };
    capturing.is_empty() || report.legs.iter().any(proved)
}

fn options(asked: Option<&Validation>) -> Options {
    let timeout = asked.map_or(Options::TIMEOUT, |asked| asked.timeout);
    Options {
        timeout,
        ..Options::default()
    }
}

/// A line for each leg; an error if any has failed.
fn judge(report: &Report, time: Duration) -> Result<Vec<Message>, Failure> {
    let mut messages: Vec<Message> = report.legs.iter().map(message).collect();
    let mut failed = report.failed();
    let Some(first) = failed.next() else {
        let [live, read_back, not_proved, _] = report.count();
        messages.push(Message::info(format!(
            "verified in {} ms: {live} legs live by {} probes, {read_back} read back, \
             {not_proved} not proved",
            time.as_millis(),
            report.probes
        )));
        return Ok(messages);
    };
    let more = match failed.count() {
        0 => String::new(),
        more => format!("; legs that failed beside it: {more}"),
    };
    let advice = if first.key == LO_UP {
        ""
    } else {
        ". Another program may have changed them, or this network namespace: look at `nft list \
         ruleset` in it. Where rules of others are named that come before Shunt's, let them act \
         after it (priority -90 or later), or let what they drop of the probes pass (from \
         203.0.113.0/24, 192.0.2.0/24 and 2001:db8::/32, on shunt-probe and `lo`); `--verify=off` \
         leaves the proof out"
    };
    Err(Failure::Unproved {
        messages,
        cause: format!(
            "the rules do not do what they should: {} (rule {}): {}{more}; they stay as they are, \
             so that nothing passes by mistake{advice}",
            first.name(),
            first.key,
            what(first)
        ),
    })
}

fn what(leg: &Leg) -> String {
    match &leg.proof {
        Proof::Failed(failure) => failure.to_string(),
        other => other.word().to_owned(),
    }
}

fn message(leg: &Leg) -> Message {
    let mut fields = json!({
        "leg": leg.name(),
        "rule": leg.key,
        "proof": leg.proof.word(),
    });
    match &leg.proof {
        Proof::Live => {}
        Proof::ReadBack { why } | Proof::NotProved { why } => fields["why"] = json!(why),
        Proof::Failed(failure) => {
            fields["expected"] = json!(failure.expected);
            fields["happened"] = json!(failure.happened);
        }
    }
    Message::info(leg.to_string()).with(fields)
}
