//! Connections that a process of the pod opens: nat OUTPUT.

use std::net::IpAddr;

use shunt_abi::name::set;
use shunt_abi::{addr, mark, port, rule as key};

use super::cidrs::{ByFamily, Names, OUTBOUND_EXCLUDE, OUTBOUND_INCLUDE};
use super::identity::{By, Keys, ids};
use super::{Planner, by_interface, rule};
use crate::capture::{OutboundCapture, OwnerGroups, Port};
use crate::ruleset::{AddressTest, Elements, Match, PortTest, Protocol, Rule, Verdict};

impl Planner<'_> {
    /// The chain on nat OUTPUT, and its key for IPv6 that is off.
    pub(super) fn opened_connections(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = Vec::new();
        for interface in &self.config.interfaces.exclude {
            rules.push(rule(
                &by_interface(key::OUTBOUND_INTERFACE, interface),
                [Match::OutInterface(interface.clone())],
                Verdict::Return,
            ));
        }
        self.excluded_ports(&mut rules);
        self.inbound_source(&mut rules);
        self.self_calls(&mut rules);
        self.proxy_passes(&mut rules);
        self.loopback_interface(&mut rules);
        self.owner_groups(&mut rules);
        self.dns_queries(&mut rules);
        let loopback = self.loopback(true);
        for (key, loopback) in self
            .by_family([key::LOOPBACK_V4, key::LOOPBACK_V6])
            .zip(loopback)
        {
            rules.push(rule(key, [Match::Destination(loopback)], Verdict::Return));
        }
        self.excluded_cidrs(&mut rules);
        self.captured(&mut rules);
        (key::OUTBOUND_IPV6_OFF, rules)
    }

    fn excluded_ports(&mut self, rules: &mut Vec<Rule>) {
        let exclude = &self.config.outbound.exclude_ports;
        if let Some(ports) = self.ports(set::OUTBOUND_EXCLUDE_PORTS, exclude) {
            for (key, protocol) in [
                (key::OUTBOUND_EXCLUDE_PORTS_TCP, Protocol::Tcp),
                (key::OUTBOUND_EXCLUDE_PORTS_UDP, Protocol::Udp),
            ] {
                rules.push(rule(
                    key,
                    [Match::DestinationPort(protocol, ports.clone())],
                    Verdict::Return,
                ));
            }
        }
    }

    /// What the proxy hands to the application: it binds a source that nothing else uses.
    fn inbound_source(&self, rules: &mut Vec<Rule>) {
        for (key, source) in self.by_family([
            (key::INBOUND_SOURCE_V4, IpAddr::V4(addr::INBOUND_SOURCE_V4)),
            (key::INBOUND_SOURCE_V6, IpAddr::V6(addr::INBOUND_SOURCE_V6)),
        ]) {
            rules.push(rule(
                key,
                [Match::OutLoopback, Match::Source(AddressTest::Is(source))],
                Verdict::Return,
            ));
        }
    }

    /// The proxy's calls to its own pod enter the inbound side. With TPROXY marks do that, and
    /// here they only pass: a connection that was redirected would look to the proxy as if it had
    /// been opened to the proxy's own port.
    fn self_calls(&mut self, rules: &mut Vec<Rule>) {
        if !self.config.proxy.self_calls {
            return;
        }
        if self.config.inbound.tproxy().is_some() {
            rules.push(rule(
                key::SELF_CALL_MARKED,
                [Match::OutLoopback, Match::Mark(mark::SELF_CALL)],
                Verdict::Return,
            ));
            return;
        }
        let verdict = Verdict::Redirect(self.config.inbound.port);
        for (keys, matches) in self.self_call_matches() {
            rules.push(rule(SELF_CALL.of(keys.0)[keys.1], matches, verdict));
        }
    }

    /// For each way of recognising the proxy and each family: what tells its calls to its own pod.
    pub(super) fn self_call_matches(&mut self) -> Vec<((By, usize), Vec<Match>)> {
        let not_loopback = self.loopback(false);
        let tcp = self.self_call_ports();
        let mut calls = Vec::new();
        for (by, owner) in self.identities() {
            for (family, test) in self.by_family([0, 1]).zip(not_loopback.clone()) {
                let matches = vec![
                    Match::OutLoopback,
                    Match::Destination(test),
                    tcp.clone(),
                    owner.clone(),
                ];
                calls.push(((by, family), matches));
            }
        }
        calls
    }

    /// TCP, but not to the tunnel, and not to a resolver in the pod if DNS is captured.
    fn self_call_ports(&mut self) -> Match {
        let tunnel = self.config.inbound.tunnel.map(Port::get);
        let dns = self.config.dns.as_ref().map(|_dns| port::DNS);
        let test = match (tunnel, dns) {
            (None, None) => return Match::Protocol(Protocol::Tcp),
            (Some(one), None) | (None, Some(one)) => PortTest::IsNot(one),
            (Some(tunnel), Some(dns)) => {
                let both = [(tunnel, tunnel), (dns, dns)].into_iter().collect();
                self.declare(set::SELF_CALL_EXCLUDE_PORTS, Elements::Ports(both));
                PortTest::NotIn(set::SELF_CALL_EXCLUDE_PORTS.to_owned())
            }
        };
        Match::DestinationPort(Protocol::Tcp, test)
    }

    fn proxy_passes(&mut self, rules: &mut Vec<Rule>) {
        for (by, owner) in self.identities() {
            rules.push(rule(PROXY.of(by), [owner], Verdict::Return));
        }
    }

    /// The application to itself over `lo`, which carries its own pod IP too.
    fn loopback_interface(&self, rules: &mut Vec<Rule>) {
        if self.config.outbound.asks_for_loopback() {
            return;
        }
        let mut matches = vec![Match::OutLoopback];
        if self.config.dns.is_some() {
            // A resolver may stand on a loopback address; of UDP, only its queries are captured.
            let not_dns = PortTest::IsNot(port::DNS);
            matches.push(Match::DestinationPort(Protocol::Tcp, not_dns));
        }
        rules.push(rule(key::LOOPBACK_INTERFACE, matches, Verdict::Return));
    }

    fn owner_groups(&mut self, rules: &mut Vec<Rule>) {
        let matches = match &self.config.outbound.owners {
            OwnerGroups::Except(groups) if groups.is_empty() => return,
            OwnerGroups::Except(groups) => {
                self.declare(set::OWNER_GROUPS, Elements::Gids(ids(groups)));
                vec![Match::OwnerGid(set::OWNER_GROUPS.to_owned())]
            }
            OwnerGroups::Only(groups) if groups.is_empty() => Vec::new(),
            OwnerGroups::Only(groups) => {
                self.declare(set::OWNER_GROUPS, Elements::Gids(ids(groups)));
                vec![Match::NotOwnerGid(set::OWNER_GROUPS.to_owned())]
            }
        };
        rules.push(rule(key::OWNER_GROUPS, matches, Verdict::Return));
    }

    fn excluded_cidrs(&mut self, rules: &mut Vec<Rule>) {
        let cidrs = &self.config.outbound.exclude_cidrs;
        for (key, test) in self.cidrs(OUTBOUND_EXCLUDE, EXCLUDE, cidrs) {
            rules.push(rule(key, [Match::Destination(test)], Verdict::Return));
        }
    }

    fn captured(&mut self, rules: &mut Vec<Rule>) {
        let outbound = &self.config.outbound;
        let capture = Verdict::Redirect(outbound.port);
        if let Some(ports) = self.ports(set::OUTBOUND_INCLUDE_PORTS, &outbound.include_ports) {
            rules.push(rule(
                key::OUTBOUND_INCLUDE_PORTS,
                [Match::DestinationPort(Protocol::Tcp, ports)],
                capture,
            ));
        }
        match &outbound.capture {
            OutboundCapture::All => rules.push(rule(
                key::OUTBOUND_CAPTURE,
                [Match::Protocol(Protocol::Tcp)],
                capture,
            )),
            OutboundCapture::Only(cidrs) => {
                for (key, test) in self.cidrs(OUTBOUND_INCLUDE, INCLUDE, cidrs) {
                    rules.push(rule(
                        key,
                        [Match::Destination(test), Match::Protocol(Protocol::Tcp)],
                        capture,
                    ));
                }
            }
        }
    }
}

