//! What is known of all resources, and what of it can be served.
//!
//! A resource that needs a part which is in a file is warm when that part has come. Until then the
//! version of it that was served before goes on, if there was one.

use super::contents::{Contents, Kind};
use crate::bootstrap::draft::{ClusterDraft, FileSource, ListenerDraft, Start, Want};
use crate::bootstrap::reader::Reader;
use crate::path::Path;
use shunt_proxy::model::{Cluster, ClusterKind, Name, Resources};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

/// A file and what it is read for.
pub(super) type Key = (Kind, FileSource);

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) contents: Arc<Contents>,
    /// Of the text that they were taken from; `None` = nothing could be taken from it yet.
    pub(super) hash: Option<u64>,
}

/// What is known.
#[derive(Debug, Clone)]
pub(crate) struct State {
    start: Arc<Start>,
    files: BTreeMap<Key, Known>,
    served: Served,
}

/// What is served, and what waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served {
    pub(crate) resources: Resources,
    listeners: Vec<ListenerDraft>,
    /// Names of listeners and clusters that wait for a part of them.
    pub(super) warming: (Vec<Name>, Vec<Name>),
}

impl State {
    /// What a bootstrap says, before any file is read.
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start: Arc::new(start),
            files: BTreeMap::new(),
            served: Served::default(),
        }
    }

    /// Whether anything is in files.
    pub(crate) fn has_files(&self) -> bool {
        !self.needed().is_empty()
    }

    /// What is served.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// Serve this from now on, and forget files that nothing needs any more.
    pub(super) fn serve(&mut self, served: Served) {
        self.served = served;
        let needed = self.needed();
        self.files.retain(|key, _| needed.contains(key));
    }

    /// Whether all files were taken at least once and nothing waits for a part of it.
    pub(super) fn is_warm(&self) -> bool {
        let (listeners, clusters) = &self.served.warming;
        let taken = |key: &Key| self.files.get(key).is_some_and(|file| file.hash.is_some());
        listeners.is_empty() && clusters.is_empty() && self.needed().iter().all(taken)
    }

    /// A file that was read.
    pub(super) fn file(&self, key: &Key) -> Option<&Known> {
        self.files.get(key)
    }

    /// Put what was read of a file in the place of what was there.
    pub(super) fn put(&mut self, key: Key, mut contents: Contents, hash: Option<u64>) {
        if let Some(before) = self.files.get(&key) {
            contents.keep(&before.contents);
        }
        let contents = Arc::new(contents);
        self.files.insert(key, Known { contents, hash });
    }

    /// A file that is needed and was not read yet.
    pub(super) fn missing(&self) -> Option<Key> {
        let mut needed = self.needed().into_iter();
        needed.find(|key| !self.files.contains_key(key))
    }

    /// Every file that is needed, also by what is still served while its successor waits.
    pub(super) fn needed(&self) -> BTreeSet<Key> {
        let start = &self.start;
        let of = |kind, source: &Option<FileSource>| source.clone().map(|source| (kind, source));
        let mut needed = BTreeSet::new();
        needed.extend(of(Kind::Listeners, &start.lds));
        needed.extend(of(Kind::Clusters, &start.cds));
        let listeners = self.listeners().chain(&self.served.listeners);
        for want in listeners.flat_map(|draft| &draft.routes) {
            needed.insert((Kind::Routes, want.source.clone()));
        }
        for (want, _) in self.clusters().filter_map(|draft| draft.endpoints.as_ref()) {
            needed.insert((Kind::Endpoints, want.source.clone()));
        }
        needed
    }

    /// The names of resources that come from a file, as its statistics are labelled.
    pub(super) fn fed_by(&self, key: &Key) -> BTreeSet<&str> {
        let (kind, source) = key;
        match kind {
            Kind::Listeners | Kind::Clusters => BTreeSet::from([""]),
            Kind::Routes => {
                let wants = self.listeners().flat_map(|draft| &draft.routes);
                let wants = wants.filter(|want| want.source == *source);
                wants.map(|want| want.name.as_str()).collect()
            }
            Kind::Endpoints => {
                let fed = self.clusters().filter(|draft| {
                    let endpoints = draft.endpoints.as_ref();
                    endpoints.is_some_and(|(want, _)| want.source == *source)
                });
                fed.map(|draft| &*draft.model.name).collect()
            }
        }
    }

    fn listeners(&self) -> impl Iterator<Item = &ListenerDraft> {
        let found = self.start.lds.as_ref().and_then(|source| {
            let key = (Kind::Listeners, source.clone());
            match &*self.files.get(&key)?.contents {
                Contents::Listeners(listeners) => Some(listeners),
                _ => None,
            }
        });
        self.start
            .listeners
            .iter()
            .chain(found.into_iter().flatten())
    }

    fn clusters(&self) -> impl Iterator<Item = &ClusterDraft> {
        let found = self.start.cds.as_ref().and_then(|source| {
            let key = (Kind::Clusters, source.clone());
            match &*self.files.get(&key)?.contents {
                Contents::Clusters(clusters) => Some(clusters),
                _ => None,
            }
        });
        self.start
            .clusters
            .iter()
            .chain(found.into_iter().flatten())
    }

    /// All that can be served.
    ///
    /// # Errors
    /// Where resources of different files contradict each other, in words for a person.
    pub(crate) fn build(&self) -> Result<Served, String> {
        let mut next = Served::default();
        self.build_clusters(&mut next)?;
        self.build_listeners(&mut next)?;
        self.build_routes(&mut next)?;
        Ok(next)
    }

    fn build_clusters(&self, next: &mut Served) -> Result<(), String> {
        let before = self.served.resources.clusters.iter();
        let before: HashMap<&str, _> = before.map(|cluster| (&*cluster.name, cluster)).collect();
        let mut names = BTreeSet::new();
        for draft in self.clusters() {
            let name = &draft.model.name;
            if !names.insert(name) {
                return Err(twice("cluster", name));
            }
            match self.cluster(draft) {
                Some(cluster) => next.resources.clusters.push(cluster),
                None => {
                    next.warming.1.push(Arc::clone(name));
                    let before = before.get(&**name).copied();
                    next.resources.clusters.extend(before.map(Arc::clone));
                }
            }
        }
        Ok(())
    }

    /// A cluster with its endpoints; `None` where they have not come yet.
    fn cluster(&self, draft: &ClusterDraft) -> Option<Arc<Cluster>> {
        let Some((want, transports)) = &draft.endpoints else {
            return Some(Arc::clone(&draft.model));
        };
        let file = self.files.get(&(Kind::Endpoints, want.source.clone()))?;
        let Contents::Endpoints(assignments) = &*file.contents else {
            return None;
        };
        let assignment = assignments.get(&want.name)?;
        // They were checked when they were read.
        let mut reader = Reader::of_files();
        let assignment = Some((**assignment).clone());
        let endpoints = reader.load_assignment(assignment, transports, &Path::ROOT)?;
        Some(Arc::new(Cluster {
            kind: ClusterKind::Static(endpoints),
            ..Cluster::clone(&draft.model)
        }))
    }

    fn build_listeners(&self, next: &mut Served) -> Result<(), String> {
        let before = self.served.listeners.iter();
        let before: HashMap<&str, _> = before.map(|draft| (&*draft.model.name, draft)).collect();
        let mut names = BTreeSet::new();
        let mut addresses: HashMap<(SocketAddr, bool), &str> = HashMap::new();
        for draft in self.listeners() {
            let (model, name) = (&draft.model, &draft.model.name);
            if !names.insert(name) {
                return Err(twice("listener", name));
            }
            for address in model.addresses().filter(|address| address.port() != 0) {
                let owner = addresses.insert((address, model.bind_to_port), name);
                if let Some(owner) = owner {
                    return Err(format!(
                        "the listeners {owner:?} and {name:?} both have the address {address}; \
                         give each its own"
                    ));
                }
            }
            let warm = draft.routes.iter().all(|want| self.routes(want).is_some());
            if warm {
                next.listeners.push(draft.clone());
            } else {
                next.warming.0.push(Arc::clone(name));
                let before = before.get(&**name).copied();
                next.listeners.extend(before.cloned());
            }
        }
        let models = next.listeners.iter().map(|draft| Arc::clone(&draft.model));
        next.resources.listeners = models.collect();
        Ok(())
    }

    fn routes(&self, want: &Want) -> Option<&Arc<shunt_proxy::model::RouteConfiguration>> {
        let file = self.files.get(&(Kind::Routes, want.source.clone()))?;
        match &*file.contents {
            Contents::Routes(routes) => routes.get(&want.name),
            _ => None,
        }
    }

    fn build_routes(&self, next: &mut Served) -> Result<(), String> {
        let mut sources: BTreeMap<&str, &Want> = BTreeMap::new();
        for want in next.listeners.iter().flat_map(|draft| &draft.routes) {
            let first = sources.entry(&want.name).or_insert(want);
            if first.source.path != want.source.path {
                return Err(format!(
                    "the route configuration {:?} is in two files, {} and {}; give one another \
                     name",
                    want.name,
                    first.source.path.display(),
                    want.source.path.display()
                ));
            }
        }
        let routes = sources.values().filter_map(|want| self.routes(want));
        next.resources.routes = routes.map(Arc::clone).collect();
        Ok(())
    }
}

fn twice(what: &str, name: &str) -> String {
    format!(
        "there are two {what}s of the name {name:?}, in static_resources and in its file; give \
         one another name"
    )
}
