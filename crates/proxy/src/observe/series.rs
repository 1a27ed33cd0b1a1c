//! Handles of the statistics of each resource, named as Envoy's Prometheus endpoint names them.

use super::stats::{Counter, Family, Gauge, Histogram, Kind, Registry};

/// Declares a set of series: the struct, how it is made, and the rows of docs/metrics.md.
macro_rules! series {
    ($(#[$doc:meta])* $set:ident($label:expr) {
        $($field:ident: $kind:ident $make:ident $family:literal
            $([$fixed:literal = $value:literal])? $help:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $set {
            $(#[doc = concat!("`", $family, "`: ", $help)] pub $field: $kind,)*
        }

        impl $set {
            /// The label that tells one of these from another; empty where there is one only.
            pub const LABEL: &'static str = $label;

            /// What each is called and means.
            pub const FAMILIES: &'static [Family] = &[$(Family {
                name: $family,
                help: $help,
                kind: Kind::$kind,
                fixed: fixed!($($fixed = $value)?),
            },)*];

            /// The handles for this value of the label.
            pub fn new(registry: &Registry, value: &str) -> Self {
                let labelled = [(Self::LABEL, value)];
                let labels = if Self::LABEL.is_empty() { &[][..] } else { &labelled };
                let mut handles = registry.set(Self::FAMILIES, labels);
                // In the order of the families: a struct literal evaluates its fields as written.
                Self { $($field: handles.$make(),)* }
            }
        }
    };
}

/// The label that stands before a set's own, if there is one.
macro_rules! fixed {
    () => {
        None
    };
    ($name:literal = $value:literal) => {
        Some(($name, $value))
    };
}

mod updates;

pub use updates::{CdsSeries, EdsSeries, LdsSeries, RdsSeries, SdsSeries, UpdateSeries};

series! {
    /// Of the process.
    ProcessSeries("") {
        panics: Counter counter "shunt_panics_total"
            "Connections that a defect of the proxy ended",
        tls_found: Counter counter "envoy_tls_inspector_tls_found"
            "Inspected connections that begin with a ClientHello",
        tls_not_found: Counter counter "envoy_tls_inspector_tls_not_found"
            "Inspected connections that are not TLS",
        client_hello_too_large: Counter counter "envoy_tls_inspector_client_hello_too_large"
            "Connections closed because their ClientHello was too long",
        sni_found: Counter counter "envoy_tls_inspector_sni_found"
            "TLS connections that ask for a server name",
        sni_not_found: Counter counter "envoy_tls_inspector_sni_not_found"
            "TLS connections that ask for no server name",
        alpn_found: Counter counter "envoy_tls_inspector_alpn_found"
            "TLS connections that offer application protocols",
        alpn_not_found: Counter counter "envoy_tls_inspector_alpn_not_found"
            "TLS connections that offer no application protocol",
    }
}

series! {
    /// Of changes of the configuration.
    ManagerSeries("") {
        cluster_added: Counter counter "envoy_cluster_manager_cluster_added"
            "Clusters that were added, those of the start included",
        cluster_modified: Counter counter "envoy_cluster_manager_cluster_modified"
            "Clusters that were replaced by another version, of their endpoints too",
        cluster_removed: Counter counter "envoy_cluster_manager_cluster_removed"
            "Clusters that were removed",
        listener_added: Counter counter "envoy_listener_manager_listener_added"
            "Listeners that were added, those of the start included",
        listener_modified: Counter counter "envoy_listener_manager_listener_modified"
            "Listeners that were replaced by another version",
        listener_removed: Counter counter "envoy_listener_manager_listener_removed"
            "Listeners that were removed",
        warming_clusters: Gauge gauge "envoy_cluster_manager_warming_clusters"
            "Clusters that wait for their endpoints or secrets; the version before, if there is one, serves meanwhile",
        warming_listeners: Gauge gauge "envoy_listener_manager_total_listeners_warming"
            "Listeners that wait for their routes or secrets; the version before, if there is one, serves meanwhile",
    }
}

