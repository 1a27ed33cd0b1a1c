//! The whole of a bootstrap, and what its parts must agree on.

use super::address;
use super::certificates::DataFile;
use super::draft::{ClusterDraft, FileSource, ListenerDraft, Start, Want};
use crate::error::{Problems, Report};
use crate::files::Kind;
use crate::path::Path;
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::listener::v3::Listener as PbListener;
use shunt_proxy::model::{Listener, Name, Secrets};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

/// Reads resources into the model and reports what is wrong with them. Methods return `None`
/// where they have reported something that leaves no value.
pub(crate) struct Reader {
    pub(crate) report: Report,
    /// The names of all clusters, also of those that are wrong in themselves; `None` = they come
    /// and go.
    clusters: Option<HashSet<String>>,
    /// What of the resource in hand is in another file.
    wants: Vec<Want>,
    /// Files of certificates and keys that were read.
    pub(crate) data: Vec<DataFile>,
    /// `static_resources.secrets`: those that a transport socket names without a source.
    pub(super) secrets: Arc<Secrets>,
    /// Names of those among them that are wrong in themselves.
    pub(super) wrong_secrets: Vec<Name>,
}

/// A bootstrap whose fields are all covered.
pub(super) fn read(bootstrap: pb::Bootstrap) -> Result<Start, Problems> {
    let resources = bootstrap.static_resources.unwrap_or_default();
    let root = Path::ROOT;
    let mut reader = Reader::of_files();
    let at = root.field("dynamic_resources");
    let dynamic = bootstrap.dynamic_resources.unwrap_or_default();
    let lds = reader.file_source(dynamic.lds_config, &at.field("lds_config"));
    let cds = reader.file_source(dynamic.cds_config, &at.field("cds_config"));
    if cds.is_none() {
        let names = resources.clusters.iter().map(|c| c.name.clone());
        reader.clusters = Some(names.collect());
    }
    let admin = reader.admin(bootstrap.admin, &root.field("admin"));
    if let Some(runtime) = bootstrap.layered_runtime {
        reader.layered_runtime(runtime, &root.field("layered_runtime"));
    }
    let path = root.field("static_resources");
    // First of all: clusters and listeners may name them.
    reader.static_secrets(resources.secrets, &path.field("secrets"));
    let clusters = reader.clusters(resources.clusters, &path.field("clusters"));
    let at = path.field("listeners");
    let listeners = reader.listeners(resources.listeners, &at);
    // A listener that is wrong in itself may have been meant to bind.
    let binds = |l: &Option<ListenerDraft>| l.as_ref().is_none_or(|l| l.model.bind_to_port);
    if lds.is_none() && !listeners.iter().any(binds) {
        reader.report.invalid(
            &at,
            "no listener binds a port, so nothing could ever be accepted; add one without \
             bind_to_port: false",
        );
    }
    let start = Start {
        admin,
        listeners: listeners.into_iter().flatten().collect(),
        clusters: clusters.into_iter().flatten().collect(),
        lds,
        cds,
        secrets: Arc::clone(&reader.secrets),
    };
    reader.report.finish(start)
}

impl Reader {
    /// A reader of resources whose clusters come and go.
    pub(crate) fn of_files() -> Self {
        Self {
            report: Report::default(),
            clusters: None,
            wants: Vec::new(),
            data: Vec::new(),
            secrets: Arc::default(),
            wrong_secrets: Vec::new(),
        }
    }

    /// The same, which knows the secrets of a bootstrap.
    pub(crate) fn beside(start: &Start) -> Self {
        Self {
            secrets: Arc::clone(&start.secrets),
            ..Self::of_files()
        }
    }

    /// Read something whose problems are its own: what else there is can do without it.
    pub(crate) fn apart<M>(&mut self, read: impl FnOnce(&mut Self) -> M) -> Result<M, Problems> {
        let whole = std::mem::take(&mut self.report);
        let read = read(self);
        std::mem::replace(&mut self.report, whole).finish(read)
    }

    /// Clusters with unique names.
    pub(crate) fn clusters(
        &mut self,
        clusters: Vec<PbCluster>,
        path: &Path<'_>,
    ) -> Vec<Option<ClusterDraft>> {
        let clusters = self.each(clusters, path, |reader, cluster, path| {
            let read = reader.cluster(cluster, path);
            let wants = std::mem::take(&mut reader.wants).into_iter();
            let (mut endpoints, secrets): (Vec<_>, Vec<_>) =
                wants.partition(|want| want.kind == Kind::Endpoints);
            let (model, transports) = read?;
            Some(ClusterDraft {
                model: Arc::new(model),
                endpoints: endpoints.pop().map(|want| (want, transports)),
                secrets,
            })
        });
        self.unique("cluster", &clusters, |cluster| &cluster.model.name, path);
        clusters
    }

    /// Listeners with unique names and addresses.
    pub(crate) fn listeners(
        &mut self,
        listeners: Vec<PbListener>,
        path: &Path<'_>,
    ) -> Vec<Option<ListenerDraft>> {
        let listeners = self.each(listeners, path, |reader, listener, path| {
            let model = reader.listener(listener, path);
            let wants = std::mem::take(&mut reader.wants);
            Some(ListenerDraft {
                model: Arc::new(model?),
                wants,
            })
        });
        self.unique(
            "listener",
            &listeners,
            |listener| &listener.model.name,
            path,
        );
        self.addresses(&listeners, path);
        listeners
    }

    /// Note that a part of the resource in hand is in another file.
    pub(super) fn want(&mut self, kind: Kind, name: &str, source: FileSource) {
        self.wants.push(Want {
            kind,
            name: name.to_owned(),
            source,
        });
    }

    /// Read each element of a list; those that are wrong stay as `None`, so that positions hold.
    pub(crate) fn each<P, M>(
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
    pub(crate) fn unique<M>(
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
    fn addresses(&mut self, listeners: &[Option<ListenerDraft>], path: &Path<'_>) {
        let places: Vec<(usize, usize, Place)> = listeners
            .iter()
            .enumerate()
            .flat_map(|(i, draft)| {
                let listener = draft.iter().map(|draft| &*draft.model);
                listener.flat_map(move |listener| {
                    let addresses = listener.addresses().enumerate();
                    addresses.map(move |(n, address)| (i, n, Place::of(listener, address)))
                })
            })
            .collect();
        // Port 0: the kernel chooses.
        let keys = places.iter().map(|(_, _, place)| {
            let chosen_by_kernel = place.bound && place.address.port() == 0;
            (!chosen_by_kernel).then_some(*place)
        });
        for (first, second, place) in doubles(keys) {
            let (listener, position, _) = places[second];
            let at = path.index(listener);
            let additional = at.field("additional_addresses");
            let at = match position.checked_sub(1) {
                None => at.field("address"),
                Some(n) => additional.index(n),
            };
            self.report.invalid(
                &at,
                format!(
                    "the listener at position {} has the address {} too; give each its own",
                    places[first].0, place.address
                ),
            );
        }
    }

    /// A required name.
    pub(crate) fn name(&mut self, name: String, path: &Path<'_>) -> Option<Name> {
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
        if self
            .clusters
            .as_ref()
            .is_some_and(|known| !known.contains(&*name))
        {
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

impl Place {
    fn of(listener: &Listener, address: SocketAddr) -> Self {
        Self {
            address,
            bound: listener.bind_to_port,
        }
    }
}

/// Positions of elements that are equal to an earlier one, and that one's position.
pub(crate) fn doubles<K: Eq + Hash + Clone>(
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
