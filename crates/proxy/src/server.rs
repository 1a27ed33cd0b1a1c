//! The life of the sidecar: bind everything, run, drain, end.
//!
//! [`Bound`] holds every socket before any task starts, so that a port in use is an error of the
//! start and not of some later moment.

use crate::addr::same_family;
use crate::admin::readiness::Readiness;
use crate::drain::{DRAIN_TIME, Drain, Phase, QUIET};
use crate::listener::manager;
use crate::listener::socket::{self, BindError};
use crate::model::{Bootstrap, Invalid};
use crate::observe::access_log::AccessLogWriter;
use crate::observe::series::ProcessSeries;
use crate::observe::stats::Registry;
use crate::overload::{Overload, raise_descriptor_limit};
use crate::snapshot::{Compiler, Listener};
use crate::store::Store;
use crate::worker::{Process, Worker};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;

/// How long the access log's thread may take to write what is left.
const LOG_TIME: Duration = Duration::from_secs(1);

/// How often a drain looks at the number of connections.
const STEP: Duration = Duration::from_millis(10);

/// How long connections that waited in a closing socket may take, also when the drain time is
/// over.
const LATE: Duration = Duration::from_millis(250);

/// What a sidecar is made of.
#[derive(Debug)]
pub struct Config {
    /// Its configuration.
    pub bootstrap: Bootstrap,
    /// Worker threads, at least one.
    pub workers: usize,
}

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be compiled.
    #[error("the configuration cannot be compiled")]
    Config(#[from] Invalid),
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A thread or runtime cannot be had.
    #[error(
        "starting worker {worker}: {source}; is the limit of processes (RLIMIT_NPROC) reached?"
    )]
    Worker {
        /// Its index.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Every socket is bound and every resource compiled; nothing runs.
#[derive(Debug)]
pub struct Bound {
    process: Arc<Process>,
    sockets: Vec<Vec<(Arc<Listener>, TcpListener)>>,
}

/// How the sidecar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Connections that were still open when the drain time was over.
    pub cut: usize,
}

impl Bound {
    /// Compile the configuration and bind its listeners.
    ///
    /// # Errors
    /// Where the configuration contradicts itself or a socket cannot be had.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        if let Err(error) = raise_descriptor_limit() {
            tracing::warn!(%error, "the limit of file descriptors stays as it is");
        }
        let workers = config.workers.max(1);
        let registry = Registry::new(workers);
        let series = ProcessSeries::new(&registry, "");
        let logs = AccessLogWriter::new(&registry);
        let store = Arc::new(Store::new());
        Compiler {
            store: &store,
            registry: &registry,
            logs: &logs,
        }
        .load(&config.bootstrap)?;

        let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut capture_ports = Vec::new();
        let listeners = store.listeners();
        let bound: Vec<_> = listeners.all.iter().filter(|l| l.bind_to_port).collect();
        refuse_overlaps(&bound)?;
        for listener in &bound {
            let v6_too = serves_both_families(listener, &bound);
            let made = socket::bind(listener, workers, v6_too)?;
            for (of_worker, bound) in sockets.iter_mut().zip(made) {
                of_worker.extend(bound.into_iter().map(|s| (Arc::clone(*listener), s)));
            }
            if listener.is_capture() {
                capture_ports.push(listener.address.port());
            }
        }
        let process = Arc::new(Process {
            store,
            series,
            registry,
            logs,
            drain: Drain::new(),
            // Measured when the workers have opened what they need.
            overload: Overload::new(usize::MAX),
            capture_ports,
        });
        Ok(Self { process, sockets })
    }

    /// What the workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Where the listener of this name really listens (port 0 is chosen by the kernel).
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        let sockets = self.sockets.first()?;
        let (_, socket) = sockets.iter().find(|(l, _)| &*l.name == listener)?;
        socket.local_addr().ok()
    }

    /// Start the workers.
    ///
    /// # Errors
    /// Where a thread or runtime cannot be had; what was started has ended again.
    pub fn run(self) -> Result<Running, StartError> {
        let mut running = Running {
            process: self.process,
            workers: Vec::new(),
        };
        let listening: usize = self.sockets.iter().map(Vec::len).sum();
        for (index, sockets) in self.sockets.into_iter().enumerate() {
            let process = Arc::clone(&running.process);
            let started = start(process, index, sockets).map_err(|source| StartError::Worker {
                worker: index,
                source,
            });
            match started {
                Ok(worker) => running.workers.push(worker),
                Err(error) => {
                    running.process.drain.advance(Phase::Ended);
                    return Err(error);
                }
            }
        }
        // Each listening socket keeps a descriptor in reserve.
        running.process.overload.measure(listening);
        Ok(running)
    }
}

