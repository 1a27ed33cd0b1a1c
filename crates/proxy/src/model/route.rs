//! Routes (`envoy.config.route.v3`).

use super::{HashPolicy, Invalid, Name};
use bytes::Bytes;
use http::{HeaderName, StatusCode};
use std::time::Duration;

/// `RouteConfiguration`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteConfiguration {
    /// `name`; may be empty where it is inline.
    pub name: String,
    /// `virtual_hosts`; domains are unique across them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `ignore_port_in_host_matching`.
    pub ignore_port_in_host_matching: bool,
}

/// `VirtualHost`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// `name`, not empty.
    pub name: String,
    /// `domains`: exact, `*suffix`, `prefix*` or `*`; at least one.
    pub domains: Vec<String>,
    /// `routes`, first match wins.
    pub routes: Vec<Route>,
}

/// `Route`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// `name`; may be empty. Shown as `%ROUTE_NAME%`.
    pub name: Name,
    /// `match`.
    pub matcher: RouteMatch,
    /// `action`.
    pub action: RouteAction,
}

/// `RouteMatch`: all parts must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// `path_specifier`.
    pub path: PathMatch,
    /// `case_sensitive`, default true; for `Prefix` and `Exact`.
    pub case_sensitive: bool,
    /// `headers`, all of them.
    pub headers: Vec<HeaderMatcher>,
}

/// `RouteMatch.path_specifier`, on the path without the query.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(String),
    /// `path`.
    Exact(String),
    /// `safe_regex`.
    Regex(FullMatchRegex),
    /// `connect_matcher`: the method is CONNECT, which has no path.
    Connect,
}

/// `HeaderMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatcher {
    /// `name`, lower case, or a pseudo header.
    pub name: HeaderMatch,
    /// What its value must be; `None` = `present_match`.
    pub value: Option<StringMatch>,
    /// `invert_match`; for `present_match: false` as well.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub treat_missing_as_empty: bool,
}

/// What a header matcher looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatch {
    /// `:method`.
    Method,
    /// `:authority`.
    Authority,
    /// `:path`, with the query.
    Path,
    /// `:scheme`.
    Scheme,
    /// An ordinary header; of several lines of it any one may match.
    Name(HeaderName),
}

/// `StringMatcher`. With `ignore_case` the patterns are already lower case.
#[derive(Debug, Clone, PartialEq)]
pub enum StringMatch {
    /// `exact`.
    Exact {
        /// What to equal.
        value: String,
        /// ASCII case does not count.
        ignore_case: bool,
    },
    /// `prefix`.
    Prefix {
        /// What to begin with.
        value: String,
        /// ASCII case does not count.
        ignore_case: bool,
    },
    /// `suffix`.
    Suffix {
        /// What to end with.
        value: String,
        /// ASCII case does not count.
        ignore_case: bool,
    },
    /// `contains`.
    Contains {
        /// What to contain.
        value: String,
        /// ASCII case does not count.
        ignore_case: bool,
    },
    /// `safe_regex`, the whole value.
    Regex(FullMatchRegex),
}

/// `RegexMatcher`: RE2 syntax, matched against the whole text, as Envoy does.
#[derive(Debug, Clone)]
pub struct FullMatchRegex(regex::Regex);

