//! A packet on which two rule sets disagree.
//!
//! There are too many packets to try them all, so those are tried on which a rule hinges: for each
//! rule of either set a packet that it matches, then the same with every other value that a rule
//! names, or the next one to it, in one place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::boundary::{Asked, Values};
use super::explain;
use super::flow::{Flow, Protocol, Sender, Side, State};
use super::model::{Base, Clause, End, Hook, Rule, Rules, Test, Way};
use super::verdict::{Fate, Outcome, Verdict};
use crate::ranges::{Ranges, Scalar};
use crate::ruleset::Family;

/// How many packets are tried.
const TRIES: usize = 30_000;

/// Looks for a packet of which two rule sets make different things: where it goes, what marks it and
/// its connection get, or in which conntrack zone it is looked up. What a rule set leaves uncertain
/// counts only if none of its cases is among the other's. `None`: none was found, which is no proof
/// that there is none.
#[must_use]
pub fn counter_example(one: &Rules, other: &Rules) -> Option<Flow> {
    let asked = [Asked::by(one), Asked::by(other)];
    let differing = Values::differing(&asked[0], &asked[1]);
    let all = Values::all(&asked[0], &asked[1]);
    let mut templates: Vec<Flow> = Vec::new();
    let plain = sides().into_iter().flat_map(|side| {
        let families = [Family::V4, Family::V6];
        families.map(|family| plain(&side, family))
    });
    for flow in plain.chain([one, other].into_iter().flat_map(fitting)) {
        if !templates.contains(&flow) {
            templates.push(flow);
        }
    }
    // If there are too many, those left out are spread over all.
    let each = variations(&templates.first().cloned()?, &all).len() + 1;
    let step = (templates.len() * each).div_ceil(TRIES).max(1);
    let varied = |values| {
        templates
            .iter()
            .flat_map(move |flow| variations(flow, values))
    };
    let mut flows = templates
        .iter()
        .cloned()
        .chain(varied(&differing).take(TRIES))
        .chain(varied(&all).step_by(step));
    flows.find(|flow| disagree(one, other, flow))
}

fn disagree(one: &Rules, other: &Rules, flow: &Flow) -> bool {
    let verdicts = [one, other].map(|rules| explain(rules, flow).verdict);
    let [one, other] = verdicts.map(outcomes);
    match (one, other) {
        (Some(one), Some(other)) => one.iter().all(|outcome| !other.contains(outcome)),
        _ => false,
    }
}

/// The flow with one value changed.
fn variations(flow: &Flow, values: &Values) -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut push = |change: &dyn Fn(&mut Flow)| {
        let mut flow = flow.clone();
        change(&mut flow);
        flows.push(flow);
    };
    for port in &values.ports {
        push(&|flow| flow.destination.set_port(*port));
        push(&|flow| flow.source.set_port(*port));
    }
    let addresses: Vec<IpAddr> = match flow.family() {
        Family::V4 => {
            let addresses = values.v4.iter().copied().map(Ipv4Addr::from_bits);
            addresses.map(IpAddr::V4).collect()
        }
        Family::V6 => {
            let addresses = values.v6.iter().copied().map(Ipv6Addr::from_bits);
            addresses.map(IpAddr::V6).collect()
        }
    };
    for address in &addresses {
        push(&|flow| flow.destination.set_ip(*address));
        push(&|flow| flow.source.set_ip(*address));
    }
    for mark in &values.marks {
        push(&|flow| flow.mark = *mark);
        push(&|flow| flow.connection_mark = *mark);
    }
    for number in &values.protocols {
        push(&|flow| flow.protocol = Protocol::from_number(u8::try_from(*number).unwrap_or(0)));
    }
    for name in &values.interfaces {
        push(&|flow| match &mut flow.side {
            Side::Arrives { interface, .. } | Side::Sent { interface, .. } => {
                interface.clone_from(name);
            }
        });
    }
    for state in [
        State::New,
        State::Established,
        State::Related,
        State::Invalid,
        State::Untracked,
    ] {
        push(&|flow| flow.state = state);
    }
    push(&|flow| {
        flow.state = State::Established;
        flow.answers = true;
    });
    if matches!(flow.side, Side::Sent { .. }) {
        for id in &values.uids {
            push(&|flow| set_socket(flow, Some(*id), None, None));
        }
        for id in &values.gids {
            push(&|flow| set_socket(flow, None, Some(*id), None));
        }
        for path in &values.cgroups {
            push(&|flow| set_socket(flow, None, None, Some(path)));
        }
        push(&|flow| {
            if let Side::Sent { sender, .. } = &mut flow.side {
                *sender = Sender::NoSocket;
            }
        });
    }
    flows
}
/// How it may end; `None`: that is not known.
fn outcomes(verdict: Verdict) -> Option<Vec<Outcome>> {
    let mut outcomes = match verdict {
        Verdict::Certain(outcome) => vec![outcome],
        Verdict::Depends {
            cases,
            exhaustive: true,
            ..
        } => cases.into_iter().map(|case| case.outcome).collect(),
        Verdict::Depends { .. } => return None,
    };
    for outcome in &mut outcomes {
        if outcome.fate == Fate::Unknown {
            return None;
        }
        outcome.assumes_listener = false;
    }
    Some(outcomes)
}

fn sides() -> Vec<Side> {
    let arrives = |interface: &str| Side::Arrives {
        interface: interface.to_owned(),
        forwarded_by: None,
    };
    let sent = |interface: &str| Side::Sent {
        interface: interface.to_owned(),
        sender: Sender::Socket {
            uid: Some(1000),
            gid: Some(1000),
            cgroup: Some(String::new()),
        },
    };
    vec![arrives("eth0"), sent("eth0"), sent("lo"), arrives("lo")]
}