const SELF_CALL: Keys<[&str; 2]> = Keys {
    uid: [key::SELF_CALL_UID_V4, key::SELF_CALL_UID_V6],
    gid: [key::SELF_CALL_GID_V4, key::SELF_CALL_GID_V6],
    mark: [key::SELF_CALL_MARK_V4, key::SELF_CALL_MARK_V6],
    cgroup: [key::SELF_CALL_CGROUP_V4, key::SELF_CALL_CGROUP_V6],
};

const EXCLUDE: ByFamily = [
    Names {
        list: key::OUTBOUND_EXCLUDE_V4,
        blocks: key::OUTBOUND_EXCLUDE_BLOCKS_V4,
    },
    Names {
        list: key::OUTBOUND_EXCLUDE_V6,
        blocks: key::OUTBOUND_EXCLUDE_BLOCKS_V6,
    },
];

const INCLUDE: ByFamily = [
    Names {
        list: key::OUTBOUND_INCLUDE_V4,
        blocks: key::OUTBOUND_INCLUDE_BLOCKS_V4,
    },
    Names {
        list: key::OUTBOUND_INCLUDE_V6,
        blocks: key::OUTBOUND_INCLUDE_BLOCKS_V6,
    },
];

const PROXY: Keys<&str> = Keys {
    uid: key::PROXY_UID,
    gid: key::PROXY_GID,
    mark: key::PROXY_MARK,
    cgroup: key::PROXY_CGROUP,
};
