//! What a run of `shunt-init` would need here, looked at without changing anything.
//!
//! The kernel is asked by a rehearsal ([`rehearsal`]): a transaction with every expression that a
//! plan can hold, and at its end a message that cannot be carried out, so that all of it is undone.

pub mod capability;
mod environment;
mod neighbours;
mod rehearsal;

use crate::error::{Cause, KernelError, Object};
use crate::iptables::{Flavour, Tools};
use crate::nft::socket::NetlinkSocket;
use crate::nft::{Nft, Ours, Table};
use crate::routing::Route;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// In the order in which a run needs them.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// What the kernel lacks is no hindrance where there is another way.
    fn instead(&mut self, way: &str) {
        for finding in &mut self.findings {
            if finding.state == State::Missing(Cause::KernelLacks) {
                finding.state = State::Note;
                finding.text = format!("{}; {way}", finding.text);
            }
        }
    }

    /// Without CAP_NET_RAW legacy tables can be neither read nor written.
    fn need_net_raw(&mut self) {
        let note = |finding: &&mut Finding| {
            finding.check == environment::NET_RAW_CHECK && finding.state == State::Note
        };
        if let Some(finding) = self.findings.iter_mut().find(note) {
            finding.state = State::Missing(Cause::Permission);
            finding.text =
                "CAP_NET_RAW is missing, and legacy tables, which are all that can be used \
                            here, take it: add it with `securityContext.capabilities.add: \
                            [NET_ADMIN, NET_RAW]`"
                    .to_owned();
        }
    }

    /// The cause of the first thing that is missing; `None` if a run would go well.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.findings
            .iter()
            .find_map(|finding| match finding.state {
                State::Missing(cause) => Some(cause),
                State::Good | State::Note => None,
            })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, in a word or two; the same in every run.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, and what to do about it.
    pub text: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Good to know: it matters to some policies, or to people.
    Note,
    /// Missing, or in the way: no rules can be written.
    Missing(Cause),
}

impl Finding {
    fn good(check: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let state = State::Good;
        Self { check, state, text }
    }

    fn note(check: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let state = State::Note;
        Self { check, state, text }
    }

    fn missing(check: &'static str, cause: Cause, text: impl Into<String>) -> Self {
        let text = text.into();
        let state = State::Missing(cause);
        Self { check, state, text }
    }

    fn of_error(check: &'static str, error: &KernelError) -> Self {
        Self::missing(check, error.cause(), error.to_string())
    }
}

/// Looks at everything. Changes nothing.
#[must_use]
pub fn preflight() -> Preflight {
    let mut findings = environment::capabilities();
    findings.push(environment::user_namespace());
    findings.push(netlink());
    findings.push(table());
    findings.extend(rehearsal::findings());
    findings.push(environment::proxy_ids());
    findings.push(policy_routing());
    findings.push(environment::ipv6());
    findings.push(environment::sysctls());
    findings.push(environment::security_module());
    findings.extend(environment::programs());
    findings.extend(neighbours::findings());
    let mut found = Preflight { findings };
    if found.cause() == Some(Cause::KernelLacks)
        && let Ok(tools) = Tools::choose()
    {
        if tools.flavour == Flavour::Legacy {
            found.need_net_raw();
        }
        found.instead(&format!("iptables is used instead ({})", tools.flavour));
    }
    found
}

/// Both kinds of sockets that a run needs.
fn netlink() -> Finding {
    const CHECK: &str = "netlink sockets";
    let tables = NetlinkSocket::open(12, Object::Tables);
    match tables.and_then(|_tables| Route::open()) {
        Ok(_) => Finding::good(CHECK, "can be made"),
        Err(error) => Finding::of_error(CHECK, &error),
    }
}

fn table() -> Finding {
    const CHECK: &str = "table inet shunt";
    match Nft::open().and_then(|mut nft| nft.read()) {
        Err(error) => Finding::of_error(CHECK, &error),
        Ok(snapshot) => match snapshot.table {
            Table::Absent => Finding::good(CHECK, "is not there yet"),
            Table::Ours(Ours {
                mark,
                content: Err(what),
                ..
            }) => Finding::note(
                CHECK,
                format!(
                    "is there ({mark}), but not as Shunt writes it: {what}; a run puts it right"
                ),
            ),
            Table::Ours(ours) => Finding::good(CHECK, format!("is there: {}", ours.mark)),
            Table::Refused(conflict) => {
                Finding::missing(CHECK, Cause::Conflict, conflict.to_string())
            }
        },
    }
}

/// Only TPROXY needs it, and the probes of verification.
fn policy_routing() -> Finding {
    const CHECK: &str = "policy routing";
    match Route::open().and_then(|mut route| route.policy_rules()) {
        Ok(_) => Finding::good(CHECK, "can be read"),
        Err(error) => Finding::note(
            CHECK,
            format!("{error}. Only TPROXY, and rules proved by packets, need it"),
        ),
    }
}
