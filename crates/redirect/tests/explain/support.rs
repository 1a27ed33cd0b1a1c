//! Flows of a pod 10.9.0.2 / fd00:9::2, and short words for what became of them.

use std::net::{IpAddr, SocketAddr};

use shunt_redirect::capture::{CaptureConfig, Ipv6Mode};
use shunt_redirect::explain::{Explanation, Fate, Flow, Protocol, Rules, Verdict, explain};
use shunt_redirect::{Plan, PodFacts, plan};

pub(crate) const APP: (u32, u32) = (1000, 1000);
pub(crate) const PROXY: (u32, u32) = (1337, 1337);
pub(crate) const POD: &str = "10.9.0.2";
pub(crate) const PEER: &str = "10.9.0.7";

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// An address of the pod itself is reached by `lo`.
fn interface(to: IpAddr) -> &'static str {
    let own = ["10.9.0.2", "fd00:9::2", "::6"];
    if to.is_loopback() || own.iter().any(|own| *own == to.to_string()) {
        "lo"
    } else {
        "eth0"
    }
}

/// A TCP connection that a process with these ids opens.
pub(crate) fn opens(ids: (u32, u32), to: &str, port: u16) -> Flow {
    sends(Protocol::Tcp, ids, to, port)
}

/// The first packet of a flow that a process with these ids begins.
pub(crate) fn sends(protocol: Protocol, ids: (u32, u32), to: &str, port: u16) -> Flow {
    let to = at(to, port);
    let from = match to {
        SocketAddr::V4(_) if to.ip().is_loopback() => at("127.0.0.1", 40_000),
        SocketAddr::V6(_) if to.ip().is_loopback() => at("::1", 40_000),
        SocketAddr::V4(_) => at(POD, 40_000),
        SocketAddr::V6(_) => at("fd00:9::2", 40_000),
    };
    Flow::sent(interface(to.ip()), ids, protocol, from, to)
}

/// A TCP connection that arrives from a peer.
pub(crate) fn arrives(to: &str, port: u16) -> Flow {
    let to = at(to, port);
    let from = match to {
        SocketAddr::V4(_) => at(PEER, 40_000),
        SocketAddr::V6(_) => at("fd00:9::7", 40_000),
    };
    Flow::arriving("eth0", Protocol::Tcp, from, to)
}

pub(crate) fn from(mut flow: Flow, source: &str) -> Flow {
    flow.source = at(source, flow.source.port());
    flow
}

/// The rules of a policy in a pod with both families.
pub(crate) fn planned(config: &CaptureConfig) -> Plan {
    let mut config = config.clone();
    if config.ipv6 == Ipv6Mode::Auto {
        config.ipv6 = Ipv6Mode::On;
    }
    plan(&config, &PodFacts::default())
}

/// What becomes of a flow, in a word: a port, `passes`, `dropped`, or `?`.
pub(crate) fn fate(rules: &Rules, flow: &Flow) -> String {
    word(&explain(rules, flow))
}

pub(crate) fn word(explanation: &Explanation) -> String {
    let Verdict::Certain(outcome) = &explanation.verdict else {
        return "?".to_owned();
    };
    match &outcome.fate {
        Fate::Passes => "passes".to_owned(),
        Fate::Dropped => "dropped".to_owned(),
        Fate::Rejected => "rejected".to_owned(),
        Fate::Redirected { port, .. } => port.unwrap().to_string(),
        Fate::Tproxy { port } => format!("tproxy {port}"),
        other => other.to_string(),
    }
}

/// The comments of the rules that decided.
pub(crate) fn deciding(explanation: &Explanation) -> Vec<&str> {
    use shunt_redirect::explain::Step;
    explanation
        .trace
        .iter()
        .filter_map(|step| match step {
            Step::Rule(rule) => rule.comment.as_deref(),
            _ => None,
        })
        .collect()
}

/// Holds each flow against the word for its fate.
pub(crate) fn holds(rules: &Rules, table: &[(Flow, &str)]) {
    for (flow, expected) in table {
        let explanation = explain(rules, flow);
        assert_eq!(word(&explanation), *expected, "{flow}\n{explanation}");
    }
}
