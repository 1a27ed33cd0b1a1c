//! Our own rules, as [`crate::plan()`] makes them or the kernel holds them.

use std::sync::Arc;

use shunt_abi::mark::CAPTURED;
use shunt_abi::name;

use super::flow::{Protocol, State};
use super::model::{
    Action, Base, Chain, Clause, Condition, Dialect, End, Hook, Kind, Label, LocalMark, MarkValue,
    NamePattern, Rule, Rules, Test, Tproxy, Way,
};
use crate::nft::render;
use crate::plan::Plan;
use crate::ranges::{Ranges, Scalar};
use crate::ruleset::{
    self, AddressTest, Elements, Family, Match, PortTest, Ruleset, Stage, Verdict,
};

impl Rules {
    /// The rules of a plan, and its policy routing.
    #[must_use]
    pub fn from_plan(plan: &Plan) -> Self {
        let mut rules = Self::from_ruleset(&plan.ruleset);
        if let Some(routing) = &plan.routing {
            let families = [Some(Family::V4), routing.ipv6.then_some(Family::V6)];
            let marks = families.into_iter().flatten().map(|family| LocalMark {
                mark: routing.mark,
                family,
            });
            rules.local_marks.extend(marks);
        }
        rules
    }

    /// The rules of our table, without policy routing: what [`Self::delivering_mark`] adds.
    #[must_use]
    pub fn from_ruleset(ruleset: &Ruleset) -> Self {
        let sets = Sets::of(ruleset);
        let chains = ruleset.chains.iter().map(|chain| Chain {
            table: format!("inet {}", name::NFT_TABLE),
            name: chain.hook.chain().to_owned(),
            family: None,
            dialect: Dialect::Nft,
            base: Some(base(chain.hook)),
            rules: chain.rules.iter().map(|rule| sets.rule(rule)).collect(),
        });
        Self {
            chains: chains.collect(),
            ..Self::default()
        }
    }
}

fn base(hook: ruleset::Hook) -> Base {
    let stage = hook.stage();
    Base {
        hook: if hook.is_output() {
            Hook::Output
        } else {
            Hook::Prerouting
        },
        kind: match stage {
            Stage::Nat => Kind::Nat,
            Stage::Mangle if hook.is_output() => Kind::Route,
            Stage::Raw | Stage::Mangle => Kind::Filter,
        },
        priority: stage.priority(),
        drops: false,
    }
}

/// The sets that rules name, shared by them.
struct Sets(Vec<(String, Content)>);

enum Content {
    Ports(Arc<Ranges<u16>>),
    /// IPv4 addresses, user and group ids.
    Numbers(Arc<Ranges<u32>>),
    V6(Arc<Ranges<u128>>),
}

impl Sets {
    fn of(ruleset: &Ruleset) -> Self {
        let sets = ruleset.sets.iter().map(|set| {
            let content = match &set.elements {
                Elements::Ports(ports) => Content::Ports(Arc::new(ports.clone())),
                Elements::V4(numbers) | Elements::Uids(numbers) | Elements::Gids(numbers) => {
                    Content::Numbers(Arc::new(numbers.clone()))
                }
                Elements::V6(blocks) => Content::V6(Arc::new(blocks.clone())),
            };
            (set.name.clone(), content)
        });
        Self(sets.collect())
    }

    fn content(&self, name: &str) -> Option<&Content> {
        let mut sets = self.0.iter();
        sets.find(|(known, _)| known == name)
            .map(|(_, content)| content)
    }

    fn rule(&self, rule: &ruleset::Rule) -> Rule {
        let tests = rule.matches.iter().flat_map(|test| self.conditions(test));
        let actions = actions(rule.verdict).into_iter().map(Clause::Act);
        Rule {
            label: Label {
                comment: Some(rule.key.clone()),
                text: render::rule(rule),
            },
            clauses: tests.map(Clause::Test).chain(actions).collect(),
        }
    }

