//! The configuration of a process at work, and how it changes.
//!
//! A change is compiled and bound in whole before anything of it is used: where a part of it
//! cannot be had, nothing changes. What stays the same keeps its identity, and with it its
//! connections, counts and sockets. What is used is put in place in the order in which it is
//! referred to: clusters, route tables, listeners; and what is gone is removed last.

use crate::ids::{ClusterId, RouteTableId};
use crate::listener::places::{PlaceError, Places, Prepared};
use crate::listener::slot::Socket;
use crate::model::{self, Invalid, Name, Resources, Secrets};
use crate::observe::series::ManagerSeries;
use crate::observe::stats::Counter;
use crate::route::RouteTable;
use crate::snapshot::{Chain, Cluster, ClusterTls, Compiler, Kept, Listener, Listeners};
use crate::transport::tls::client::ClientTls;
use crate::transport::tls::rotating::Made;
use crate::transport::tls::server::ServerTls;
use crate::worker::Process;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Why resources cannot be served. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// They cannot be compiled.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] crate::listener::socket::BindError),
}

impl From<PlaceError> for ApplyError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Overlap(invalid) => Self::Config(invalid),
            PlaceError::Bind(error) => Self::Bind(error),
        }
    }
}

/// Changes the configuration of a process.
#[derive(Debug)]
pub struct Control {
    process: Arc<Process>,
    /// Where each worker takes its sockets from.
    workers: Vec<UnboundedSender<Socket>>,
    /// How long connections of a chain that was replaced or removed may go on.
    drain_time: Duration,
    series: ManagerSeries,
    current: Compiled,
    places: Places,
}

/// All resources of one moment, compiled.
#[derive(Debug, Default)]
struct Compiled {
    clusters: HashMap<ClusterId, Kept<model::Cluster, Cluster>>,
    routes: HashMap<RouteTableId, Kept<model::RouteConfiguration, RouteTable>>,
    /// In the order of the configuration.
    listeners: Vec<Kept<model::Listener, Listener>>,
}

/// Contexts to take the place of those that an earlier version of a secret made.
#[derive(Default)]
struct Renewed {
    chains: Vec<(Arc<Chain>, Arc<Made<ServerTls>>)>,
    clusters: Vec<(Arc<ClusterTls>, Arc<Made<ClientTls>>)>,
}

impl Compiled {
    /// Make anew what needs secrets that have changed.
    fn renew(&self, secrets: &Secrets) -> Result<Renewed, Invalid> {
        let mut renewed = Renewed::default();
        for chain in self.listeners.iter().flat_map(|l| l.compiled.chains.all()) {
            if let Some(tls) = &chain.tls
                && let Some(next) = tls.server.next(secrets)?
            {
                renewed.chains.push((Arc::clone(chain), next));
            }
        }
        for tls in self.clusters.values().flat_map(|c| c.compiled.transports()) {
            if let Some(next) = tls.client.next(secrets)? {
                renewed.clusters.push((Arc::clone(tls), next));
            }
        }
        Ok(renewed)
    }
}

impl Renewed {
    fn commit(self) {
        for (chain, next) in self.chains {
            if let Some(tls) = &chain.tls {
                tls.server.set(next);
            }
        }
        for (tls, next) in self.clusters {
            tls.client.set(next);
        }
    }
}

impl Control {
    /// A process without any resource.
    pub(crate) fn new(
        process: Arc<Process>,
        workers: Vec<UnboundedSender<Socket>>,
        drain_time: Duration,
    ) -> Self {
        Self {
            series: ManagerSeries::new(&process.registry, ""),
            process,
            workers,
            drain_time,
            current: Compiled::default(),
            places: Places::default(),
        }
    }

    /// Serve these resources from now on, in place of those before.
    ///
    /// # Errors
    /// Where one of them cannot be compiled or bound. Those before stay.
    pub fn apply(&mut self, resources: &Resources) -> Result<(), ApplyError> {
        let next = self.compile(resources)?;
        let renewed = next.renew(&resources.secrets)?;
        let listeners: Vec<_> = next.listeners.iter().map(compiled).collect();
        let places = self.places.prepare(&listeners, self.workers.len())?;
        renewed.commit();
        self.commit(next, listeners, places);
        Ok(())
    }