series! {
    /// Of a sink of access logs: `stdout`, `stderr`, or the path of a file.
    SinkSeries("sink") {
        dropped: Counter counter "shunt_access_log_dropped_total"
            "Access log records dropped because their sink was blocked or failed",
    }
}

series! {
    /// Of a listener.
    ListenerSeries("envoy_listener_address") {
        cx_total: Counter counter "envoy_listener_downstream_cx_total"
            "Connections that the listener served; one that was handed over by its original destination counts where it was handed to",
        cx_active: Gauge gauge "envoy_listener_downstream_cx_active" "Open connections",
        cx_destroy: Counter counter "envoy_listener_downstream_cx_destroy" "Ended connections",
        cx_overload_reject: Counter counter "envoy_listener_downstream_cx_overload_reject"
            "Connections refused because no file descriptor was left",
        no_filter_chain_match: Counter counter "envoy_listener_no_filter_chain_match"
            "Connections closed because no filter chain matched",
        pre_cx_timeout: Counter counter "envoy_listener_downstream_pre_cx_timeout"
            "Connections whose listener filters took too long",
        proxy_proto_error: Counter counter "envoy_listener_downstream_cx_proxy_proto_error"
            "Connections closed because of their PROXY header",
    }
}

series! {
    /// Of a listener whose filter chains terminate TLS.
    ListenerTlsSeries("envoy_listener_address") {
        handshake: Counter counter "envoy_listener_ssl_handshake" "Handshakes that succeeded",
        session_reused: Counter counter "envoy_listener_ssl_session_reused"
            "Handshakes that resumed a session",
        no_certificate: Counter counter "envoy_listener_ssl_no_certificate"
            "Handshakes in which the client showed no certificate and needed none",
        fail_verify_no_cert: Counter counter "envoy_listener_ssl_fail_verify_no_cert"
            "Handshakes that failed for want of a client certificate",
        fail_verify_error: Counter counter "envoy_listener_ssl_fail_verify_error"
            "Handshakes that failed because the client certificate is not trusted",
        fail_verify_san: Counter counter "envoy_listener_ssl_fail_verify_san"
            "Handshakes that failed because the client certificate names nobody who is allowed",
        connection_error: Counter counter "envoy_listener_ssl_connection_error"
            "Handshakes that failed for another reason of TLS",
        connect_timeout: Counter counter
            "envoy_listener_downstream_cx_transport_socket_connect_timeout"
            "Connections closed because their handshake took too long",
    }
}

series! {
    /// Of a cluster whose endpoints are reached by TLS.
    ClusterTlsSeries("envoy_cluster_name") {
        handshake: Counter counter "envoy_cluster_ssl_handshake" "Handshakes that succeeded",
        session_reused: Counter counter "envoy_cluster_ssl_session_reused"
            "Handshakes that resumed a session",
        fail_verify_error: Counter counter "envoy_cluster_ssl_fail_verify_error"
            "Handshakes that failed because the upstream's certificate is not trusted",
        fail_verify_san: Counter counter "envoy_cluster_ssl_fail_verify_san"
            "Handshakes that failed because the upstream's certificate names nobody who is allowed",
        connection_error: Counter counter "envoy_cluster_ssl_connection_error"
            "Handshakes that failed for another reason of TLS",
    }
}

