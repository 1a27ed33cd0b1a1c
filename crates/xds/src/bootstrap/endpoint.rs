//! The endpoints of static clusters.

use super::reader::Reader;
use super::transports::Transports;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use envoy_types::pb::google::protobuf::value::Kind;
use pb::lb_endpoint::HostIdentifier;
use shunt_proxy::model::{Balanced, Endpoint, Name};
use std::collections::{BTreeMap, BTreeSet};

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
        let places = places(&assignment.endpoints);
        for (i, locality) in assignment.endpoints.into_iter().enumerate() {
            let locality_path = localities.index(i);
            let path = locality_path.field("lb_endpoints");
            let place = InLocality {
                place: places[i],
                weight: locality.load_balancing_weight.map_or(0, |w| w.value),
            };
            let read = |reader: &mut Self, endpoint, path: &Path<'_>| {
                reader.lb_endpoint(endpoint, place, transports, path)
            };
            endpoints.extend(self.each(locality.lb_endpoints, &path, read));
        }
        let endpoints: Vec<Endpoint> = endpoints.into_iter().collect::<Option<_>>()?;
        let sum: u64 = endpoints.iter().map(|e| u64::from(e.balanced.weight)).sum();
        if u32::try_from(sum).is_err() {
            let message = format!(
                "the weights of its endpoints add up to {sum}; the most is {}",
                u32::MAX
            );
            self.report.invalid(&localities, message);
        }
        name.map(|_| endpoints)
    }

    fn lb_endpoint(
        &mut self,
        endpoint: pb::LbEndpoint,
        locality: InLocality,
        transports: &Transports,
        path: &Path<'_>,
    ) -> Option<Endpoint> {
        let at = path.field("load_balancing_weight");
        let weight = self.number(endpoint.load_balancing_weight, 1, 1..=u32::MAX, &at);
        let hash_key = hash_key(endpoint.metadata.as_ref());
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
            balanced: Balanced {
                weight,
                hostname: not_empty(&endpoint.hostname),
                hash_key,
                locality: locality.place,
                locality_weight: locality.weight,
            },
        })
    }
}

/// What a locality says of its endpoints.
#[derive(Clone, Copy)]
struct InLocality {
    /// Where it stands among the others.
    place: u32,
    weight: u32,
}

/// The place of each locality in the order of their names, as Envoy has them; the same one twice
/// has one.
fn places(localities: &[pb::LocalityLbEndpoints]) -> Vec<u32> {
    let name = |endpoints: &pb::LocalityLbEndpoints| {
        let locality = endpoints.locality.clone().unwrap_or_default();
        (locality.region, locality.zone, locality.sub_zone)
    };
    let names: BTreeSet<_> = localities.iter().map(name).collect();
    let places: BTreeMap<_, u32> = names.into_iter().zip(0..).collect();
    localities.iter().map(|l| places[&name(l)]).collect()
}

/// What is hashed in place of an endpoint's address.
fn hash_key(metadata: Option<&Metadata>) -> Option<Name> {
    let of_lb = metadata?.filter_metadata.get("envoy.lb")?;
    match of_lb.fields.get("hash_key")?.kind.as_ref()? {
        Kind::StringValue(key) => not_empty(key),
        _ => None,
    }
}

fn not_empty(text: &str) -> Option<Name> {
    (!text.is_empty()).then(|| text.into())
}
