//! Packets of connections that TPROXY captures, both ways: mangle PREROUTING and OUTPUT.
//!
//! Four kinds of packets meet here. A client's go to the proxy's socket, marked, and so is their
//! connection, by another mark that tells it from those which were not captured. The proxy's to
//! the application carry the mark already, and the connection remembers it. The application's
//! answers get it back, so that they reach the proxy and not the client. And the proxy's calls to
//! its own pod get a mark of their own on the way out, by which they are told from the
//! application's when they arrive on `lo`.

use std::net::IpAddr;

use shunt_abi::{addr, mark, rule as key};

use super::cidrs::Names;
use super::identity::Keys;
use super::inbound::ExceptionKeys;
use super::{Planner, by_interface, rule};
use crate::ruleset::{AddressTest, Match, Protocol, Rule, Verdict};

impl Planner<'_> {
    /// The chain on mangle PREROUTING, and its key for IPv6 that is off.
    pub(super) fn arriving_packets(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = Vec::new();
        if self.config.drop_invalid {
            rules.push(rule(key::DROP_INVALID, [Match::Invalid], Verdict::Drop));
        }
        if let Some((mark, _)) = self.config.inbound.tproxy() {
            self.not_for_the_proxy(&mut rules, mark.get());
            self.for_the_proxy(&mut rules, mark.get());
        }
        (key::MANGLE_INBOUND_IPV6_OFF, rules)
    }

    fn not_for_the_proxy(&mut self, rules: &mut Vec<Rule>, marked: u32) {
        let interfaces = &self.config.interfaces;
        let passing = interfaces
            .exclude
            .iter()
            .map(|interface| (key::TPROXY_INBOUND_INTERFACE, interface));
        let rerouted = interfaces
            .reroute
            .iter()
            .map(|interface| (key::TPROXY_REROUTE_INTERFACE, interface));
        for (key, interface) in passing.chain(rerouted) {
            rules.push(rule(
                &by_interface(key, interface),
                [Match::InInterface(interface.clone())],
                Verdict::Return,
            ));
        }
        // While rules are replaced a packet may meet the old and the new: what the former have
        // captured, or marked as an answer, is not what the proxy sends.
        rules.push(rule(
            key::TPROXY_MARKED,
            [
                Match::InLoopback,
                Match::Mark(marked),
                Match::NotConnectionMark(mark::CAPTURED),
                Match::Protocol(Protocol::Tcp),
            ],
            Verdict::SaveMark,
        ));
        for (key, source) in self.by_family([
            (
                key::TPROXY_INBOUND_SOURCE_V4,
                IpAddr::V4(addr::INBOUND_SOURCE_V4),
            ),
            (
                key::TPROXY_INBOUND_SOURCE_V6,
                IpAddr::V6(addr::INBOUND_SOURCE_V6),
            ),
        ]) {
            rules.push(rule(
                key,
                [Match::InLoopback, Match::Source(AddressTest::Is(source))],
                Verdict::Return,
            ));
        }
        rules.push(rule(
            key::TPROXY_LOOPBACK_INTERFACE,
            [Match::InLoopback, Match::NotMark(mark::SELF_CALL)],
            Verdict::Return,
        ));
        rules.extend(self.inbound_exceptions(&TPROXY_EXCEPTIONS));
        let loopback = self.loopback(true);
        for (key, loopback) in self
            .by_family([key::TPROXY_LOOPBACK_V4, key::TPROXY_LOOPBACK_V6])
            .zip(loopback)
        {
            rules.push(rule(key, [Match::Destination(loopback)], Verdict::Return));
        }
    }

    fn for_the_proxy(&mut self, rules: &mut Vec<Rule>, marked: u32) {
        let Some(ports) = self.inbound_ports() else {
            return;
        };
        let port = self.config.inbound.port;
        // A connection whose opening the kernel answered with a SYN cookie is known to conntrack,
        // but to no socket until its second packet has found the one that listens.
        rules.push(rule(
            key::TPROXY_CAPTURED,
            [
                ports.clone(),
                Match::ConnectionMark(mark::CAPTURED),
                Match::Original,
            ],
            Verdict::Tproxy { port, mark: marked },
        ));
        rules.push(rule(
            key::TPROXY_ESTABLISHED,
            [ports.clone(), Match::Established],
            Verdict::SetMark(marked),
        ));
        rules.push(rule(
            key::TPROXY_CAPTURE,
            [ports.clone()],
            Verdict::Tproxy { port, mark: marked },
        ));
        // Without a listener the rule above does not match; the packet must not reach the
        // application uncaptured.
        rules.push(rule(key::TPROXY_NO_LISTENER, [ports], Verdict::Drop));
    }

    /// The chain on mangle OUTPUT, and its key for IPv6 that is off.
    pub(super) fn sent_packets(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = Vec::new();
        if let Some((marked, _)) = self.config.inbound.tproxy() {
            for interface in &self.config.interfaces.exclude {
                rules.push(rule(
                    &by_interface(key::TPROXY_OUTBOUND_INTERFACE, interface),
                    [Match::OutInterface(interface.clone())],
                    Verdict::Return,
                ));
            }
            rules.push(rule(
                key::TPROXY_TO_APP,
                [Match::OutLoopback, Match::Mark(marked.get())],
                Verdict::Return,
            ));
            if self.config.proxy.self_calls {
                for ((by, family), matches) in self.self_call_matches() {
                    rules.push(rule(
                        SELF_CALL.of(by)[family],
                        matches,
                        Verdict::SetMark(mark::SELF_CALL),
                    ));
                }
            }
            rules.push(rule(
                key::TPROXY_FROM_APP,
                [Match::ConnectionMark(marked.get())],
                Verdict::RestoreMark,
            ));
        }
        (key::MANGLE_OUTBOUND_IPV6_OFF, rules)
    }
}

const TPROXY_EXCEPTIONS: ExceptionKeys = ExceptionKeys {
    tunnel: key::TPROXY_TUNNEL,
    ports: key::TPROXY_EXCLUDE_PORTS,
    sources: [
        Names {
            list: key::TPROXY_EXCLUDE_SOURCES_V4,
            blocks: key::TPROXY_EXCLUDE_BLOCKS_V4,
        },
        Names {
            list: key::TPROXY_EXCLUDE_SOURCES_V6,
            blocks: key::TPROXY_EXCLUDE_BLOCKS_V6,
        },
    ],
};

const SELF_CALL: Keys<[&str; 2]> = Keys {
    uid: [key::TPROXY_SELF_CALL_UID_V4, key::TPROXY_SELF_CALL_UID_V6],
    gid: [key::TPROXY_SELF_CALL_GID_V4, key::TPROXY_SELF_CALL_GID_V6],
    mark: [key::TPROXY_SELF_CALL_MARK_V4, key::TPROXY_SELF_CALL_MARK_V6],
    cgroup: [
        key::TPROXY_SELF_CALL_CGROUP_V4,
        key::TPROXY_SELF_CALL_CGROUP_V6,
    ],
};