series! {
    /// Of an HTTP connection manager.
    HttpSeries("envoy_http_conn_manager_prefix") {
        cx_total: Counter counter "envoy_http_downstream_cx_total" "Connections",
        cx_active: Gauge gauge "envoy_http_downstream_cx_active" "Open connections",
        cx_protocol_error: Counter counter "envoy_http_downstream_cx_protocol_error"
            "Connections that ended in bytes which are no request",
        rq_total: Counter counter "envoy_http_downstream_rq_total" "Requests",
        rq_active: Gauge gauge "envoy_http_downstream_rq_active" "Requests in flight",
        rq_1xx: Counter counter "envoy_http_downstream_rq_xx" ["envoy_response_code_class" = "1"]
            "Responses by class of status code",
        rq_2xx: Counter counter "envoy_http_downstream_rq_xx" ["envoy_response_code_class" = "2"]
            "Responses by class of status code",
        rq_3xx: Counter counter "envoy_http_downstream_rq_xx" ["envoy_response_code_class" = "3"]
            "Responses by class of status code",
        rq_4xx: Counter counter "envoy_http_downstream_rq_xx" ["envoy_response_code_class" = "4"]
            "Responses by class of status code",
        rq_5xx: Counter counter "envoy_http_downstream_rq_xx" ["envoy_response_code_class" = "5"]
            "Responses by class of status code",
        rq_time: Histogram histogram "envoy_http_downstream_rq_time"
            "Milliseconds from the head of the request to the end of the response",
        no_route: Counter counter "envoy_http_no_route" "Requests that no route matched",
        no_cluster: Counter counter "envoy_http_no_cluster"
            "Requests whose route names a cluster that does not exist",
    }
}

series! {
    /// Of an HTTP connection manager whose clients speak HTTP/2.
    Http2Series("envoy_http_conn_manager_prefix") {
        cx_total: Counter counter "envoy_http_downstream_cx_http2_total"
            "Connections that speak HTTP/2",
        rq_rx_reset: Counter counter "envoy_http_downstream_rq_rx_reset"
            "Requests of HTTP/2 that their client reset",
    }
}

series! {
    /// Of a TCP proxy.
    TcpSeries("envoy_tcp_prefix") {
        cx_total: Counter counter "envoy_tcp_downstream_cx_total" "Connections",
        no_route: Counter counter "envoy_tcp_downstream_cx_no_route"
            "Connections whose cluster does not exist",
        rx_bytes: Counter counter "envoy_tcp_downstream_cx_rx_bytes_total"
            "Bytes received from downstream, of ended connections",
        tx_bytes: Counter counter "envoy_tcp_downstream_cx_tx_bytes_total"
            "Bytes sent downstream, of ended connections",
    }
}

series! {
    /// Of a cluster.
    ClusterSeries("envoy_cluster_name") {
        cx_total: Counter counter "envoy_cluster_upstream_cx_total" "Connections made",
        cx_active: Gauge gauge "envoy_cluster_upstream_cx_active" "Open connections",
        cx_destroy: Counter counter "envoy_cluster_upstream_cx_destroy" "Ended connections",
        cx_connect_fail: Counter counter "envoy_cluster_upstream_cx_connect_fail"
            "Connections that could not be made",
        cx_connect_timeout: Counter counter "envoy_cluster_upstream_cx_connect_timeout"
            "Connections that were not made within connect_timeout",
        cx_overflow: Counter counter "envoy_cluster_upstream_cx_overflow"
            "Connections that max_connections did not allow",
        rq_total: Counter counter "envoy_cluster_upstream_rq_total"
            "Requests that were given a connection",
        rq_active: Gauge gauge "envoy_cluster_upstream_rq_active" "Requests in flight",
        rq_pending_overflow: Counter counter "envoy_cluster_upstream_rq_pending_overflow"
            "Requests that max_requests or max_pending_requests did not allow",
        rq_timeout: Counter counter "envoy_cluster_upstream_rq_timeout"
            "Requests that were not answered in whole within the route's timeout",
        rq_per_try_timeout: Counter counter "envoy_cluster_upstream_rq_per_try_timeout"
            "Requests whose answer did not begin within per_try_timeout",
        rq_per_try_idle_timeout: Counter counter "envoy_cluster_upstream_rq_per_try_idle_timeout"
            "Requests of whose answer nothing came for longer than per_try_idle_timeout",
        rq_replayed: Counter counter "shunt_cluster_upstream_rq_replayed_total"
            "Requests sent once more because their upstream had closed a connection that rested, or had not looked at them",
        rq_time: Histogram histogram "envoy_cluster_upstream_rq_time"
            "Milliseconds from the request to the head of the response",
    }
}

