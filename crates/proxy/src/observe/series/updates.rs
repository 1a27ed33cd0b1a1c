//! Counters of the sources that configuration comes from, one set for each kind of resource.

use crate::observe::stats::{Counter, Family, Kind, Registry};

series! {
    /// Of the source of listeners.
    LdsSeries("") {
        attempt: Counter counter "envoy_listener_manager_lds_update_attempt"
            "Times that the file of listeners was read",
        success: Counter counter "envoy_listener_manager_lds_update_success"
            "Times that listeners were taken from it",
        failure: Counter counter "envoy_listener_manager_lds_update_failure"
            "Times that it could not be read or was neither YAML nor JSON",
        rejected: Counter counter "envoy_listener_manager_lds_update_rejected"
            "Times that it held what cannot be served; the listeners before stay",
    }
}

series! {
    /// Of the source of clusters.
    CdsSeries("") {
        attempt: Counter counter "envoy_cluster_manager_cds_update_attempt"
            "Times that the file of clusters was read",
        success: Counter counter "envoy_cluster_manager_cds_update_success"
            "Times that clusters were taken from it",
        failure: Counter counter "envoy_cluster_manager_cds_update_failure"
            "Times that it could not be read or was neither YAML nor JSON",
        rejected: Counter counter "envoy_cluster_manager_cds_update_rejected"
            "Times that it held what cannot be served; the clusters before stay",
    }
}

series! {
    /// Of the source of a route configuration.
    RdsSeries("envoy_rds_route_config") {
        attempt: Counter counter "envoy_http_rds_update_attempt"
            "Times that the file of the route configuration was read",
        success: Counter counter "envoy_http_rds_update_success"
            "Times that route configurations were taken from it",
        failure: Counter counter "envoy_http_rds_update_failure"
            "Times that it could not be read or was neither YAML nor JSON",
        rejected: Counter counter "envoy_http_rds_update_rejected"
            "Times that it held what cannot be served; the routes before stay",
    }
}

series! {
    /// Of the source of a cluster's endpoints.
    EdsSeries("envoy_cluster_name") {
        attempt: Counter counter "envoy_cluster_update_attempt"
            "Times that the file of the cluster's endpoints was read",
        success: Counter counter "envoy_cluster_update_success"
            "Times that endpoints were taken from it",
        failure: Counter counter "envoy_cluster_update_failure"
            "Times that it could not be read or was neither YAML nor JSON",
        rejected: Counter counter "envoy_cluster_update_rejected"
            "Times that it held what cannot be served; the endpoints before stay",
    }
}

series! {
    /// Of the source of a secret.
    SdsSeries("envoy_sds_secret") {
        attempt: Counter counter "envoy_sds_update_attempt"
            "Times that the file of the secret, or a file that it names, was read",
        success: Counter counter "envoy_sds_update_success"
            "Times that secrets were taken from it",
        failure: Counter counter "envoy_sds_update_failure"
            "Times that it could not be read or was neither YAML nor JSON",
        rejected: Counter counter "envoy_sds_update_rejected"
            "Times that it held what cannot be used, the secrets before stay; or has never held this one",
    }
}

/// What became of reading a source, whatever its kind.
#[derive(Debug, Clone, Copy)]
pub struct UpdateSeries {
    /// It was read.
    pub attempt: Counter,
    /// Its resources were taken.
    pub success: Counter,
    /// It is no text that can be read.
    pub failure: Counter,
    /// It cannot be served.
    pub rejected: Counter,
}

macro_rules! whatever_kind {
    ($($set:ident)*) => {
        $(impl From<$set> for UpdateSeries {
            fn from(set: $set) -> Self {
                let $set { attempt, success, failure, rejected } = set;
                Self { attempt, success, failure, rejected }
            }
        })*
    };
}

whatever_kind!(LdsSeries CdsSeries RdsSeries EdsSeries SdsSeries);
