//! Which probes a rule set asks for: for each rule those that it decides on, at the edges of its
//! sets too, and for each edge one that lies just outside.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_abi::{addr, port};

use super::decide::{self, Decision, Flow, PROTOCOLS, Sender, Way, decide};
use super::stage::Place;
use super::tproxy;
use super::values::{
    Ability, addresses, is_far, next_port, ports, senders, source_ports_named, use_up, usual_port,
};
use super::wire::Ends;
use crate::ruleset::{AddressTest, Family, Hook, Match, PortTest, Protocol, Rule, Ruleset};

/// A flow, and what the rules should do to it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) flow: Flow,
    pub(super) decision: Decision,
}

/// Probes in all, so that their time is bounded.
const PROBES: usize = 600;

/// The probes of a rule set. `listening`: whether TPROXY finds a listener.
pub(super) fn probes(
    rules: &Ruleset,
    places: &[Place],
    local: &[IpAddr],
    ability: Ability,
    listening: bool,
) -> Vec<Probe> {
    let mut chosen = Chosen {
        rules,
        routed: tproxy::capture(rules).map(|(_, mark)| mark),
        listening,
        probes: Vec::new(),
        known: BTreeSet::new(),
    };
    let senders = senders(rules, ability);
    let values: Vec<_> = places
        .iter()
        .map(|place| Values::new(rules, place, local, &senders))
        .collect();
    for chain in &rules.chains {
        for rule in &chain.rules {
            for values in &values {
                chosen.decided_by(chain.hook, rule, values);
            }
        }
    }
    for values in &values {
        chosen.edges(values);
    }
    chosen.probes.truncate(PROBES);
    chosen.probes
}

/// What the parts of a flow can be, in one family. The first of each is the usual one.
struct Values<'a> {
    place: &'a Place,
    senders: &'a [Sender],
    loopback: IpAddr,
    destinations: Vec<IpAddr>,
    sources_sent: Vec<IpAddr>,
    sources_arrived: Vec<IpAddr>,
    source_ports: Vec<Option<u16>>,
    ports_sent: Vec<u16>,
    ports_arrived: Vec<u16>,
    /// How many of the destinations, arriving sources and destination ports are not from the rules.
    usual: [usize; 3],
}

impl<'a> Values<'a> {
    fn new(rules: &Ruleset, place: &'a Place, local: &[IpAddr], senders: &'a [Sender]) -> Self {
        let family = Family::of(place.own);
        let (loopback, inbound_source) = match family {
            Family::V4 => (
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V4(addr::INBOUND_SOURCE_V4),
            ),
            Family::V6 => (
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                IpAddr::V6(addr::INBOUND_SOURCE_V6),
            ),
        };
        let mut destinations = vec![place.elsewhere, place.own, loopback];
        let mut sources_arrived = vec![place.client];
        let usual_addresses = [destinations.len(), sources_arrived.len()];
        for address in addresses(rules, family) {
            if is_far(address) && !local.contains(&address) {
                destinations.push(address);
                sources_arrived.push(address);
            }
        }
        if family == Family::V4 {
            // Not all of 127.0.0.0/8 counts as loopback.
            destinations.push(Ipv4Addr::new(127, 0, 0, 2).into());
        }
        let usual_ports = [usual_port(rules), port::DNS];
        let with = |output| {
            let mut all = usual_ports.to_vec();
            all.extend(ports(rules, output));
            all
        };
        let mut source_ports = vec![None];
        source_ports.extend(source_ports_named(rules).map(Some));
        Self {
            place,
            senders,
            loopback,
            destinations,
            sources_sent: vec![place.own, inbound_source],
            sources_arrived,
            source_ports,
            ports_sent: with(true),
            ports_arrived: with(false),
            usual: [usual_addresses[0], usual_addresses[1], usual_ports.len()],
        }
    }
}

/// The probes so far.
struct Chosen<'a> {
    rules: &'a Ruleset,
    /// What is marked so is routed by its mark, wherever it goes.
    routed: Option<u32>,
    listening: bool,
    probes: Vec<Probe>,
    /// Flows that are among them, as text without the random port; and all their ports.
    known: BTreeSet<String>,
}