    fn conditions(&self, test: &Match) -> Vec<Condition> {
        let is = |test| vec![Condition::new(test)];
        let mark = |mark: &u32| Test::Mark {
            mask: u32::MAX,
            values: only(*mark),
        };
        let connection_mark = |mark: &u32| Test::ConnectionMark {
            mask: u32::MAX,
            values: only(*mark),
        };
        match test {
            Match::Family(family) => is(Test::Family(*family)),
            Match::InLoopback => is(Test::Interface(Way::In, vec![NamePattern::exact("lo")])),
            Match::OutLoopback => is(Test::Interface(Way::Out, vec![NamePattern::exact("lo")])),
            Match::InInterface(name) => is(Test::Interface(Way::In, vec![pattern(name)])),
            Match::OutInterface(name) => is(Test::Interface(Way::Out, vec![pattern(name)])),
            Match::Protocol(protocol) => {
                let number = u16::from(convert(*protocol).number());
                is(Test::Protocol([(number, number)].into_iter().collect()))
            }
            Match::Source(test) => vec![self.address(End::Source, test)],
            Match::Destination(test) => vec![self.address(End::Destination, test)],
            Match::SourcePort(protocol, test) => vec![self.port(End::Source, *protocol, test)],
            Match::DestinationPort(protocol, test) => {
                vec![self.port(End::Destination, *protocol, test)]
            }
            Match::OwnerUid(set) => vec![self.numbers(set, Test::Uid)],
            Match::OwnerGid(set) => vec![self.numbers(set, Test::Gid)],
            Match::NotOwnerGid(set) => {
                let mut condition = self.numbers(set, Test::Gid);
                condition.negated = true;
                vec![condition]
            }
            Match::Cgroup(cgroup) => is(Test::Cgroup {
                path: cgroup.path.as_str().to_owned(),
            }),
            Match::Mark(value) => is(mark(value)),
            Match::NotMark(value) => vec![Condition::not(mark(value))],
            Match::ConnectionMark(value) => is(connection_mark(value)),
            Match::NotConnectionMark(value) => vec![Condition::not(connection_mark(value))],
            Match::Original => is(Test::Original),
            Match::Established => is(Test::States(vec![State::Established, State::Related])),
            Match::Invalid => is(Test::States(vec![State::Invalid])),
        }
    }

    fn numbers(&self, set: &str, test: fn(Arc<Ranges<u32>>) -> Test) -> Condition {
        Condition::new(match self.content(set) {
            Some(Content::Numbers(numbers)) => test(Arc::clone(numbers)),
            _ => missing(set),
        })
    }

    fn address(&self, end: End, test: &AddressTest) -> Condition {
        let single = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => Test::V4(end, only(address.to_bits())),
            std::net::IpAddr::V6(address) => Test::V6(end, only(address.to_bits())),
        };
        let block = |family: &Family, set: &str| match (family, self.content(set)) {
            (Family::V4, Some(Content::Numbers(block))) => Test::V4(end, Arc::clone(block)),
            (Family::V6, Some(Content::V6(block))) => Test::V6(end, Arc::clone(block)),
            _ => missing(set),
        };
        match test {
            AddressTest::Is(address) => Condition::new(single(address)),
            AddressTest::IsNot(address) => Condition::not(single(address)),
            AddressTest::In(family, set) => Condition::new(block(family, set)),
            AddressTest::NotIn(family, set) => Condition::not(block(family, set)),
        }
    }

    fn port(&self, end: End, protocol: ruleset::Protocol, test: &PortTest) -> Condition {
        let protocol = Some(convert(protocol));
        let listed = |set: &str| match self.content(set) {
            Some(Content::Ports(ports)) => Test::Port(end, protocol, Arc::clone(ports)),
            _ => missing(set),
        };
        match test {
            PortTest::Is(port) => Condition::new(Test::Port(end, protocol, only(*port))),
            PortTest::IsNot(port) => Condition::not(Test::Port(end, protocol, only(*port))),
            PortTest::In(set) => Condition::new(listed(set)),
            PortTest::NotIn(set) => Condition::not(listed(set)),
        }
    }
}

fn actions(verdict: Verdict) -> Vec<Action> {
    match verdict {
        Verdict::Return => vec![Action::Return],
        Verdict::Drop => vec![Action::Drop],
        Verdict::Redirect(port) => vec![Action::Redirect(Some((port.get(), port.get())))],
        Verdict::Tproxy { port, mark } => vec![
            Action::SetConnectionMark(MarkValue::Constant(CAPTURED)),
            Action::Tproxy(Tproxy {
                port: Some(port.get()),
                xtables: None,
            }),
            Action::SetMark(MarkValue::Constant(mark)),
            Action::Accept,
        ],
        Verdict::SetMark(mark) => {
            vec![Action::SetMark(MarkValue::Constant(mark)), Action::Return]
        }
        Verdict::RestoreMark => vec![Action::SetMark(MarkValue::Connection), Action::Return],
        Verdict::SaveMark => vec![Action::SetConnectionMark(MarkValue::Packet), Action::Return],
        Verdict::Zone(zone) => vec![Action::Zone(zone), Action::Return],
    }
}

fn pattern(name: &crate::capture::InterfaceName) -> NamePattern {
    NamePattern::new(name.as_str(), '+')
}

fn convert(protocol: ruleset::Protocol) -> Protocol {
    match protocol {
        ruleset::Protocol::Tcp => Protocol::Tcp,
        ruleset::Protocol::Udp => Protocol::Udp,
    }
}

fn only<T: Scalar>(value: T) -> Arc<Ranges<T>> {
    Arc::new([(value, value)].into_iter().collect())
}

fn missing(set: &str) -> Test {
    Test::Unknown(format!(
        "set {set}, which the table does not hold as that type"
    ))
}
