//! The virtual host search: from a request's host to the virtual host that names it.

use crate::model::VirtualHost;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::cmp::Reverse;

/// A virtual host's place in the route table.
pub(super) type Position = usize;

/// The domains of all virtual hosts, by how they match (Envoy, `RouteMatcher::findVirtualHost`).
#[derive(Debug)]
pub(super) struct VirtualHosts {
    exact: HashMap<Box<str>, Position>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    /// The virtual host of `*`.
    any: Option<Position>,
    ignore_port: bool,
}

/// Domains of one kind, without their star.
#[derive(Debug, Default)]
struct Wildcards {
    hosts: HashMap<Box<str>, Position>,
    /// The lengths that occur, longest first.
    lengths: Vec<usize>,
}

impl VirtualHosts {
    /// Index the domains. A domain that two virtual hosts name belongs to the first (the model
    /// does not let such pass).
    pub(super) fn compile(hosts: &[VirtualHost], ignore_port: bool) -> Self {
        let mut compiled = Self {
            exact: HashMap::new(),
            suffixes: Wildcards::default(),
            prefixes: Wildcards::default(),
            any: None,
            ignore_port,
        };
        for (position, host) in hosts.iter().enumerate() {
            for domain in &host.domains {
                compiled.add(&domain.to_ascii_lowercase(), position);
            }
        }
        compiled.suffixes.sort();
        compiled.prefixes.sort();
        compiled
    }

    fn add(&mut self, domain: &str, position: Position) {
        let hosts = if domain == "*" {
            self.any.get_or_insert(position);
            return;
        } else if let Some(suffix) = domain.strip_prefix('*') {
            (&mut self.suffixes.hosts, suffix)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (&mut self.prefixes.hosts, prefix)
        } else {
            (&mut self.exact, domain)
        };
        hosts.0.entry(hosts.1.into()).or_insert(position);
    }

    /// The virtual host for an authority (the host header, or `:authority`): the one that names it
    /// exactly, else by the longest `*suffix`, else by the longest `prefix*`, else `*`. A star
    /// stands for at least one character. Case does not count.
    pub(super) fn find(&self, authority: &str) -> Option<Position> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        let host = if self.ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let host = lower_case(host);
        self.exact
            .get(&*host)
            .copied()
            .or_else(|| {
                self.suffixes
                    .find(&host, |host, len| host.get(host.len() - len..))
            })
            .or_else(|| self.prefixes.find(&host, |host, len| host.get(..len)))
            .or(self.any)
    }
}

impl Wildcards {
    fn sort(&mut self) {
        self.lengths = self.hosts.keys().map(|domain| domain.len()).collect();
        self.lengths.sort_unstable_by_key(|&len| Reverse(len));
        self.lengths.dedup();
    }

    fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The longest domain that `part` cuts out of the host.
    fn find(
        &self,
        host: &str,
        part: impl for<'h> Fn(&'h str, usize) -> Option<&'h str>,
    ) -> Option<Position> {
        let lengths = self.lengths.iter().filter(|&&len| len < host.len());
        lengths
            .filter_map(|&len| part(host, len))
            .find_map(|part| self.hosts.get(part))
            .copied()
    }
}

/// An authority without `:port`. The colons of an IPv6 literal stand in brackets (RFC 3986
/// section 3.2.2).
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// Most clients send hosts in lower case already.
fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
