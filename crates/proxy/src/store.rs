//! What holds the current configuration: one swap cell for each resource.
//!
//! Compiled configuration names a resource by its interned id; the cell behind the id may be
//! empty (a route may name a cluster that does not exist yet). A worker keeps a [`View`] with an
//! `Arc` of what it uses and compares one version number per request, so a change of one resource
//! costs each worker one pointer load for each resource it uses, whatever their number.

use crate::ids::{ClusterId, RouteTableId};
use crate::model::Name;
use crate::route::RouteTable;
use crate::snapshot::{Cluster, Listeners};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The current configuration of the process.
#[derive(Debug)]
pub struct Store {
    version: AtomicU64,
    /// Clusters by [`ClusterId`].
    clusters: Cells<Cluster>,
    /// Route tables by [`RouteTableId`].
    routes: Cells<RouteTable>,
    /// Every listener, and which of them an original destination leads to.
    listeners: ArcSwap<Listeners>,
}

impl Store {
    /// A store without any resource.
    pub fn new() -> Self {
        Self {
            version: AtomicU64::new(1),
            clusters: Cells::default(),
            routes: Cells::default(),
            listeners: ArcSwap::from_pointee(Listeners::default()),
        }
    }

    /// Changes whenever any cell does.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The id of the cluster of this name, whether or not there is one.
    pub fn cluster_id(&self, name: &Name) -> ClusterId {
        ClusterId(self.clusters.intern(name))
    }

    /// The id of the route table of this name, whether or not there is one.
    pub fn route_table_id(&self, name: &Name) -> RouteTableId {
        RouteTableId(self.routes.intern(name))
    }

    /// Make a cluster the current one of its id, or remove it.
    pub fn set_cluster(&self, id: ClusterId, cluster: Option<Arc<Cluster>>) {
        self.clusters.set(id.0, cluster);
        self.changed();
    }

    /// Make a route table the current one of its id, or remove it.
    pub fn set_route_table(&self, id: RouteTableId, table: Option<Arc<RouteTable>>) {
        self.routes.set(id.0, table);
        self.changed();
    }

    /// Make this the current set of listeners.
    pub fn set_listeners(&self, listeners: Arc<Listeners>) {
        self.listeners.store(listeners);
        self.changed();
    }

    /// The current set of listeners.
    pub fn listeners(&self) -> Arc<Listeners> {
        self.listeners.load_full()
    }

    /// Whether redirected connections arrive at this port.
    pub fn is_capture_port(&self, port: u16) -> bool {
        self.listeners.load().is_capture_port(port)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

type Cell<T> = Arc<ArcSwapOption<T>>;

#[derive(Debug)]
struct Cells<T> {
    ids: Mutex<HashMap<Name, u32>>,
    cells: RwLock<Vec<Cell<T>>>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            ids: Mutex::default(),
            cells: RwLock::default(),
        }
    }
}

impl<T> Cells<T> {
    fn intern(&self, name: &Name) -> u32 {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get(name) {
            return *id;
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        let id = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        cells.push(Arc::new(ArcSwapOption::empty()));
        ids.insert(Arc::clone(name), id);
        id
    }

    fn cell(&self, id: u32) -> Option<Cell<T>> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(id as usize).map(Arc::clone)
    }

    fn set(&self, id: u32, value: Option<Arc<T>>) {
        if let Some(cell) = self.cell(id) {
            cell.store(value);
        }
    }
}

/// A worker's own references to the resources it uses.
#[derive(Debug)]
pub struct View<T> {
    entries: Vec<Option<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    cell: Cell<T>,
    seen: u64,
    value: Option<Arc<T>>,
}

impl<T> Default for View<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T> View<T> {
    /// Let go of what is no longer current.
    fn refresh(&mut self, version: u64) {
        for entry in self.entries.iter_mut().flatten() {
            entry.refresh(version);
        }
    }

    fn get(&mut self, cells: &Cells<T>, version: u64, id: u32) -> Option<&Arc<T>> {
        let index = id as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        let slot = &mut self.entries[index];
        let entry = match slot {
            Some(entry) => entry,
            None => slot.insert(Entry {
                cell: cells.cell(id)?,
                seen: 0,
                value: None,
            }),
        };
        entry.refresh(version);
        entry.value.as_ref()
    }
}

impl<T> Entry<T> {
    fn refresh(&mut self, version: u64) {
        if self.seen != version {
            self.value = self.cell.load_full();
            self.seen = version;
        }
    }
}

impl View<Cluster> {
    /// The current cluster of this id, or `None` where there is none.
    pub fn cluster(&mut self, store: &Store, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.get(&store.clusters, store.version(), id.0)
    }

    /// Let go of clusters that are no longer current.
    pub fn let_go(&mut self, store: &Store) {
        self.refresh(store.version());
    }
}

impl View<RouteTable> {
    /// The current route table of this id, or `None` where there is none.
    pub fn route_table(&mut self, store: &Store, id: RouteTableId) -> Option<&Arc<RouteTable>> {
        self.get(&store.routes, store.version(), id.0)
    }

    /// Let go of tables that are no longer current.
    pub fn let_go(&mut self, store: &Store) {
        self.refresh(store.version());
    }
}