    /// Where the listener of this name really listens (port 0 is chosen by the kernel).
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        self.places.local_addr(listener)
    }

    fn compile(&self, resources: &Resources) -> Result<Compiled, Invalid> {
        let Process {
            store,
            registry,
            logs,
            ..
        } = &*self.process;
        let compiler = Compiler {
            store,
            registry,
            logs,
            secrets: &resources.secrets,
        };
        let mut next = Compiled::default();
        for model in &resources.clusters {
            let id = store.cluster_id(&model.name);
            let before = self.current.clusters.get(&id);
            let kept = Kept::next(before, model, |model, before| {
                compiler.cluster(model, before)
            })?;
            next.clusters.insert(id, kept);
        }
        for model in &resources.routes {
            let id = store.route_table_id(&Name::from(model.name.as_str()));
            let before = self.current.routes.get(&id);
            let kept = Kept::next(before, model, |model, _| Ok(compiler.route_table(model)))?;
            next.routes.insert(id, kept);
        }
        let before: HashMap<&str, _> = self.current.listeners.iter().map(by_name).collect();
        for model in &resources.listeners {
            let before = before.get(&*model.name).copied();
            let kept = Kept::next(before, model, |model, before| {
                compiler.listener(model, before)
            })?;
            next.listeners.push(kept);
        }
        Ok(next)
    }

    fn commit(&mut self, next: Compiled, listeners: Vec<Arc<Listener>>, places: Prepared) {
        self.count(&next);
        let before = std::mem::replace(&mut self.current, next);
        let (now, store) = (&self.current, &self.process.store);
        for (id, kept) in changed(&now.clusters, &before.clusters) {
            store.set_cluster(*id, Some(compiled(kept)));
        }
        for (id, kept) in changed(&now.routes, &before.routes) {
            store.set_route_table(*id, Some(compiled(kept)));
        }
        // Before a socket is closed: who sees that a listener is gone is asked to go.
        drain(&before, now, Instant::now() + self.drain_time);
        let moved = self.places.commit(places, |worker, socket| {
            // A worker that is gone takes no connections.
            let _ended = self.workers[worker].send(socket);
        });
        self.process.overload.change(moved.opened, moved.closed);
        store.set_listeners(Arc::new(Listeners::new(listeners)));
        for id in gone(&now.routes, &before.routes) {
            store.set_route_table(*id, None);
        }
        for id in gone(&now.clusters, &before.clusters) {
            store.set_cluster(*id, None);
        }
    }

    /// Count what is added, modified and removed.
    fn count(&self, next: &Compiled) {
        let add = |counter: Counter, n: usize| {
            self.process.registry.inc_shared(counter, n as u64);
        };
        let (series, before) = (&self.series, &self.current);
        let (added, modified) = news(&next.clusters, &before.clusters);
        add(series.cluster_added, added);
        add(series.cluster_modified, modified);
        let removed = gone(&next.clusters, &before.clusters).count();
        add(series.cluster_removed, removed);
        let old: HashMap<&str, _> = before.listeners.iter().map(by_name).collect();
        let new: HashMap<&str, _> = next.listeners.iter().map(by_name).collect();
        let (added, modified) = news(&new, &old);
        add(series.listener_added, added);
        add(series.listener_modified, modified);
        add(series.listener_removed, gone(&new, &old).count());
    }
}

/// Drain the chains of `before` that are not in `now`.
fn drain(before: &Compiled, now: &Compiled, until: Instant) {
    let chains = |compiled: &Compiled| -> Vec<Arc<Chain>> {
        let listeners = compiled.listeners.iter();
        let chains = listeners.flat_map(|kept| kept.compiled.chains.all());
        chains.map(Arc::clone).collect()
    };
    let serving: HashSet<*const Chain> = chains(now).iter().map(Arc::as_ptr).collect();
    for chain in chains(before) {
        if !serving.contains(&Arc::as_ptr(&chain)) {
            chain.drain.begin(until);
        }
    }
}

fn compiled<M, C>(kept: &Kept<M, C>) -> Arc<C> {
    Arc::clone(&kept.compiled)
}

fn by_name(kept: &Kept<model::Listener, Listener>) -> (&str, &Kept<model::Listener, Listener>) {
    (&kept.compiled.name, kept)
}