/// A connection that no rule need know.
fn plain(side: &Side, family: Family) -> Flow {
    let (source, destination): (IpAddr, IpAddr) = match family {
        Family::V4 => (
            Ipv4Addr::new(10, 9, 0, 2).into(),
            Ipv4Addr::new(10, 9, 0, 7).into(),
        ),
        Family::V6 => (
            Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 7).into(),
        ),
    };
    Flow {
        side: side.clone(),
        protocol: Protocol::Tcp,
        source: SocketAddr::new(source, 40_000),
        destination: SocketAddr::new(destination, 80),
        state: State::New,
        mark: 0,
        answers: false,
        connection_mark: 0,
    }
}

/// For each rule the packets that its own tests let through.
fn fitting(rules: &Rules) -> Vec<Flow> {
    let chains = rules.chains.iter();
    let rules = chains.flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    rules
        .flat_map(|(chain, rule)| {
            let hook = chain.base.as_ref().map(|base: &Base| base.hook);
            let families = [Family::V4, Family::V6].into_iter();
            let families =
                families.filter(|family| chain.family.is_none_or(|only| only == *family));
            families.flat_map(move |family| fitting_rule(rule, hook, family))
        })
        .collect()
}

fn fitting_rule(rule: &Rule, hook: Option<Hook>, family: Family) -> Vec<Flow> {
    let sides = sides().into_iter().filter(|side| match (hook, side) {
        (Some(Hook::Output | Hook::Postrouting | Hook::Egress), Side::Arrives { .. }) => false,
        // What is sent by lo comes to these too.
        (Some(Hook::Prerouting | Hook::Input | Hook::Ingress), Side::Sent { interface, .. }) => {
            interface == "lo"
        }
        _ => true,
    });
    sides
        .map(|side| {
            let mut flow = plain(&side, family);
            for clause in &rule.clauses {
                if let Clause::Test(condition) = clause {
                    satisfy(&mut flow, &condition.test, condition.negated);
                }
            }
            flow
        })
        .collect()
}

/// Changes a flow so that a test holds, if one value can do that.
fn satisfy(flow: &mut Flow, test: &Test, negated: bool) {
    let end = |flow: &mut Flow, end: End, change: &dyn Fn(&mut SocketAddr)| match end {
        End::Source => change(&mut flow.source),
        End::Destination => change(&mut flow.destination),
    };
    match test {
        Test::Interface(way, names) => {
            let Some(name) = names.first().filter(|_| !negated) else {
                return;
            };
            match (&mut flow.side, way) {
                (Side::Arrives { interface, .. }, Way::In)
                | (Side::Sent { interface, .. }, Way::Out) => interface.clone_from(&name.stem),
                _ => {}
            }
        }
        Test::Protocol(numbers) => {
            if let Some((number, _)) = numbers.iter().next().filter(|_| !negated) {
                flow.protocol = Protocol::from_number(u8::try_from(number).unwrap_or(0));
            }
        }
        Test::V4(at, block) => {
            if let (Some(bits), Family::V4) = (pick(block, negated), flow.family()) {
                let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
                end(flow, *at, &|at| at.set_ip(address));
            }
        }
        Test::V6(at, block) => {
            if let (Some(bits), Family::V6) = (pick(block, negated), flow.family()) {
                let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
                end(flow, *at, &|at| at.set_ip(address));
            }
        }
        Test::Port(at, protocol, ports) => {
            flow.protocol = protocol.unwrap_or(flow.protocol);
            if let Some(port) = pick(ports, negated) {
                end(flow, *at, &|at| at.set_port(port));
            }
        }
        Test::EitherPort(ports) => {
            if let Some(port) = pick(ports, negated) {
                flow.destination.set_port(port);
            }
        }
        Test::Uid(ids) => set_socket(flow, pick(ids, negated), None, None),
        Test::Gid(ids) => set_socket(flow, None, pick(ids, negated), None),
        Test::Cgroup { path } if !negated => set_socket(flow, None, None, Some(path)),
        Test::Mark { values, .. } => flow.mark = pick(values, negated).unwrap_or(flow.mark),
        Test::ConnectionMark { values, .. } => {
            flow.connection_mark = pick(values, negated).unwrap_or(flow.connection_mark);
        }
        Test::States(states) => {
            if let Some(state) = states.first().filter(|_| !negated) {
                flow.state = *state;
            }
        }
        Test::Original => {
            flow.answers = negated;
            if negated {
                flow.state = State::Established;
            }
        }
        Test::Family(_)
        | Test::Socket
        | Test::Cgroup { .. }
        | Test::Local(_)
        | Test::Unknown(_) => {}
    }
}

/// A value inside, or outside.
fn pick<T: Scalar>(ranges: &Ranges<T>, outside: bool) -> Option<T> {
    let mut ends = ranges.iter();
    if outside {
        ends.find_map(|(_, last)| last.successor())
    } else {
        ends.next().map(|(first, _)| first)
    }
}

/// Changes what is given of a sender's socket.
fn set_socket(flow: &mut Flow, uid: Option<u32>, gid: Option<u32>, cgroup: Option<&str>) {
    let Side::Sent { sender, .. } = &mut flow.side else {
        return;
    };
    if let Sender::Socket {
        uid: own_uid,
        gid: own_gid,
        cgroup: own_cgroup,
    } = sender
    {
        *own_uid = uid.or(*own_uid);
        *own_gid = gid.or(*own_gid);
        if let Some(path) = cgroup {
            *own_cgroup = Some(path.to_owned());
        }
    }
}