impl Chosen<'_> {
    /// Adds flows on which a rule decides: one, and one for each value of what it tests.
    fn decided_by(&mut self, hook: Hook, rule: &Rule, values: &Values<'_>) {
        let tests = Tests {
            rules: self.rules,
            rule,
        };
        let family = Family::of(values.place.own);
        if !tests.family(family) {
            return;
        }
        let [destinations, sources, ports] = values.usual;
        let nonsense = rule.matches.contains(&Match::Invalid);
        let mut covered = BTreeSet::new();
        for way in tests.ways(hook, values) {
            let (source_values, usual_sources) = match way {
                None => (&values.sources_arrived, sources),
                Some(_) => (&values.sources_sent, values.sources_sent.len()),
            };
            let port_values = match hook.is_output() {
                true => &values.ports_sent,
                false => &values.ports_arrived,
            };
            for protocol in PROTOCOLS {
                for destination in tests.destinations(&values.destinations, destinations) {
                    if way.is_none() && destination != values.place.own {
                        continue;
                    }
                    for source in tests.sources(source_values, usual_sources) {
                        for destination_port in tests.destination_ports(port_values, ports) {
                            for source_port in &values.source_ports {
                                // Conntrack would know the same ports again.
                                let again = source_port.is_some()
                                    && destination_port == values.ports_sent[0];
                                let destination_port =
                                    if again { next_port() } else { destination_port };
                                let ends = Ends {
                                    protocol,
                                    source: (source, source_port.unwrap_or_else(next_port)),
                                    destination: (destination, destination_port),
                                };
                                let Some(flow) = self.flow(way, ends, nonsense, values.place)
                                else {
                                    continue;
                                };
                                let decision = decide(self.rules, &flow, self.listening);
                                if !decision.keys.contains(&rule.key) {
                                    continue;
                                }
                                let known = covered.len();
                                covered.extend(tests.covers(&flow));
                                if covered.len() > known {
                                    self.add(flow, decision, source_port.is_some());
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Adds a flow for each edge of each set, whatever rule decides on it.
    fn edges(&mut self, values: &Values<'_>) {
        let place = values.place;
        let usual_port = values.ports_sent[0];
        let application = values.senders.first().copied();
        let mut add = |way: Option<Sender>, protocol, source, destination, port| {
            self.add_usual(way, protocol, (source, destination), port, place);
        };
        for port in &values.ports_sent {
            for sender in values.senders {
                add(Some(*sender), Protocol::Tcp, place.own, place.own, *port);
            }
            for protocol in PROTOCOLS {
                add(application, protocol, place.own, place.elsewhere, *port);
            }
        }
        for sender in values.senders {
            let tcp = Protocol::Tcp;
            add(Some(*sender), tcp, place.own, values.loopback, usual_port);
            add(Some(*sender), tcp, place.own, place.elsewhere, usual_port);
            let udp = Protocol::Udp;
            add(Some(*sender), udp, place.own, place.elsewhere, usual_port);
            add(Some(*sender), udp, place.own, place.elsewhere, port::DNS);
        }
        for destination in &values.destinations {
            for protocol in PROTOCOLS {
                add(application, protocol, place.own, *destination, usual_port);
            }
            add(
                application,
                Protocol::Udp,
                place.own,
                *destination,
                port::DNS,
            );
        }
        for source_port in values.source_ports.iter().flatten() {
            for (sender, source, destination) in [
                (application, place.own, place.elsewhere),
                (None, place.client, place.own),
            ] {
                let ends = Ends {
                    protocol: Protocol::Udp,
                    source: (source, *source_port),
                    destination: (destination, next_port()),
                };
                if let Some(flow) = self.flow(sender, ends, false, place) {
                    let decision = decide(self.rules, &flow, self.listening);
                    self.add(flow, decision, true);
                }
            }
        }
        let mut add = |way: Option<Sender>, protocol, source, destination, port| {
            self.add_usual(way, protocol, (source, destination), port, place);
        };
        for port in &values.ports_arrived {
            add(None, Protocol::Tcp, place.client, place.own, *port);
        }
        for source in &values.sources_arrived {
            for protocol in PROTOCOLS {
                add(None, protocol, *source, place.own, usual_port);
            }
        }
    }

    /// Adds a flow from any port.
    fn add_usual(
        &mut self,
        way: Option<Sender>,
        protocol: Protocol,
        (source, destination): (IpAddr, IpAddr),
        port: u16,
        place: &Place,
    ) {
        let ends = Ends {
            protocol,
            source: (source, next_port()),
            destination: (destination, port),
        };
        if let Some(flow) = self.flow(way, ends, false, place) {
            let decision = decide(self.rules, &flow, self.listening);
            self.add(flow, decision, false);
        }
    }

    /// A flow, if it can be made.
    fn flow(
        &self,
        sender: Option<Sender>,
        ends: Ends,
        nonsense: bool,
        place: &Place,
    ) -> Option<Flow> {
        let to = ends.destination.0;
        let by_loopback = to == place.own || to.is_loopback();
        let way = match sender {
            None => Way::Arrived,
            Some(sender) => {
                let away_possible = ends.source.0 == place.own;
                let by_mark = sender.mark != 0 && Some(sender.mark) == self.routed;
                if nonsense || (!by_loopback && (by_mark || !away_possible)) {
                    return None;
                }
                Way::Sent {
                    sender,
                    by_loopback,
                }
            }
        };
        Some(Flow {
            way,
            ends,
            nonsense,
        })
    }

    fn add(&mut self, flow: Flow, decision: Decision, named_source_port: bool) {
        let mut name = flow;
        if !named_source_port {
            name.ends.source.1 = 0;
        }
        let fresh = self.known.insert(format!("{:?}", flow.ends));
        if self.known.insert(format!("{name:?}")) && fresh {
            use_up(flow.ends.source.1);
            use_up(flow.ends.destination.1);
            self.probes.push(Probe { flow, decision });
        }
    }
}

/// What a rule tests.
struct Tests<'a> {
    rules: &'a Ruleset,
    rule: &'a Rule,
}

impl Tests<'_> {
    fn family(&self, family: Family) -> bool {
        self.rule.matches.iter().all(|test| match test {
            Match::Family(wanted) => *wanted == family,
            Match::Source(test) | Match::Destination(test) => tested(test) == family,
            _ => true,
        })
    }

    /// Senders, or `None` for arrival.
    fn ways(&self, hook: Hook, values: &Values<'_>) -> Vec<Option<Sender>> {
        let sent = values.senders.iter().copied().map(Some);
        if hook.is_output() {
            return sent.collect();
        }
        // By `lo` arrives what the pod has sent.
        [None].into_iter().chain(sent).collect()
    }

    fn destinations(&self, all: &[IpAddr], usual: usize) -> Vec<IpAddr> {
        self.chosen(all, usual, |test| match test {
            Match::Destination(test) => Some(test),
            _ => None,
        })
    }

    fn sources(&self, all: &[IpAddr], usual: usize) -> Vec<IpAddr> {
        self.chosen(all, usual, |test| match test {
            Match::Source(test) => Some(test),
            _ => None,
        })
    }

    fn chosen(
        &self,
        all: &[IpAddr],
        usual: usize,
        about: impl Fn(&Match) -> Option<&AddressTest>,
    ) -> Vec<IpAddr> {
        let tests: Vec<_> = self.rule.matches.iter().filter_map(about).collect();
        let values = if tests.is_empty() { &all[..usual] } else { all };
        let passes = |value: &&IpAddr| {
            let mut tests = tests.iter();
            tests.all(|test| decide::address(**value, test, self.rules))
        };
        values.iter().filter(passes).copied().collect()
    }

    fn destination_ports(&self, all: &[u16], usual: usize) -> Vec<u16> {
        let tests: Vec<_> = self
            .rule
            .matches
            .iter()
            .filter_map(|test| match test {
                Match::DestinationPort(_, test) => Some(test),
                _ => None,
            })
            .collect();
        let values = if tests.is_empty() { &all[..usual] } else { all };
        let passes = |value: &&u16| {
            tests
                .iter()
                .all(|test| decide::port(**value, test, self.rules))
        };
        values.iter().filter(passes).copied().collect()
    }

    /// The values of a flow that are worth a probe of their own.
    fn covers(&self, flow: &Flow) -> Vec<String> {
        let ends = &flow.ends;
        let mut covered = vec![format!("{:?}", ends.protocol)];
        for test in &self.rule.matches {
            match test {
                Match::Destination(AddressTest::In(..)) => {
                    covered.push(format!("to {}", ends.destination.0));
                }
                Match::Source(AddressTest::In(..)) => {
                    covered.push(format!("from {}", ends.source.0))
                }
                Match::DestinationPort(_, PortTest::In(_)) => {
                    covered.push(format!("to port {}", ends.destination.1));
                }
                Match::OwnerUid(_) | Match::OwnerGid(_) => {
                    if let Way::Sent { sender, .. } = flow.way {
                        covered.push(format!("{sender:?}"));
                    }
                }
                _ => {}
            }
        }
        covered
    }
}

fn tested(test: &AddressTest) -> Family {
    match test {
        AddressTest::Is(address) | AddressTest::IsNot(address) => Family::of(*address),
        AddressTest::In(family, _) | AddressTest::NotIn(family, _) => *family,
    }
}
