//! Responses of a cluster by status code.

use super::{Counter, Registry, WorkerStats};
use http::StatusCode;
use smallvec::SmallVec;
use std::cell::RefCell;

/// Responses of one cluster by status, resolved by a worker when it first sees one.
#[derive(Debug)]
pub struct CodeCounters {
    registry: Registry,
    cluster: String,
    seen: RefCell<SmallVec<[(StatusCode, Counter, Counter); 4]>>,
}

impl CodeCounters {
    /// Name, meaning and first label of the series by status code.
    pub const CODE: (&'static str, &'static str, &'static str) = (
        "envoy_cluster_upstream_rq",
        "Responses of the cluster by status code",
        "envoy_response_code",
    );

    /// The same for the series by class of status code.
    pub const CLASS: (&'static str, &'static str, &'static str) = (
        "envoy_cluster_upstream_rq_xx",
        "Responses of the cluster by class of status code",
        "envoy_response_code_class",
    );

    /// None seen.
    pub fn new(registry: &Registry, cluster: &str) -> Self {
        Self {
            registry: registry.clone(),
            cluster: cluster.to_owned(),
            seen: RefCell::default(),
        }
    }

    /// Count a response.
    pub fn inc(&self, stats: &WorkerStats, status: StatusCode) {
        let known = self
            .seen
            .borrow()
            .iter()
            .find(|(s, ..)| *s == status)
            .copied();
        let (_, code, class) = known.unwrap_or_else(|| {
            let resolved = self.resolve(status);
            self.seen.borrow_mut().push(resolved);
            resolved
        });
        stats.inc(code);
        stats.inc(class);
    }

    fn resolve(&self, status: StatusCode) -> (StatusCode, Counter, Counter) {
        let class = (status.as_u16() / 100).to_string();
        let cluster = ("envoy_cluster_name", self.cluster.as_str());
        let counter = |(name, help, label), value| {
            self.registry
                .counter(name, help, &[(label, value), cluster])
        };
        let code = counter(Self::CODE, status.as_str());
        let class = counter(Self::CLASS, &class);
        (status, code, class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_counted_by_code_and_by_class() {
        let registry = Registry::new(1);
        let stats = registry.worker(0);
        let codes = CodeCounters::new(&registry, "c");
        for status in [200, 204, 200, 503, 600] {
            codes.inc(&stats, StatusCode::from_u16(status).unwrap());
        }
        let cluster = ("envoy_cluster_name", "c");
        let code = |code| {
            registry.value(
                "envoy_cluster_upstream_rq",
                &[("envoy_response_code", code), cluster],
            )
        };
        assert_eq!(
            [code("200"), code("204"), code("503")],
            [Some(2), Some(1), Some(1)]
        );
        assert_eq!(code("404"), None);
        let class = |class| {
            registry.value(
                "envoy_cluster_upstream_rq_xx",
                &[("envoy_response_code_class", class), cluster],
            )
        };
        assert_eq!(
            [class("2"), class("5"), class("6")],
            [Some(3), Some(1), Some(1)]
        );
    }
}
