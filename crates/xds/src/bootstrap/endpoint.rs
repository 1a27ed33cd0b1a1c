//! The endpoints of static clusters.

use super::reader::Reader;
use super::transports::Transports;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use pb::lb_endpoint::HostIdentifier;
use shunt_proxy::model::Endpoint;

impl Reader {
    /// All endpoints of a cluster; none where it has no `load_assignment`.
    pub(crate) fn load_assignment(
        &mut self,
        assignment: Option<pb::ClusterLoadAssignment>,
        transports: &Transports,
        path: &Path<'_>,
    ) -> Option<Vec<Endpoint>> {
        let Some(assignment) = assignment else {
            return Some(Vec::new());
        };
        let name = self.name(assignment.cluster_name, &path.field("cluster_name"));
        let localities = path.field("endpoints");
        let mut endpoints = Vec::new();
        for (i, locality) in assignment.endpoints.into_iter().enumerate() {
            let locality_path = localities.index(i);
            let path = locality_path.field("lb_endpoints");
            let read = |reader: &mut Self, endpoint, path: &Path<'_>| {
                reader.lb_endpoint(endpoint, transports, path)
            };
            endpoints.extend(self.each(locality.lb_endpoints, &path, read));
        }
        let endpoints = endpoints.into_iter().collect();
        name.and(endpoints)
    }

    fn lb_endpoint(
        &mut self,
        endpoint: pb::LbEndpoint,
        transports: &Transports,
        path: &Path<'_>,
    ) -> Option<Endpoint> {
        let tls = transports.of(endpoint.metadata.as_ref());
        let healthy = !matches!(
            endpoint.health_status(),
            HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout
        );
        let path = path.field("endpoint");
        let Some(HostIdentifier::Endpoint(endpoint)) = endpoint.host_identifier else {
            self.report.invalid(&path, "it is required");
            return None;
        };
        let path = path.field("address");
        let address = self.address(endpoint.address, &path)?;
        if address.port() == 0 {
            let path = path.field("socket_address");
            let message = "port 0: nothing can be connected to; name the port";
            self.report.invalid(&path.field("port_value"), message);
        }
        Some(Endpoint {
            address,
            healthy,
            tls,
        })
    }
}
