//! What is known of all resources, and what of it can be served.
//!
//! A resource that needs a part which is in a file is warm when that part has come. Until then the
//! version of it that was served before goes on, if there was one.

use super::contents::{Contents, Kind, Wire};
use super::shown::Shown;
use super::waiting::Waiting;
use crate::bootstrap::certificates::DataFile;
use crate::bootstrap::draft::{ClusterDraft, FileSource, ListenerDraft, Start, Want};
use crate::bootstrap::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use shunt_proxy::model::{Cluster, ClusterKind, Name, Resources, RouteConfiguration, Secret};
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
    /// Files of certificates and keys that it names.
    pub(super) data: Vec<DataFile>,
    /// All of it is used.
    is_whole: bool,
    /// The resources themselves, to be shown.
    wire: Wire,
}

impl Known {
    /// Whether a text, and the files that it names, are those that were taken.
    pub(super) fn is(&self, hash: u64) -> bool {
        self.is_whole && self.hash == Some(hash) && self.data.iter().all(DataFile::is_current)
    }
}

/// What was read of a file.
pub(super) struct Read {
    pub(super) contents: Contents,
    pub(super) hash: Option<u64>,
    pub(super) data: Vec<DataFile>,
    pub(super) is_whole: bool,
    pub(super) wire: Wire,
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
    /// Listeners and clusters that wait for a part of them.
    pub(super) warming: (Vec<Waiting>, Vec<Waiting>),
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

    /// What the bootstrap says.
    pub(super) fn start(&self) -> &Start {
        &self.start
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
    pub(super) fn put(&mut self, key: Key, read: Read) {
        let Read {
            mut contents,
            hash,
            data,
            is_whole,
            mut wire,
        } = read;
        if let Some(before) = self.files.get(&key) {
            contents.keep(&before.contents);
            if !matches!(key.0, Kind::Listeners | Kind::Clusters) {
                for (name, resource) in &before.wire {
                    let kept = wire.entry(name.clone());
                    kept.or_insert_with(|| resource.clone());
                }
            }
        }
        let contents = Arc::new(contents);
        let known = Known {
            contents,
            hash,
            data,
            is_whole,
            wire,
        };
        self.files.insert(key, known);
    }

    /// A file of which nothing was taken: it, and what it names, is read again whatever changes.
    pub(super) fn refuse(&mut self, key: &Key, data: Vec<DataFile>) {
        let known = self.files.entry(key.clone()).or_insert_with(|| Known {
            contents: Arc::new(Contents::none(key.0)),
            hash: None,
            data: Vec::new(),
            is_whole: true,
            wire: Wire::new(),
        });
        // Those of the version before stay watched: it may come back.
        known.data.extend(data);
        known.data.iter_mut().for_each(DataFile::refuse);
    }

    /// All resources of files, to be shown.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let (listeners, clusters) = &self.served.warming;
        let waits = |kind: Kind, name: &str| match kind {
            Kind::Listeners => listeners.iter().any(|waiting| *waiting.name == *name),
            Kind::Clusters => clusters.iter().any(|waiting| *waiting.name == *name),
            _ => false,
        };
        let files = self.files.iter().flat_map(|((kind, _), file)| {
            file.wire.iter().map(|(name, wire)| Shown {
                kind: *kind,
                warming: waits(*kind, name),
                wire: wire.clone(),
            })
        });
        files.collect()
    }

    /// Where changes of a file are seen: itself, and what it names.
    pub(super) fn watched(&self, key: &Key) -> Vec<FileSource> {
        let data = self.files.get(key).into_iter().flat_map(|file| &file.data);
        let data = data.map(|file| file.source.clone());
        std::iter::once(key.1.clone()).chain(data).collect()
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
        let of_listeners = listeners.flat_map(|draft| &draft.wants);
        let wants = of_listeners.chain(self.clusters().flat_map(ClusterDraft::wants));
        needed.extend(wants.map(|want| (want.kind, want.source.clone())));
        needed
    }

