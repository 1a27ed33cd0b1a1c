//! The filter chain match: which chain of a listener serves a connection.
//!
//! A listener's chains compile to a table of levels, one for each part of `FilterChainMatch`. A
//! connection goes down the levels in Envoy's order; at each it takes the branch that is nearest
//! to its value, else the branch of the chains that do not ask. It never comes back: where the
//! branch taken leads nowhere, the default chain serves it, though another branch might have
//! matched (Envoy's documentation of `FilterChainMatch`). The order in which chains are written
//! has no meaning.
//!
//! Envoy's order is destination port, destination prefix, server names, transport protocol,
//! application protocols, direct source prefix, source type, source prefix, source port.

mod level;

use crate::model::{FilterChainMatch, Invalid, Name, SourceType, TransportProtocol};
use level::{Level, Names, Ranges};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What is known about a connection when its chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts<'a> {
    /// The original destination.
    pub destination: SocketAddr,
    /// The server name that the client asks for, in lower case; empty where it is not known.
    pub server_name: &'a str,
    /// What carries the bytes.
    pub transport: TransportProtocol,
    /// What the inspectors found, best first; empty where none ran or none found anything.
    pub application_protocols: &'a [&'a str],
    /// The address that connected to us.
    pub direct_source: IpAddr,
    /// The peer: that address, or the one that a PROXY header names.
    pub source: SocketAddr,
}

impl ConnectionFacts<'_> {
    fn source_type(&self) -> SourceType {
        let source = self.source.ip();
        if source.is_loopback() || source == self.destination.ip() {
            SourceType::Local
        } else {
            SourceType::External
        }
    }
}

/// The chains of one listener, and what each of them matches.
#[derive(Debug, Clone)]
pub struct FilterChains<T> {
    table: ByPort,
    chains: Box<[T]>,
    default: Option<T>,
}

type ByPort = Level<u16, OfPort>;
type ByDestination = Ranges<ByServerName>;
type ByServerName = Names<ByTransport>;
type ByTransport = Level<TransportProtocol, ByApplicationProtocol>;
type ByApplicationProtocol = Level<Name, ByDirectSource>;
type ByDirectSource = Ranges<BySourceType>;
type BySourceType = Level<SourceType, BySource>;
type BySource = Ranges<BySourcePort>;
type BySourcePort = Level<u16, Position>;
/// A chain's place in the listener's `filter_chains`.
type Position = usize;

/// The chains of one port.
#[derive(Debug, Clone, Default)]
struct OfPort {
    matters: Matters,
    by_destination: ByDestination,
}

/// What has a say in the choice between the chains of a port. What has none need not be found
/// out, so a connection need not wait for its first bytes: the server may be the one to speak
/// first. Envoy lets its inspectors wait all the same, unless `filter_disabled` names the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matters {
    /// Whether it is TLS, and what its ClientHello says.
    pub tls: bool,
    /// Application protocols.
    pub application_protocols: bool,
}

impl<T> FilterChains<T> {
    /// Compile a listener's `filter_chains` and its `default_filter_chain`.
    ///
    /// # Errors
    /// Where two chains match the same connections, which would leave the choice to chance, or an
    /// application protocol is empty. The message names the chains by their position, from 0.
    pub fn compile(
        chains: Vec<(FilterChainMatch, T)>,
        default: Option<T>,
    ) -> Result<Self, Invalid> {
        let mut table = ByPort::default();
        for (position, (matcher, _)) in chains.iter().enumerate() {
            if matcher.application_protocols.iter().any(|p| p.is_empty()) {
                return Err(Invalid::new(format!(
                    "filter_chains[{position}] names an empty application protocol; leave \
                     application_protocols out to match any"
                )));
            }
            place(&mut table, matcher, position)?;
        }
        Ok(Self {
            table,
            chains: chains.into_iter().map(|(_, chain)| chain).collect(),
            default,
        })
    }

    /// All chains: those that match in their order, then the default.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.chains.iter().chain(&self.default)
    }

    /// The chain that serves a connection; `None` = none does, the connection is to be closed
    /// (response flag `NR`).
    pub fn find(&self, facts: &ConnectionFacts<'_>) -> Option<&T> {
        self.position(facts)
            .map(|position| &self.chains[position])
            .or(self.default.as_ref())
    }

    fn position(&self, facts: &ConnectionFacts<'_>) -> Option<Position> {
        self.table
            .descend([&facts.destination.port()])?
            .by_destination
            .descend(facts.destination.ip())?
            .descend(facts.server_name)?
            .descend([&facts.transport])?
            .descend(facts.application_protocols.iter().copied())?
            .descend(facts.direct_source)?
            .descend([&facts.source_type()])?
            .descend(facts.source.ip())?
            .descend([&facts.source.port()])
            .copied()
    }

    /// What has a say in the choice of a chain for connections to `port`.
    pub fn what_matters(&self, port: u16) -> Matters {
        self.table
            .descend([&port])
            .map_or_else(Matters::default, |of_port| of_port.matters)
    }
}

/// Put a chain into the table, at every place that its match names.
fn place(
    table: &mut ByPort,
    matcher: &FilterChainMatch,
    position: Position,
) -> Result<(), Invalid> {
    let of_port = table.branch(matcher.destination_port);
    let protocols = !matcher.application_protocols.is_empty();
    of_port.matters.application_protocols |= protocols;
    of_port.matters.tls |=
        protocols || !matcher.server_names.is_empty() || matcher.transport_protocol.is_some();
    for destination in each(&matcher.prefix_ranges) {
        let names = of_port.by_destination.branch(destination.copied());
        for name in each(&matcher.server_names) {
            let protocols = names.branch(name).branch(matcher.transport_protocol);
            for protocol in each(&matcher.application_protocols) {
                let sources = protocols.branch(protocol.cloned());
                for direct in each(&matcher.direct_source_prefix_ranges) {
                    let sources = sources.branch(direct.copied()).branch(matcher.source_type);
                    for source in each(&matcher.source_prefix_ranges) {
                        let ports = sources.branch(source.copied());
                        for port in each(&matcher.source_ports) {
                            let first = *ports.branch_or(port.copied(), position);
                            // What one chain names twice leaves nothing to chance.
                            if first != position {
                                let shared = [
                                    told("destination port", matcher.destination_port),
                                    told("destination", destination),
                                    told("server name", name),
                                    told("transport protocol", matcher.transport_protocol),
                                    told("application protocol", protocol),
                                    told("direct source", direct),
                                    told("source type", matcher.source_type),
                                    told("source", source),
                                    told("source port", port),
                                ];
                                return Err(overlap(first, position, &shared));
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Each value of a list, or once `None` where it is empty: the chain does not ask.
fn each<V>(values: &[V]) -> impl Iterator<Item = Option<&V>> {
    let any = values.is_empty().then_some(None);
    any.into_iter().chain(values.iter().map(Some))
}

fn told(what: &str, value: Option<impl fmt::Display>) -> Option<String> {
    value.map(|value| format!("{what} {value}"))
}

/// Two chains for the same connections.
fn overlap(first: Position, second: Position, shared: &[Option<String>]) -> Invalid {
    let shared: Vec<&str> = shared.iter().flatten().map(String::as_str).collect();
    let shared = if shared.is_empty() {
        "all that no other chain matches".to_owned()
    } else {
        shared.join(", ")
    };
    Invalid::new(format!(
        "filter_chains[{first}] and filter_chains[{second}] match the same connections \
         ({shared}); remove one or give it a match of its own"
    ))
}

#[cfg(test)]
mod tests;
