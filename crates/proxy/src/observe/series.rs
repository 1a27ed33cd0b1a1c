//! Handles of the statistics of each resource, named as Envoy's Prometheus endpoint names them.

use super::stats::{Counter, Gauge, Histogram, Labels, Registry};

/// Declares a set of series: the struct, how it is made, and the rows of docs/metrics.md.
macro_rules! series {
    ($(#[$doc:meta])* $set:ident($label:expr) {
        $($field:ident: $kind:ident $make:ident $family:literal $help:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $set {
            $(#[doc = concat!("`", $family, "`: ", $help)] pub $field: $kind,)*
        }

        impl $set {
            /// The label that tells one of these from another; empty where there is one only.
            pub const LABEL: &'static str = $label;
            /// Family, type and meaning of each.
            pub const ROWS: &'static [(&'static str, &'static str, &'static str)] =
                &[$(($family, stringify!($make), $help),)*];

            /// The handles for this value of the label.
            pub fn new(registry: &Registry, value: &str) -> Self {
                let labelled = [(Self::LABEL, value)];
                let labels: Labels<'_> = if Self::LABEL.is_empty() { &[] } else { &labelled };
                Self { $($field: registry.$make($family, $help, labels),)* }
            }
        }
    };
}

series! {
    /// Of the process.
    ProcessSeries("") {
        panics: Counter counter "shunt_panics_total"
            "Connections that a defect of the proxy ended",
        log_dropped: Counter counter "shunt_access_log_dropped_total"
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
        rq_1xx: Counter counter "envoy_http_downstream_rq_1xx" "Responses with status 100 to 199",
        rq_2xx: Counter counter "envoy_http_downstream_rq_2xx" "Responses with status 200 to 299",
        rq_3xx: Counter counter "envoy_http_downstream_rq_3xx" "Responses with status 300 to 399",
        rq_4xx: Counter counter "envoy_http_downstream_rq_4xx" "Responses with status 400 to 499",
        rq_5xx: Counter counter "envoy_http_downstream_rq_5xx" "Responses with status 500 to 599",
        rq_time: Histogram histogram "envoy_http_downstream_rq_time"
            "Milliseconds from the head of the request to the end of the response",
        no_route: Counter counter "envoy_http_no_route" "Requests that no route matched",
        no_cluster: Counter counter "envoy_http_no_cluster"
            "Requests whose route names a cluster that does not exist",
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
            "Requests that were not answered within the route's timeout",
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

    /// docs/metrics.md lists what is here, word for word.
    #[test]
    fn the_documentation_lists_every_series() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let sets = [
            ("", ProcessSeries::ROWS),
            (ListenerSeries::LABEL, ListenerSeries::ROWS),
            (HttpSeries::LABEL, HttpSeries::ROWS),
            (TcpSeries::LABEL, TcpSeries::ROWS),
            (ClusterSeries::LABEL, ClusterSeries::ROWS),
        ];
        for (label, rows) in sets {
            for (family, kind, help) in rows {
                let row = format!("| `{family}` | {kind} | {label} | {help} |");
                assert!(
                    text.contains(&row),
                    "docs/metrics.md lacks this row:\n{row}"
                );
            }
        }
    }
}