impl HttpSeries {
    /// The counter of this status' class, or `None` for a status that is none.
    pub fn class(&self, status: http::StatusCode) -> Option<Counter> {
        Some(match status.as_u16() / 100 {
            1 => self.rq_1xx,
            2 => self.rq_2xx,
            3 => self.rq_3xx,
            4 => self.rq_4xx,
            5 => self.rq_5xx,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::readiness::Readiness;
    use crate::observe::stats::CodeCounters;
    use std::collections::BTreeSet;

    const SETS: [(&str, &[Family]); 15] = [
        (ManagerSeries::LABEL, ManagerSeries::FAMILIES),
        (LdsSeries::LABEL, LdsSeries::FAMILIES),
        (CdsSeries::LABEL, CdsSeries::FAMILIES),
        (RdsSeries::LABEL, RdsSeries::FAMILIES),
        (EdsSeries::LABEL, EdsSeries::FAMILIES),
        (SdsSeries::LABEL, SdsSeries::FAMILIES),
        (Http2Series::LABEL, Http2Series::FAMILIES),
        (ListenerTlsSeries::LABEL, ListenerTlsSeries::FAMILIES),
        (ClusterTlsSeries::LABEL, ClusterTlsSeries::FAMILIES),
        (ProcessSeries::LABEL, ProcessSeries::FAMILIES),
        (SinkSeries::LABEL, SinkSeries::FAMILIES),
        (ListenerSeries::LABEL, ListenerSeries::FAMILIES),
        (HttpSeries::LABEL, HttpSeries::FAMILIES),
        (TcpSeries::LABEL, TcpSeries::FAMILIES),
        (ClusterSeries::LABEL, ClusterSeries::FAMILIES),
    ];

    fn row(name: &str, kind: &str, labels: &[&str], help: &str) -> String {
        format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
    }

    #[test]
    fn the_documentation_lists_every_series_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let documented: BTreeSet<String> = text
            .lines()
            .filter(|l| l.starts_with("| `"))
            .map(str::to_owned)
            .collect();
        let mut known = BTreeSet::new();
        for (label, families) in SETS {
            for family in families {
                let fixed = family.fixed.map(|(name, _)| name);
                let labels: Vec<&str> = fixed
                    .into_iter()
                    .chain((!label.is_empty()).then_some(label))
                    .collect();
                known.insert(row(family.name, family.kind.name(), &labels, family.help));
            }
        }
        for (name, help, label) in [CodeCounters::CODE, CodeCounters::CLASS] {
            known.insert(row(name, "counter", &[label, ClusterSeries::LABEL], help));
        }
        for (name, help) in [Readiness::LIVE, Readiness::STATE] {
            known.insert(row(name, "gauge", &[], help));
        }
        assert_eq!(documented, known, "docs/metrics.md and the code differ");
    }

    #[test]
    fn a_family_belongs_to_one_set() {
        let mut seen = BTreeSet::new();
        for (_, families) in SETS {
            for family in families {
                assert!(
                    seen.insert((family.name, family.fixed)),
                    "{} is there twice",
                    family.name
                );
            }
        }
    }

    #[test]
    fn each_handle_counts_the_family_that_its_documentation_names() {
        let registry = Registry::new(1);
        let stats = registry.worker(0);
        let series = HttpSeries::new(&registry, "http");
        stats.add(series.cx_total, 1);
        stats.gauge_add(series.rq_active, 2);
        stats.add(series.rq_5xx, 3);
        stats.record(series.rq_time, 4);
        stats.add(series.no_cluster, 5);
        let own = ("envoy_http_conn_manager_prefix", "http");
        let value = |name| registry.value(name, &[own]);
        assert_eq!(value("envoy_http_downstream_cx_total"), Some(1));
        assert_eq!(value("envoy_http_downstream_rq_active"), Some(2));
        let class = [("envoy_response_code_class", "5"), own];
        assert_eq!(
            registry.value("envoy_http_downstream_rq_xx", &class),
            Some(3)
        );
        assert_eq!(value("envoy_http_downstream_rq_time"), Some(1));
        assert_eq!(value("envoy_http_no_cluster"), Some(5));
    }
}
