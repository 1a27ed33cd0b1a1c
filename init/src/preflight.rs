//! `shunt-init preflight`: what a run would need here.

use serde_json::json;
use shunt_redirect::preflight::{Finding, State, preflight};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::message::{Form, Message};
use crate::termination;

/// Says all that was found, and ends with the code of the first thing that is missing.
pub(crate) fn run(form: Form) -> Exit {
    let found = preflight();
    let findings = found.findings.iter();
    let printed = findings
        .map(message)
        .try_for_each(|message| message.print(form));
    match found.cause() {
        None => {
            let last = Message::info("rules can be written here");
            match printed.and_then(|()| last.print(form)) {
                Ok(()) => Exit::Success,
                Err(error) => {
                    let failure = Failure::Output(error);
                    termination::tell(&failure.to_string());
                    Message::error(&failure).say(form);
                    failure.exit()
                }
            }
        }
        Some(cause) => {
            let exit = Exit::from(cause);
            let first = found.findings.iter();
            let mut missing = first.filter(|finding| matches!(finding.state, State::Missing(_)));
            let text = missing.next().map_or_else(String::new, line);
            let cause = format!("rules cannot be written here: {text}");
            termination::tell(&cause);
            Message::error(&cause).say(form);
            exit
        }
    }
}

fn line(finding: &Finding) -> String {
    format!("{}: {}", finding.check, finding.text)
}

fn message(finding: &Finding) -> Message {
    let (word, code) = match finding.state {
        State::Good => ("good", None),
        State::Note => ("note", None),
        State::Missing(cause) => ("missing", Some(Exit::from(cause))),
    };
    let mut fields = json!({ "check": finding.check, "state": word, "found": finding.text });
    if let Some(exit) = code {
        fields["code"] = json!(exit.code());
        fields["cause"] = json!(format!("{exit:?}"));
    }
    Message::info(format!("{word:<8} {}", line(finding))).with(fields)
}