    /// The names of resources that come from a file, as its statistics are labelled.
    pub(super) fn fed_by(&self, key: &Key) -> BTreeSet<&str> {
        let (kind, source) = key;
        match kind {
            Kind::Listeners | Kind::Clusters => BTreeSet::from([""]),
            Kind::Routes | Kind::Secrets => {
                let of_listeners = self.listeners().flat_map(|draft| &draft.wants);
                let wants = of_listeners.chain(self.clusters().flat_map(ClusterDraft::wants));
                let wants = wants.filter(|want| want.kind == *kind && want.source == *source);
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
        self.build_parts(&mut next)?;
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
                    next.warming.1.push(self.waiting(name, draft.wants()));
                    let before = before.get(&**name).copied();
                    next.resources.clusters.extend(before.map(Arc::clone));
                }
            }
        }
        Ok(())
    }

    /// A cluster with its endpoints; `None` where they, or a secret, have not come yet.
    fn cluster(&self, draft: &ClusterDraft) -> Option<Arc<Cluster>> {
        if !draft.secrets.iter().all(|want| self.has(want)) {
            return None;
        }
        let Some((want, transports)) = &draft.endpoints else {
            return Some(Arc::clone(&draft.model));
        };
        let assignment = self.assignment(want)?;
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
            let warm = draft.wants.iter().all(|want| self.has(want));
            if warm {
                next.listeners.push(draft.clone());
            } else {
                next.warming.0.push(self.waiting(name, &draft.wants));
                let before = before.get(&**name).copied();
                next.listeners.extend(before.cloned());
            }
        }
        let models = next.listeners.iter().map(|draft| Arc::clone(&draft.model));
        next.resources.listeners = models.collect();
        Ok(())
    }

    /// Whether a part has come.
    fn has(&self, want: &Want) -> bool {
        self.routes(want).is_some()
            || self.secret(want).is_some()
            || self.assignment(want).is_some()
    }

    fn waiting<'a>(&self, name: &Name, wants: impl IntoIterator<Item = &'a Want>) -> Waiting {
        let missing = wants.into_iter().filter(|want| !self.has(want));
        Waiting {
            name: Arc::clone(name),
            parts: missing.cloned().collect(),
        }
    }

    /// Names of secrets that are asked for and were never in their file in a form that can be used.
    pub(super) fn missing_secrets(&self, key: &Key) -> BTreeSet<&str> {
        let wanted = match key.0 {
            Kind::Secrets => self.fed_by(key),
            _ => BTreeSet::new(),
        };
        let file = self.files.get(key).map(|file| &*file.contents);
        let is_missing = |name: &&str| match file {
            Some(Contents::Secrets(secrets)) => !secrets.contains_key(*name),
            _ => true,
        };
        wanted.into_iter().filter(is_missing).collect()
    }

    fn assignment(&self, want: &Want) -> Option<&Arc<ClusterLoadAssignment>> {
        match &*self.files.get(&(want.kind, want.source.clone()))?.contents {
            Contents::Endpoints(assignments) => assignments.get(&want.name),
            _ => None,
        }
    }

    fn routes(&self, want: &Want) -> Option<&Arc<RouteConfiguration>> {
        match &*self.files.get(&(want.kind, want.source.clone()))?.contents {
            Contents::Routes(routes) => routes.get(&want.name),
            _ => None,
        }
    }

    fn secret(&self, want: &Want) -> Option<&Arc<Secret>> {
        match &*self.files.get(&(want.kind, want.source.clone()))?.contents {
            Contents::Secrets(secrets) => secrets.get(&want.name),
            _ => None,
        }
    }

    /// Routes and secrets that something names.
    fn build_parts(&self, next: &mut Served) -> Result<(), String> {
        let mut sources: BTreeMap<(Kind, &str), &Want> = BTreeMap::new();
        let of_listeners = next.listeners.iter().flat_map(|draft| &draft.wants);
        for want in of_listeners.chain(self.clusters().flat_map(|draft| &draft.secrets)) {
            let first = sources.entry((want.kind, &want.name)).or_insert(want);
            if first.source.path != want.source.path {
                let what = match want.kind {
                    Kind::Secrets => "secret",
                    _ => "route configuration",
                };
                return Err(format!(
                    "the {what} {:?} is in two files, {} and {}; give one another name",
                    want.name,
                    first.source.path.display(),
                    want.source.path.display()
                ));
            }
        }
        let wants = || sources.values().copied();
        let routes: Vec<_> = wants().filter_map(|w| self.routes(w).cloned()).collect();
        let secrets = wants().filter_map(|want| {
            let secret = self.secret(want)?;
            Some((Name::from(want.name.as_str()), Arc::clone(secret)))
        });
        next.resources.secrets = secrets.collect();
        next.resources.routes = routes;
        Ok(())
    }
}

fn twice(what: &str, name: &str) -> String {
    format!(
        "there are two {what}s of the name {name:?}, in static_resources and in its file; give \
         one another name"
    )
}