impl PartialEq for FullMatchRegex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl FullMatchRegex {
    /// Compile a pattern.
    ///
    /// # Errors
    /// Where the pattern is not a regular expression or compiles to more than 1 MiB.
    pub fn new(pattern: &str) -> Result<Self, Invalid> {
        // On its own first: "a)|(b" must not become valid inside our group.
        let sized = |p: &str| regex::RegexBuilder::new(p).size_limit(1 << 20).build();
        sized(pattern)
            .and_then(|_| sized(&format!(r"\A(?:{pattern})\z")))
            .map(Self)
            .map_err(|e| Invalid::new(format!("not a usable regular expression: {e}")))
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// What a matched route does.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// `route`: forward to a cluster.
    Forward(RouteForward),
    /// `direct_response`: answer without an upstream.
    DirectResponse(DirectResponse),
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteForward {
    /// Which cluster.
    pub target: RouteTarget,
    /// How long a request may take.
    pub timeouts: Timeouts,
    /// How long its upstream may take.
    pub per_try: PerTry,
    /// `idle_timeout`.
    pub idle: StreamIdle,
    /// `cluster_not_found_response_code`, default 503.
    pub cluster_not_found: StatusCode,
    /// `upgrade_configs`; each protocol once.
    pub upgrades: Vec<RouteUpgrade>,
    /// `hash_policy`: what an endpoint is chosen by, where the cluster looks at a hash.
    pub hash_policy: Vec<HashPolicy>,
}

/// `RouteAction.UpgradeConfig`: whether a request of this route may ask for a protocol, whatever
/// its connection manager says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteUpgrade {
    /// `upgrade_type` in lower case, not empty; `connect` for the method CONNECT.
    pub protocol: Name,
    /// `enabled`, default true.
    pub enabled: bool,
    /// `connect_config`: a CONNECT ends here, and what is in it goes to the upstream as it is.
    pub terminates: bool,
}

/// How long a request of a route may go without a byte (`RouteAction.idle_timeout`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamIdle {
    /// As long as the connection manager says in `stream_idle_timeout`.
    #[default]
    Inherited,
    /// For ever (0 in the configuration).
    Never,
    /// For this long.
    After(Duration),
}

/// How long the requests of a route may take; `None` = no limit (0 in the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeouts {
    /// From the end of the request to the end of the response.
    Response {
        /// `timeout`; Envoy's default is 15 s.
        timeout: Option<Duration>,
        /// `max_grpc_timeout`: what it is for gRPC instead, where it is configured.
        grpc: Option<GrpcTimeouts>,
    },
    /// `max_stream_duration`: from the head of the request to the end of the response. `timeout`
    /// has no meaning beside it, as in Envoy.
    Stream {
        /// `max_stream_duration`.
        duration: Option<Duration>,
        /// `grpc_timeout_header_max`: what it is instead where there is a `grpc-timeout`.
        grpc: Option<GrpcTimeouts>,
    },
}

/// `RetryPolicy`, as far as it limits one attempt; of those there is one. `None` = no limit (0 in
/// the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerTry {
    /// `per_try_timeout`: until the response begins.
    pub timeout: Option<Duration>,
    /// `per_try_idle_timeout`: without a byte of the response.
    pub idle: Option<Duration>,
}

/// `grpc-timeout` of a request counts, up to a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcTimeouts {
    /// The maximum.
    pub max: Option<Duration>,
}

/// `RouteAction.cluster_specifier`.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteTarget {
    /// `cluster`.
    Cluster(Name),
    /// `weighted_clusters`.
    Weighted(WeightedClusters),
}

/// Clusters with weights; at least one, weights add up to 1..=u32::MAX.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedClusters {
    clusters: Vec<ClusterWeight>,
    total: u32,
}

/// One of several clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterWeight {
    /// `name`, not empty.
    pub name: Name,
    /// `weight`; 0 = never chosen.
    pub weight: u32,
}

impl WeightedClusters {
    /// Check and take a list of clusters.
    ///
    /// # Errors
    /// Where the list is empty or the weights add up to 0 or to more than `u32::MAX`.
    pub fn new(clusters: Vec<ClusterWeight>) -> Result<Self, Invalid> {
        let sum: u64 = clusters.iter().map(|c| u64::from(c.weight)).sum();
        match u32::try_from(sum) {
            Ok(0) => Err(Invalid::new(
                "the weights add up to 0; give at least one a weight",
            )),
            Ok(total) => Ok(Self { clusters, total }),
            Err(_) => Err(Invalid::new(format!(
                "the weights add up to {sum}; the most is {}",
                u32::MAX
            ))),
        }
    }

    /// The clusters, in order.
    pub fn clusters(&self) -> &[ClusterWeight] {
        &self.clusters
    }

    /// The sum of the weights, never 0.
    pub fn total(&self) -> u32 {
        self.total
    }
}

/// `DirectResponseAction`.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectResponse {
    /// `status`, 200..=599.
    pub status: StatusCode,
    /// `body.inline_string` or `inline_bytes`.
    pub body: Bytes,
}
