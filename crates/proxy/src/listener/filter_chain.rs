//! The filter chain match: which chain of a listener serves a connection.
//!
//! A listener's chains compile to a table of levels, one for each part of `FilterChainMatch`. A
//! connection goes down the levels in Envoy's order; at each it takes the branch that names its
//! value, else the branch of the chains that do not ask. It never comes back: where the branch
//! taken leads nowhere, the default chain serves it, though another branch might have matched
//! (Envoy, `FilterChainManagerImpl::findFilterChain`). The order in which chains are written has
//! no meaning.
//!
//! Envoy's order is destination port, destination prefix, server names, transport protocol,
//! application protocols, direct source prefix, source type, source prefix, source port.

use crate::model::{FilterChainMatch, Invalid, Name, TransportProtocol};
use hashbrown::{Equivalent, HashMap};
use std::hash::Hash;

/// What is known about a connection when its chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts<'a> {
    /// Port of the original destination.
    pub destination_port: u16,
    /// What carries the bytes.
    pub transport: TransportProtocol,
    /// What the inspectors found, best first; empty where none ran or none found anything.
    pub application_protocols: &'a [&'a str],
}

/// The chains of one listener, and what each of them matches.
#[derive(Debug, Clone)]
pub struct FilterChains<T> {
    table: ByPort,
    chains: Box<[T]>,
    default: Option<T>,
}

type ByPort = Level<u16, ByTransport>;
type ByTransport = Level<TransportProtocol, ByApplicationProtocol>;
type ByApplicationProtocol = Level<Name, Position>;
/// A chain's place in the listener's `filter_chains`.
type Position = usize;

/// One part of the match.
#[derive(Debug, Clone)]
struct Level<K, N> {
    /// The branches of chains that ask for a value.
    exact: HashMap<K, N>,
    /// The branch of chains that do not ask.
    any: Option<N>,
}

impl<K, N> Default for Level<K, N> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            any: None,
        }
    }
}

impl<K: Eq + Hash, N> Level<K, N> {
    /// The branch for a connection with these values, best first.
    fn descend<'k, Q>(&self, values: impl IntoIterator<Item = &'k Q>) -> Option<&N>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        values
            .into_iter()
            .find_map(|value| self.exact.get(value))
            .or(self.any.as_ref())
    }

    fn branches(&self) -> impl Iterator<Item = &N> {
        self.exact.values().chain(&self.any)
    }

    /// The branch to put a chain into; `new` where there is none yet.
    fn branch_or(&mut self, value: Option<K>, new: N) -> &mut N {
        match value {
            Some(value) => self.exact.entry(value).or_insert(new),
            None => self.any.get_or_insert(new),
        }
    }
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
            let level = table
                .branch_or(matcher.destination_port, Level::default())
                .branch_or(matcher.transport_protocol, Level::default());
            let mut place = |protocol: Option<&Name>| {
                // A protocol that one chain names twice leaves nothing to chance.
                match *level.branch_or(protocol.cloned(), position) {
                    first if first != position => Err(overlap(first, position, matcher, protocol)),
                    _ => Ok(()),
                }
            };
            if matcher.application_protocols.is_empty() {
                place(None)?;
            }
            for protocol in &matcher.application_protocols {
                if protocol.is_empty() {
                    return Err(Invalid::new(format!(
                        "filter_chains[{position}] names an empty application protocol; leave \
                         application_protocols out to match any"
                    )));
                }
                place(Some(protocol))?;
            }
        }
        Ok(Self {
            table,
            chains: chains.into_iter().map(|(_, chain)| chain).collect(),
            default,
        })
    }

    /// The chain that serves a connection; `None` = none does, the connection is to be closed
    /// (response flag `NR`).
    pub fn find(&self, facts: &ConnectionFacts<'_>) -> Option<&T> {
        self.table
            .descend([&facts.destination_port])
            .and_then(|level| level.descend([&facts.transport]))
            .and_then(|level| level.descend(facts.application_protocols.iter().copied()))
            .map(|&position| &self.chains[position])
            .or(self.default.as_ref())
    }

    /// Whether a connection to `port` may be served by one chain or another depending on its
    /// application protocols. Where not, nothing an inspector of them could find has a say in
    /// [`find`](Self::find), so the connection need not wait for its first bytes: the server may be
    /// the one to speak first. Envoy lets its inspectors wait all the same, unless
    /// `filter_disabled` names the port.
    pub fn may_use_application_protocol(&self, port: u16) -> bool {
        self.table.descend([&port]).is_some_and(|level| {
            level
                .branches()
                .any(|by_protocol| !by_protocol.exact.is_empty())
        })
    }
}

/// Two chains for the same connections.
fn overlap(
    first: Position,
    second: Position,
    matcher: &FilterChainMatch,
    protocol: Option<&Name>,
) -> Invalid {
    let port = matcher.destination_port.map_or_else(
        || "any destination port".to_owned(),
        |p| format!("destination port {p}"),
    );
    let transport = match matcher.transport_protocol {
        None => "any transport protocol",
        Some(TransportProtocol::RawBuffer) => "transport protocol raw_buffer",
        Some(TransportProtocol::Tls) => "transport protocol tls",
    };
    let protocol = protocol.map_or_else(
        || "any application protocol".to_owned(),
        |p| format!("application protocol {p}"),
    );
    Invalid::new(format!(
        "filter_chains[{first}] and filter_chains[{second}] match the same connections ({port}, \
         {transport}, {protocol}); remove one or give it a match of its own"
    ))
}

#[cfg(test)]
mod tests;
