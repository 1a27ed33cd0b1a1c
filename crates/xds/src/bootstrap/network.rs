//! Network filters: the terminal filter of a chain, and TCP.

use super::reader::Reader;
use super::values::is;
use crate::path::Path;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use shunt_proxy::model::{ClusterWeight, NetworkFilter, TcpCluster, TcpProxy, WeightedClusters};
use std::time::Duration;

/// Envoy's default of an `idle_timeout`.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The least that Envoy takes for a duration of connections.
pub(super) const LEAST_DURATION: Duration = Duration::from_millis(1);

impl Reader {
    /// The filters of a chain. All that are implemented are terminal, so there is exactly one.
    pub(super) fn network_filters(
        &mut self,
        filters: Vec<pb::Filter>,
        path: &Path<'_>,
    ) -> Option<NetworkFilter> {
        if filters.len() != 1 {
            let rule =
                "a chain has exactly one terminal filter (HttpConnectionManager or TcpProxy)";
            let message = format!("{rule}; this one has {} filters", filters.len());
            self.report.invalid(path, message);
        }
        let filters = self.each(filters, path, Self::network_filter);
        filters.into_iter().next().flatten()
    }

    fn network_filter(&mut self, filter: pb::Filter, path: &Path<'_>) -> Option<NetworkFilter> {
        let path = path.field("typed_config");
        let any = match filter.config_type {
            Some(pb::filter::ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        };
        match any {
            Some(any) if is::<HttpConnectionManager>(&any) => {
                let manager = self.extension(&any, &path)?;
                self.http_connection_manager(manager, &path)
                    .map(NetworkFilter::Http)
            }
            Some(any) if is::<tcp::TcpProxy>(&any) => {
                let proxy = self.extension(&any, &path)?;
                self.tcp_proxy(proxy, &path).map(NetworkFilter::Tcp)
            }
            other => {
                self.misplaced(other.as_ref(), "HttpConnectionManager or TcpProxy", &path);
                None
            }
        }
    }

    fn tcp_proxy(&mut self, proxy: tcp::TcpProxy, path: &Path<'_>) -> Option<TcpProxy> {
        use tcp::tcp_proxy::ClusterSpecifier;
        let stat_prefix = self.name(proxy.stat_prefix, &path.field("stat_prefix"));
        let cluster = match proxy.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => self
                .cluster_name(name, &path.field("cluster"))
                .map(TcpCluster::Cluster),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => self
                .tcp_weights(weighted, &path.field("weighted_clusters"))
                .map(TcpCluster::Weighted),
            None => {
                self.report
                    .invalid(path, "it needs cluster or weighted_clusters");
                None
            }
        };
        let idle_timeout = self.timeout(
            proxy.idle_timeout,
            IDLE_TIMEOUT,
            &path.field("idle_timeout"),
        );
        let at = path.field("max_downstream_connection_duration");
        let max_duration = self.duration(proxy.max_downstream_connection_duration, &at);
        if max_duration.is_some_and(|duration| duration < LEAST_DURATION) {
            self.report.invalid(&at, "it must be at least 1 ms");
        }
        let at = path.field("max_connect_attempts");
        let max_connect_attempts = self.number(proxy.max_connect_attempts, 1, 1..=u32::MAX, &at);
        let hash_source = self.hash_source(&proxy.hash_policy, &path.field("hash_policy"));
        let access_log = self.access_logs(proxy.access_log, &path.field("access_log"));
        Some(TcpProxy {
            stat_prefix: stat_prefix?,
            cluster: cluster?,
            idle_timeout,
            max_duration,
            max_connect_attempts,
            hash_source,
            access_log,
        })
    }

    fn tcp_weights(
        &mut self,
        weighted: tcp::tcp_proxy::WeightedCluster,
        path: &Path<'_>,
    ) -> Option<WeightedClusters> {
        let at = path.field("clusters");
        let clusters = self.each(weighted.clusters, &at, |reader, cluster, path| {
            let name = reader.cluster_name(cluster.name, &path.field("name"));
            if cluster.weight == 0 {
                let path = path.field("weight");
                reader
                    .report
                    .invalid(&path, "it is required, and at least 1");
            }
            Some(ClusterWeight {
                name: name?,
                weight: cluster.weight,
            })
        });
        let weighted = WeightedClusters::new(clusters.into_iter().collect::<Option<_>>()?);
        self.report.check(path, weighted)
    }
}
