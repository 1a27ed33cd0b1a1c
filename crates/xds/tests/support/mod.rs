//! A sidecar in this process, and its files.

#[path = "../../../../tests/src/folder.rs"]
#[expect(
    unreachable_pub,
    reason = "the harness of the end-to-end tests shares it"
)]
mod folder;

use bytes::Bytes;
use folder::Folder;
use shunt_proxy::admin::readiness::Readiness;
use shunt_proxy::observe::stats::Registry;
use shunt_proxy::server::{Bound, Config, Running};
use shunt_xds::files::{FileResources, Watching};
use shunt_xds::{Converter, Loaded, load_bootstrap, to_json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The folder of a test's files.
pub(crate) struct Files(Folder);

impl Files {
    pub(crate) fn new() -> Self {
        Self(Folder::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Write a file in place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.0.write(name, text).unwrap();
    }

    /// Move a file to its place, as it has to be done.
    pub(crate) fn put(&self, name: &str, text: &str) {
        self.0.put(name, text).unwrap();
    }
}

/// A sidecar in this process.
pub(crate) struct Sidecar {
    pub(crate) registry: Registry,
    pub(crate) process: Arc<shunt_proxy::worker::Process>,
    pub(crate) warm: Arc<AtomicBool>,
    wire: Bytes,
    shown: FileResources,
    _watching: Watching,
    running: Option<Running>,
}

impl Sidecar {
    pub(crate) fn start(bootstrap: &Path) -> Self {
        let loaded =
            load_bootstrap(bootstrap, &Converter::InProcess).unwrap_or_else(|e| panic!("{e}"));
        let Loaded {
            model,
            wire,
            updates,
        } = loaded;
        let updates = updates.unwrap();
        let shown = updates.resources();
        let bound = Bound::bind(&Config {
            resources: model.resources,
            workers: 1,
            drain_time: Duration::from_secs(1),
        });
        let bound = bound.unwrap();
        let process = Arc::clone(bound.process());
        let registry = process.registry.clone();
        let (running, control) = bound.run().unwrap();
        let warm = Arc::new(AtomicBool::new(false));
        let when_warm = {
            let warm = Arc::clone(&warm);
            move || warm.store(true, Ordering::SeqCst)
        };
        let watching = updates.watch(control, registry.clone(), when_warm);
        Self {
            registry,
            process,
            warm,
            wire,
            shown,
            _watching: watching.unwrap(),
            running: Some(running),
        }
    }

    pub(crate) fn value(&self, name: &str, labels: &[(&'static str, &str)]) -> u64 {
        self.registry.value(name, labels).unwrap_or(0)
    }

    /// Wait until a counter or gauge has this value.
    pub(crate) fn wait(&self, name: &str, labels: &[(&'static str, &str)], value: u64) {
        let what = || {
            format!(
                "{name}{labels:?} is {}, not {value}",
                self.value(name, labels)
            )
        };
        eventually(what, || self.value(name, labels) == value);
    }

    /// What `/config_dump` says.
    pub(crate) fn dump(&self) -> String {
        to_json(&self.wire, Some(&self.shown), &Converter::InProcess).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let listeners = self.process.store.listeners();
        listeners.all.iter().map(|l| l.name.to_string()).collect()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Some(running) = self.running.take() {
            runtime
                .unwrap()
                .block_on(running.shut_down(&Readiness::new()));
        }
    }
}

pub(crate) fn eventually(what: impl Fn() -> String, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{}", what());
        std::thread::yield_now();
    }
}

/// A port that is free, at an address that is nobody else's: other tests of this process have their
/// ports, and those of their clients, at others.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let last = NEXT.fetch_add(1, Ordering::SeqCst);
    let socket = TcpListener::bind((Ipv4Addr::new(127, 0, 77, last), 0)).unwrap();
    socket.local_addr().unwrap()
}
