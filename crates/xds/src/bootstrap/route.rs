//! Routes and what they do.

use super::http::{NO_UDP, UDP};
use super::reader::Reader;
use super::values::true_unless;
use crate::path::Path;
use ::http::StatusCode;
use envoy_types::pb::envoy::config::route::v3 as pb;
use pb::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};
use shunt_proxy::model::{
    ClusterWeight, DirectResponse, GrpcTimeouts, Name, PerTry, Route, RouteAction, RouteForward,
    RouteTarget, RouteUpgrade, StreamIdle, Timeouts, WeightedClusters,
};
use std::time::Duration;

/// Envoy's default of a route's `timeout`.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a route configuration and a virtual host say about their routes.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) validate_clusters: bool,
    /// Of a direct response, in bytes.
    pub(super) max_body: u32,
    /// Of routes that have no `retry_policy`.
    pub(super) per_try: PerTry,
}

impl Reader {
    /// One route.
    pub(super) fn route(
        &mut self,
        route: pb::Route,
        scope: &Scope,
        path: &Path<'_>,
    ) -> Option<Route> {
        let matcher = self.route_match(route.r#match, &path.field("match"));
        let action = match route.action {
            Some(pb::route::Action::Route(action)) => self
                .forward(action, scope, &path.field("route"))
                .map(RouteAction::Forward),
            Some(pb::route::Action::DirectResponse(response)) => self
                .direct_response(response, scope, &path.field("direct_response"))
                .map(RouteAction::DirectResponse),
            _ => {
                let message = "it needs an action: route or direct_response";
                self.report.invalid(path, message);
                None
            }
        };
        Some(Route {
            name: route.name.into(),
            matcher: matcher?,
            action: action?,
        })
    }

    fn forward(
        &mut self,
        action: pb::RouteAction,
        scope: &Scope,
        path: &Path<'_>,
    ) -> Option<RouteForward> {
        let cluster_not_found = match action.cluster_not_found_response_code() {
            ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
            ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let timeouts = self.timeouts(&action, path);
        let at = path.field("retry_policy");
        let per_try = match &action.retry_policy {
            Some(policy) => self.per_try(policy, &at),
            None => scope.per_try,
        };
        let at = path.field("upgrade_configs");
        let upgrades = self.route_upgrades(action.upgrade_configs, &at);
        let hash_policy = self.hash_policies(action.hash_policy, &path.field("hash_policy"));
        let idle = match self.duration(action.idle_timeout, &path.field("idle_timeout")) {
            None => StreamIdle::Inherited,
            Some(Duration::ZERO) => StreamIdle::Never,
            Some(timeout) => StreamIdle::After(timeout),
        };
        let target = match action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => self
                .route_cluster(name, scope, &path.field("cluster"))
                .map(RouteTarget::Cluster),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => self
                .weighted_clusters(weighted, scope, &path.field("weighted_clusters"))
                .map(RouteTarget::Weighted),
            _ => {
                self.report
                    .invalid(path, "it needs cluster or weighted_clusters");
                None
            }
        };
        Some(RouteForward {
            target: target?,
            timeouts,
            per_try,
            idle,
            cluster_not_found,
            upgrades,
            hash_policy: hash_policy?,
        })
    }

    /// What the requests of a route may ask for.
    fn route_upgrades(
        &mut self,
        configs: Vec<pb::route_action::UpgradeConfig>,
        path: &Path<'_>,
    ) -> Vec<RouteUpgrade> {
        let mut upgrades: Vec<RouteUpgrade> = Vec::with_capacity(configs.len());
        for (i, config) in configs.into_iter().enumerate() {
            let at = path.index(i);
            let protocol: Name = config.upgrade_type.to_ascii_lowercase().into();
            let terminates = config.connect_config.is_some();
            let of_type = at.field("upgrade_type");
            if protocol.is_empty() {
                let message = "it is required and must not be empty";
                self.report.invalid(&of_type, message);
            } else if &*protocol == UDP {
                self.report.refused(&of_type, NO_UDP);
            } else if upgrades.iter().any(|u| u.protocol == protocol) {
                let message = "it is there already; keep one of them";
                self.report.invalid(&of_type, message);
            } else if terminates && &*protocol != "connect" {
                let message = "only the upgrade_type CONNECT can have it; leave it out";
                self.report.invalid(&at.field("connect_config"), message);
            }
            upgrades.push(RouteUpgrade {
                protocol,
                enabled: true_unless(config.enabled),
                terminates,
            });
        }
        upgrades
    }

    /// How long a request may take.
    #[expect(deprecated, reason = "Istio sends max_grpc_timeout")]
    fn timeouts(&mut self, action: &pb::RouteAction, path: &Path<'_>) -> Timeouts {
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let timeout = self.timeout(action.timeout, ROUTE_TIMEOUT, &path.field("timeout"));
        let max = self.duration(action.max_grpc_timeout, &path.field("max_grpc_timeout"));
        let max = max.map(|max| GrpcTimeouts { max: some(max) });
        let Some(stream) = &action.max_stream_duration else {
            return Timeouts::Response { timeout, grpc: max };
        };
        let path = path.field("max_stream_duration");
        let at = path.field("grpc_timeout_header_max");
        let max = self.duration(stream.grpc_timeout_header_max, &at);
        let duration = self.duration(
            stream.max_stream_duration,
            &path.field("max_stream_duration"),
        );
        Timeouts::Stream {
            duration: duration.and_then(some),
            grpc: max.map(|max| GrpcTimeouts { max: some(max) }),
        }
    }

    /// How long an attempt may take.
    pub(super) fn per_try(&mut self, policy: &pb::RetryPolicy, path: &Path<'_>) -> PerTry {
        let mut limit = |limit, field| {
            let limit = self.duration(limit, &path.field(field));
            limit.filter(|limit| !limit.is_zero())
        };
        PerTry {
            timeout: limit(policy.per_try_timeout, "per_try_timeout"),
            idle: limit(policy.per_try_idle_timeout, "per_try_idle_timeout"),
        }
    }

    /// The name of a cluster, which need not exist where the configuration says so.
    fn route_cluster(&mut self, name: String, scope: &Scope, path: &Path<'_>) -> Option<Name> {
        if scope.validate_clusters {
            self.cluster_name(name, path)
        } else {
            self.name(name, path)
        }
    }

    fn weighted_clusters(
        &mut self,
        weighted: pb::WeightedCluster,
        scope: &Scope,
        path: &Path<'_>,
    ) -> Option<WeightedClusters> {
        #[expect(deprecated, reason = "bootstraps in use still have it")]
        let total = weighted.total_weight;
        let at = path.field("clusters");
        let clusters = self.each(weighted.clusters, &at, |reader, cluster, path| {
            let name = reader.route_cluster(cluster.name, scope, &path.field("name"));
            if cluster.weight.is_none() {
                let path = path.field("weight");
                reader
                    .report
                    .invalid(&path, "it is required; 0 is never chosen");
            }
            Some(ClusterWeight {
                name: name?,
                weight: cluster.weight?.value,
            })
        });
        let clusters = WeightedClusters::new(clusters.into_iter().collect::<Option<_>>()?);
        let clusters = self.report.check(path, clusters)?;
        match total {
            Some(total) if total.value != clusters.total() => {
                let (given, sum) = (total.value, clusters.total());
                self.report.invalid(
                    &path.field("total_weight"),
                    format!("it says {given} where the weights add up to {sum}; leave it out"),
                );
            }
            _ => {}
        }
        Some(clusters)
    }

    fn direct_response(
        &mut self,
        response: pb::DirectResponseAction,
        scope: &Scope,
        path: &Path<'_>,
    ) -> Option<DirectResponse> {
        let status = u16::try_from(response.status)
            .ok()
            .filter(|status| (200..600).contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| format!("{} is no status; it is 200 to 599", response.status));
        let status = self.report.check(&path.field("status"), status);
        let at = path.field("body");
        let body = match response.body {
            None => Some(Vec::new()),
            some => self.data_source(some, &at),
        }?;
        if body.len() > scope.max_body as usize {
            self.report.invalid(
                &at,
                format!(
                    "it has {} bytes, more than max_direct_response_body_size_bytes ({})",
                    body.len(),
                    scope.max_body
                ),
            );
        }
        Some(DirectResponse {
            status: status?,
            body: body.into(),
        })
    }
}