/// Whether a listener gets sockets on `[::]` too: it takes redirected connections on 0.0.0.0, a
/// captured family must be served, and no other listener of the configuration does that.
fn serves_both_families(listener: &Listener, all: &[&Arc<Listener>]) -> bool {
    let SocketAddr::V4(address) = listener.address else {
        return false;
    };
    let port = address.port();
    let has_v6 = |l: &&Arc<Listener>| l.address.is_ipv6() && l.address.port() == port;
    listener.is_capture() && address.ip().is_unspecified() && !all.iter().any(has_v6)
}

/// Two listeners on one port would share or steal each other's connections: the kernel spreads
/// them over sockets of one address, and prefers an exact address to a wildcard.
fn refuse_overlaps(listeners: &[&Arc<Listener>]) -> Result<(), Invalid> {
    for (index, one) in listeners.iter().enumerate() {
        for other in &listeners[..index] {
            let (a, b) = (one.address, other.address);
            let ports = a.port() == b.port() && a.port() != 0;
            let ips = same_family(a.ip(), b.ip())
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified());
            if ports && ips {
                return Err(Invalid::new(format!(
                    "listeners `{}` ({b}) and `{}` ({a}) would take each other's connections; \
                     give one another port, or set bind_to_port: false where it is reached by its \
                     original destination",
                    other.name, one.name
                )));
            }
        }
    }
    Ok(())
}

fn start(
    process: Arc<Process>,
    index: usize,
    sockets: Vec<(Arc<Listener>, TcpListener)>,
) -> io::Result<JoinHandle<usize>> {
    let runtime = || -> io::Result<LocalRuntime> {
        Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
    };
    let (ready, made) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let runtime = match runtime() {
                Ok(runtime) => {
                    let _waits = ready.send(Ok(()));
                    runtime
                }
                Err(error) => {
                    let _waits = ready.send(Err(error));
                    return 0;
                }
            };
            runtime
                .block_on(async move { manager::run(Worker::new(process, index), sockets).await })
        })?;
    made.recv()
        .map_err(|_gone| io::Error::other("the thread ended at once"))??;
    Ok(thread)
}

/// A sidecar at work.
#[derive(Debug)]
pub struct Running {
    process: Arc<Process>,
    workers: Vec<JoinHandle<usize>>,
}

impl Running {
    /// Drain, then end: readiness fails at once, answers ask clients to go, and connections are
    /// accepted until none has been there for a moment or the drain time is over.
    pub async fn shut_down(self, readiness: &Readiness) -> Ended {
        readiness.draining();
        let drain = &self.process.drain;
        drain.advance(Phase::Draining);
        let deadline = tokio::time::Instant::now() + DRAIN_TIME;
        let _over = tokio::time::timeout_at(deadline, self.quiet()).await;
        drain.advance(Phase::Closing);
        // What waited in the sockets is served too, however late it is.
        let late = deadline.max(tokio::time::Instant::now() + LATE);
        let _over = tokio::time::timeout_at(late, self.empty()).await;
        drain.advance(Phase::Ended);

        let (done, ended) = oneshot::channel();
        let workers = self.workers;
        let joiner = move || {
            let cut = workers.into_iter().map(|w| w.join().unwrap_or(0)).sum();
            let _waits = done.send(cut);
        };
        let joined = thread::Builder::new().name("join".into()).spawn(joiner);
        let cut = match joined {
            Ok(_) => ended.await.unwrap_or(0),
            Err(_) => 0,
        };
        self.process.logs.shutdown(LOG_TIME);
        Ended { cut }
    }

    /// Until there was no connection for a while.
    async fn quiet(&self) {
        let mut still = Duration::ZERO;
        while still < QUIET {
            tokio::time::sleep(STEP).await;
            let open = self.process.overload.open();
            still = if open == 0 {
                still + STEP
            } else {
                Duration::ZERO
            };
        }
    }

    /// Until there is no connection.
    async fn empty(&self) {
        loop {
            // First: the workers have yet to hear that they shall empty their sockets.
            tokio::time::sleep(STEP).await;
            if self.process.overload.open() == 0 {
                return;
            }
        }
    }
}
