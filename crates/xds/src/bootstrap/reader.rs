//! The whole of a bootstrap, and what its parts must agree on.

use super::address;
use crate::error::{Problems, Report};
use crate::path::Path;
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use shunt_proxy::model::{Bootstrap, Listener, Name};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;

/// Reads resources into the model and reports what is wrong with them. Methods return `None`
/// where they have reported something that leaves no value.
pub(super) struct Reader {
    pub(super) report: Report,
    /// The names of all clusters, also of those that are wrong in themselves.
    pub(super) clusters: HashSet<String>,
}

/// The model of a bootstrap whose fields are all covered.
pub(super) fn model(bootstrap: pb::Bootstrap) -> Result<Bootstrap, Problems> {
    let resources = bootstrap.static_resources.unwrap_or_default();
    let mut reader = Reader {
        report: Report::default(),
        clusters: resources.clusters.iter().map(|c| c.name.clone()).collect(),
    };
    let root = Path::ROOT;
    let admin = reader.admin(bootstrap.admin, &root.field("admin"));
    if let Some(runtime) = bootstrap.layered_runtime {
        reader.layered_runtime(runtime, &root.field("layered_runtime"));
    }
    let path = root.field("static_resources");
    let at = path.field("clusters");
    let clusters = reader.each(resources.clusters, &at, Reader::cluster);
    reader.unique("cluster", &clusters, |cluster| &cluster.name, &at);
    let at = path.field("listeners");
    let listeners = reader.each(resources.listeners, &at, Reader::listener);
    reader.unique("listener", &listeners, |listener| &listener.name, &at);
    reader.addresses(&listeners, &at);
    // A listener that is wrong in itself may have been meant to bind.
    let binds = |l: &Option<Listener>| l.as_ref().is_none_or(|l| l.bind_to_port);
    if !listeners.iter().any(binds) {
        reader.report.invalid(
            &at,
            "no listener binds a port, so nothing could ever be accepted; add one without \
             bind_to_port: false",
        );
    }
    let model = Bootstrap {
        admin,
        listeners: listeners.into_iter().flatten().collect(),
        clusters: clusters.into_iter().flatten().collect(),
    };
    reader.report.finish(model)
}

impl Reader {
    /// Read each element of a list; those that are wrong stay as `None`, so that positions hold.
    pub(super) fn each<P, M>(
        &mut self,
        list: Vec<P>,
        path: &Path<'_>,
        read: impl Fn(&mut Self, P, &Path<'_>) -> Option<M>,
    ) -> Vec<Option<M>> {
        list.into_iter()
            .enumerate()
            .map(|(i, element)| read(self, element, &path.index(i)))
            .collect()
    }

    /// Report a name that two elements of a list share.
    pub(super) fn unique<M>(
        &mut self,
        what: &str,
        list: &[Option<M>],
        name: impl Fn(&M) -> &str,
        path: &Path<'_>,
    ) {
        let names = list.iter().map(|element| element.as_ref().map(&name));
        for (first, second, name) in doubles(names) {
            self.report.invalid(
                &path.index(second).field("name"),
                format!(
                    "the {what} at position {first} is named {name:?} too; names must be unique"
                ),
            );
        }
    }

    /// Two listeners of a kind at one address: the kernel could not bind the second, or an
    /// original destination would lead to either.
    fn addresses(&mut self, listeners: &[Option<Listener>], path: &Path<'_>) {
        let places = listeners.iter().map(|listener| {
            let listener = listener.as_ref()?;
            let chosen_by_kernel = listener.bind_to_port && listener.address.port() == 0;
            (!chosen_by_kernel).then_some(Place {
                address: listener.address,
                bound: listener.bind_to_port,
            })
        });
        for (first, second, place) in doubles(places) {
            self.report.invalid(
                &path.index(second).field("address"),
                format!(
                    "the listener at position {first} has the address {} too; give each its own",
                    place.address
                ),
            );
        }
    }

    /// A required name.
    pub(super) fn name(&mut self, name: String, path: &Path<'_>) -> Option<Name> {
        if name.is_empty() {
            self.report
                .invalid(path, "it is required and must not be empty");
            return None;
        }
        Some(name.into())
    }

    /// The name of a cluster that must exist.
    pub(super) fn cluster_name(&mut self, name: String, path: &Path<'_>) -> Option<Name> {
        let name = self.name(name, path)?;
        if !self.clusters.contains(&*name) {
            self.report.invalid(
                path,
                format!("there is no cluster {name:?} in static_resources.clusters"),
            );
        }
        Some(name)
    }

    /// An address that must be there.
    pub(super) fn address(
        &mut self,
        address: Option<envoy_types::pb::envoy::config::core::v3::Address>,
        path: &Path<'_>,
    ) -> Option<SocketAddr> {
        address::socket(address, path, &mut self.report)
    }
}

/// Where a listener takes connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    address: SocketAddr,
    bound: bool,
}

/// Positions of elements that are equal to an earlier one, and that one's position.
pub(super) fn doubles<K: Eq + Hash + Clone>(
    keys: impl Iterator<Item = Option<K>>,
) -> Vec<(usize, usize, K)> {
    let mut seen = HashMap::new();
    let mut doubles = Vec::new();
    for (position, key) in keys.enumerate() {
        let Some(key) = key else { continue };
        let first = *seen.entry(key.clone()).or_insert(position);
        if first != position {
            doubles.push((first, position, key));
        }
    }
    doubles
}
