//! Route configurations and virtual hosts.

use super::reader::{Reader, doubles};
use super::route::Scope;
use crate::path::Path;
use envoy_types::pb::envoy::config::route::v3 as pb;
use shunt_proxy::model::{PerTry, RouteConfiguration, VirtualHost};
use std::collections::HashMap;

/// Envoy's default of `max_direct_response_body_size_bytes`.
const MAX_DIRECT_RESPONSE_BODY: u32 = 4096;

impl Reader {
    /// A route configuration, inside a connection manager or in a file.
    pub(crate) fn route_configuration(
        &mut self,
        config: pb::RouteConfiguration,
        inline: bool,
        path: &Path<'_>,
    ) -> Option<RouteConfiguration> {
        let scope = Scope {
            // Envoy's default: clusters of routes that are in a file may come later.
            validate_clusters: config.validate_clusters.map_or(inline, |v| v.value),
            max_body: config
                .max_direct_response_body_size_bytes
                .map_or(MAX_DIRECT_RESPONSE_BODY, |v| v.value),
            per_try: PerTry::default(),
        };
        let at = path.field("virtual_hosts");
        let hosts = self.each(config.virtual_hosts, &at, |reader, host, path| {
            reader.virtual_host(host, &scope, path)
        });
        self.unique("virtual host", &hosts, |host| host.name.as_str(), &at);
        self.unique_domains(&hosts, &at);
        Some(RouteConfiguration {
            name: config.name,
            virtual_hosts: hosts.into_iter().collect::<Option<_>>()?,
            ignore_port_in_host_matching: config.ignore_port_in_host_matching,
        })
    }

    fn virtual_host(
        &mut self,
        host: pb::VirtualHost,
        scope: &Scope,
        path: &Path<'_>,
    ) -> Option<VirtualHost> {
        let name = self.name(host.name, &path.field("name"));
        let at = path.field("domains");
        if host.domains.is_empty() {
            let message = "it needs at least one domain; \"*\" stands for all";
            self.report.invalid(&at, message);
        }
        for (i, domain) in host.domains.iter().enumerate() {
            self.domain(domain, &at.index(i));
        }
        let mut scope = *scope;
        if let Some(policy) = &host.retry_policy {
            scope.per_try = self.per_try(policy, &path.field("retry_policy"));
        }
        let routes = self.each(host.routes, &path.field("routes"), |reader, route, path| {
            reader.route(route, &scope, path)
        });
        Some(VirtualHost {
            name: name?.as_ref().to_owned(),
            domains: host.domains,
            routes: routes.into_iter().collect::<Option<_>>()?,
        })
    }

    fn domain(&mut self, domain: &str, path: &Path<'_>) {
        let inner = domain
            .strip_prefix('*')
            .or_else(|| domain.strip_suffix('*'))
            .unwrap_or(domain);
        if domain.is_empty() {
            self.report
                .invalid(path, "a domain must not be empty; \"*\" stands for all");
        } else if inner.contains('*') {
            self.report.invalid(
                path,
                format!("{domain:?}: one * may stand, first or last, as in *.example.com"),
            );
        }
    }

    /// A domain belongs to one virtual host, and case does not count.
    fn unique_domains(&mut self, hosts: &[Option<VirtualHost>], path: &Path<'_>) {
        let places: Vec<(usize, usize, String)> = hosts
            .iter()
            .enumerate()
            .flat_map(|(h, host)| {
                let domains = host.iter().flat_map(|host| host.domains.iter().enumerate());
                domains.map(move |(d, domain)| (h, d, domain.to_ascii_lowercase()))
            })
            .collect();
        let names: HashMap<usize, &str> = hosts
            .iter()
            .enumerate()
            .filter_map(|(h, host)| Some((h, host.as_ref()?.name.as_str())))
            .collect();
        for (first, second, domain) in doubles(places.iter().map(|(_, _, d)| Some(d))) {
            let (host, position, _) = &places[second];
            let owner = names.get(&places[first].0).copied().unwrap_or_default();
            self.report.invalid(
                &path.index(*host).field("domains").index(*position),
                format!("{domain:?} is a domain of the virtual host {owner:?} already"),
            );
        }
    }
}
