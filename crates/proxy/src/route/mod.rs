//! The route table: from a request head to what is done with it.
//!
//! On the way of a packet this follows the HTTP filters and precedes the cluster; on the way of
//! configuration it is the compiled form of a `RouteConfiguration`, immutable. A request pins the
//! table it was routed by, so that its route outlives a change of configuration.

mod action;
mod deadline;
mod hash;
mod matcher;
mod virtual_host;

pub use action::{Action, Forward, Target, WeightedTarget};
pub use deadline::Deadline;
pub use hash::{request_hash, source_hash};
pub(crate) use matcher::string_matches;

use crate::ids::ClusterId;
use crate::model::{Name, Route, RouteConfiguration, RouteMatch};
use http::{HeaderMap, Method};
use virtual_host::VirtualHosts;

/// What a request is routed by.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// `:method`.
    pub method: &'a Method,
    /// `:authority`, or the host header; empty where there is none.
    pub authority: &'a str,
    /// `:path`, with the query; empty where there is none (`CONNECT`).
    pub path: &'a str,
    /// `:scheme`.
    pub scheme: &'a str,
    /// All ordinary headers.
    pub headers: &'a HeaderMap,
}

/// A compiled `RouteConfiguration`.
#[derive(Debug)]
pub struct RouteTable {
    domains: VirtualHosts,
    /// The routes of each virtual host, in order.
    virtual_hosts: Box<[Box<[Entry]>]>,
}

#[derive(Debug)]
struct Entry {
    matcher: RouteMatch,
    route: CompiledRoute,
}

/// A matched route.
#[derive(Debug)]
pub struct CompiledRoute {
    /// `name`; may be empty. Shown as `%ROUTE_NAME%`.
    pub name: Name,
    /// What to do with the request.
    pub action: Action,
}

impl RouteTable {
    /// Compile a configuration. `intern` gives the id of a cluster's name, whether or not there is
    /// such a cluster: a route to none is answered with `cluster_not_found` when it is used.
    pub fn compile(
        config: &RouteConfiguration,
        intern: &mut dyn FnMut(&Name) -> ClusterId,
    ) -> Self {
        let mut entry = |route: &Route| Entry {
            matcher: route.matcher.clone(),
            route: CompiledRoute {
                name: Name::clone(&route.name),
                action: Action::compile(&route.action, intern),
            },
        };
        Self {
            domains: VirtualHosts::compile(
                &config.virtual_hosts,
                config.ignore_port_in_host_matching,
            ),
            virtual_hosts: config
                .virtual_hosts
                .iter()
                .map(|host| host.routes.iter().map(&mut entry).collect())
                .collect(),
        }
    }

    /// The route for a request: in the virtual host that fits its authority best, the first route
    /// that matches. `None` where no virtual host or none of its routes does (404, response flag
    /// `NR`); the routes of other virtual hosts are not tried. A request without a path is a
    /// CONNECT, and matches only `connect_matcher`.
    ///
    /// Allocates only for an authority with upper-case letters and for some header matchers (a
    /// header of several lines, `contains` without case).
    pub fn route(&self, head: &RequestHead<'_>) -> Option<&CompiledRoute> {
        let host = self.domains.find(head.authority)?;
        let path = matcher::path_only(head.path);
        self.virtual_hosts[host]
            .iter()
            .find(|entry| matcher::route_matches(&entry.matcher, head, path))
            .map(|entry| &entry.route)
    }
}

#[cfg(test)]
mod tests;
