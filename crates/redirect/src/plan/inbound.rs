//! Connections that arrive: nat PREROUTING. UDP is never captured.

use shunt_abi::name::set;
use shunt_abi::rule as key;

use super::cidrs::{ByFamily, INBOUND_EXCLUDE, Names, OUTBOUND_INCLUDE};
use super::{Planner, by_interface, rule};
use crate::capture::{InboundCapture, InboundMode, OutboundCapture};
use crate::ruleset::{Match, PortTest, Protocol, Rule, Verdict};

impl Planner<'_> {
    /// The chain on nat PREROUTING, and its key for IPv6 that is off.
    pub(super) fn arriving_connections(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = self.rerouted();
        let inbound = &self.config.inbound;
        if inbound.mode == InboundMode::Redirect && !inbound.captures_nothing() {
            for interface in &self.config.interfaces.exclude {
                rules.push(rule(
                    &by_interface(key::INBOUND_INTERFACE, interface),
                    [Match::InInterface(interface.clone())],
                    Verdict::Return,
                ));
            }
            rules.extend(self.inbound_exceptions(&INBOUND_EXCEPTIONS));
            rules.extend(self.inbound_captured());
        }
        (key::INBOUND_IPV6_OFF, rules)
    }

    /// Ports and clients that pass, whichever way connections are captured.
    pub(super) fn inbound_exceptions(&mut self, keys: &ExceptionKeys) -> Vec<Rule> {
        let inbound = &self.config.inbound;
        let mut rules = Vec::new();
        if let Some(tunnel) = inbound.tunnel {
            let tunnel = PortTest::Is(tunnel.get());
            rules.push(rule(
                keys.tunnel,
                [Match::DestinationPort(Protocol::Tcp, tunnel)],
                Verdict::Return,
            ));
        }
        if let Some(ports) = self.ports(set::INBOUND_EXCLUDE_PORTS, &inbound.exclude_ports) {
            rules.push(rule(
                keys.ports,
                [Match::DestinationPort(Protocol::Tcp, ports)],
                Verdict::Return,
            ));
        }
        for (key, test) in self.cidrs(INBOUND_EXCLUDE, keys.sources, &inbound.exclude_sources) {
            rules.push(rule(key, [Match::Source(test)], Verdict::Return));
        }
        rules
    }

    /// The condition for a captured port.
    pub(super) fn inbound_ports(&mut self) -> Option<Match> {
        match &self.config.inbound.capture {
            InboundCapture::Nothing => None,
            InboundCapture::All => Some(Match::Protocol(Protocol::Tcp)),
            InboundCapture::Only(ports) => self
                .ports(set::INBOUND_INCLUDE_PORTS, ports)
                .map(|ports| Match::DestinationPort(Protocol::Tcp, ports)),
        }
    }

    fn inbound_captured(&mut self) -> Option<Rule> {
        let inbound = &self.config.inbound;
        let key = match inbound.capture {
            InboundCapture::Only(_) => key::INBOUND_INCLUDE_PORTS,
            _ => key::INBOUND_CAPTURE,
        };
        let ports = self.inbound_ports()?;
        Some(rule(key, [ports], Verdict::Redirect(inbound.port)))
    }

    /// What virtual machines in the pod send: it arrives, but goes out.
    fn rerouted(&mut self) -> Vec<Rule> {
        let outbound = &self.config.outbound;
        let capture = Verdict::Redirect(outbound.port);
        let mut rules = Vec::new();
        for interface in &self.config.interfaces.reroute {
            let from = Match::InInterface(interface.clone());
            match &outbound.capture {
                OutboundCapture::All => rules.push(rule(
                    &by_interface(key::REROUTE_CAPTURE, interface),
                    [from.clone(), Match::Protocol(Protocol::Tcp)],
                    capture,
                )),
                OutboundCapture::Only(cidrs) => {
                    for (key, test) in self.cidrs(OUTBOUND_INCLUDE, REROUTE_INCLUDE, cidrs) {
                        rules.push(rule(
                            &by_interface(key, interface),
                            [
                                from.clone(),
                                Match::Destination(test),
                                Match::Protocol(Protocol::Tcp),
                            ],
                            capture,
                        ));
                    }
                }
            }
            rules.push(rule(
                &by_interface(key::REROUTE_INTERFACE, interface),
                [from],
                Verdict::Return,
            ));
        }
        rules
    }
}

/// Keys of the rules for ports and clients that pass.
pub(super) struct ExceptionKeys {
    pub(super) tunnel: &'static str,
    pub(super) ports: &'static str,
    pub(super) sources: ByFamily,
}

const INBOUND_EXCEPTIONS: ExceptionKeys = ExceptionKeys {
    tunnel: key::INBOUND_TUNNEL,
    ports: key::INBOUND_EXCLUDE_PORTS,
    sources: [
        Names {
            list: key::INBOUND_EXCLUDE_SOURCES_V4,
            blocks: key::INBOUND_EXCLUDE_BLOCKS_V4,
        },
        Names {
            list: key::INBOUND_EXCLUDE_SOURCES_V6,
            blocks: key::INBOUND_EXCLUDE_BLOCKS_V6,
        },
    ],
};

const REROUTE_INCLUDE: ByFamily = [
    Names {
        list: key::REROUTE_INCLUDE_V4,
        blocks: key::REROUTE_INCLUDE_BLOCKS_V4,
    },
    Names {
        list: key::REROUTE_INCLUDE_V6,
        blocks: key::REROUTE_INCLUDE_BLOCKS_V6,
    },
];