/// Whether a version is the same as another.
trait Version {
    fn is(&self, other: &Self) -> bool;
}

impl<M, C> Version for Kept<M, C> {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.compiled, &other.compiled)
    }
}

impl<T: Version> Version for &T {
    fn is(&self, other: &Self) -> bool {
        T::is(self, other)
    }
}

/// Entries that are new or have another version.
fn changed<'a, K: std::hash::Hash + Eq, V: Version>(
    now: &'a HashMap<K, V>,
    before: &'a HashMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    now.iter()
        .filter(|(key, version)| before.get(key).is_none_or(|old| !old.is(version)))
}

/// How many entries are new, and how many have another version.
fn news<K: std::hash::Hash + Eq, V: Version>(
    now: &HashMap<K, V>,
    before: &HashMap<K, V>,
) -> (usize, usize) {
    let all = changed(now, before).count();
    let added = now.keys().filter(|key| !before.contains_key(key)).count();
    (added, all - added)
}

/// Keys that are no longer there.
fn gone<'a, K: std::hash::Hash + Eq, V>(
    now: &'a HashMap<K, V>,
    before: &'a HashMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    before.keys().filter(|key| !now.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;
    use crate::model::{
        FilterChain, FilterChainMatch, ListenerSocket, NetworkFilter, TcpCluster, TcpProxy,
        TrafficDirection,
    };
    use crate::observe::access_log::AccessLogWriter;
    use crate::observe::series::ProcessSeries;
    use crate::observe::stats::Registry;
    use crate::overload::Overload;
    use crate::store::Store;
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::task::{Context, Wake};
    use tokio::sync::mpsc::unbounded_channel;

    fn control(workers: Vec<UnboundedSender<Socket>>) -> Control {
        let registry = Registry::new(1);
        let process = Process {
            store: Arc::new(Store::new()),
            series: ProcessSeries::new(&registry, ""),
            logs: AccessLogWriter::new(&registry),
            registry,
            drain: Drain::new(),
            overload: Overload::new(usize::MAX),
            address: None,
        };
        Control::new(Arc::new(process), workers, Duration::from_secs(1))
    }

    fn listener() -> model::Listener {
        let filter = NetworkFilter::Tcp(TcpProxy {
            stat_prefix: "tcp".into(),
            cluster: TcpCluster::Cluster("none".into()),
            idle_timeout: None,
            max_duration: None,
            max_connect_attempts: 1,
            hash_source: false,
            access_log: vec![],
        });
        model::Listener {
            name: "one".into(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            additional_addresses: vec![],
            bind_to_port: true,
            use_original_dst: false,
            listener_filters: vec![],
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            filter_chains: vec![FilterChain {
                name: "".into(),
                matcher: FilterChainMatch::default(),
                tls: None,
                handshake_timeout: None,
                filter,
            }],
            default_filter_chain: None,
            traffic_direction: TrafficDirection::Outbound,
            access_log: vec![],
            stat_prefix: None,
            socket: ListenerSocket::default(),
            keepalive: None,
        }
    }

    /// Woken when a socket is closed: whether its connections are asked to go by then.
    struct Closing {
        chain: Arc<Chain>,
        drained: OnceLock<bool>,
    }

    impl Wake for Closing {
        fn wake(self: Arc<Self>) {
            let _woken_again = self.drained.set(self.chain.drain.has_begun());
        }
    }

    #[test]
    fn connections_of_a_listener_are_asked_to_go_before_its_socket_is_closed() {
        let (give, mut sockets) = unbounded_channel();
        let mut control = control(vec![give]);
        let mut resources = Resources {
            listeners: vec![Arc::new(listener())],
            ..Resources::default()
        };
        control.apply(&resources).expect("it can be bound");
        let slot = sockets.try_recv().expect("a socket").slot;
        let listener = slot.listener();
        let closing = Arc::new(Closing {
            chain: Arc::clone(listener.chains.all().next().expect("its chain")),
            drained: OnceLock::new(),
        });
        let waker = Arc::clone(&closing).into();
        let mut closed = pin!(slot.closed());
        let polled = closed.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending() && !closing.chain.drain.has_begun());
        resources.listeners.clear();
        control.apply(&resources).expect("nothing is in the way");
        assert_eq!(closing.drained.get(), Some(&true));
    }
}
