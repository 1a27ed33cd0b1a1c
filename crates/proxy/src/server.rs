//! The life of the sidecar: bind everything, run, drain, end.
//!
//! [`Bound`] holds every socket before any task starts, so that a port in use is an error of the
//! start and not of some later moment.

use crate::addr;
use crate::admin::readiness::Readiness;
use crate::control::{ApplyError, Control};
use crate::drain::{DRAIN_TIME, Drain, Phase, QUIET};
use crate::listener::manager;
use crate::listener::slot::Socket;
use crate::listener::socket::BindError;
use crate::model::{Invalid, Resources};
use crate::observe::access_log::AccessLogWriter;
use crate::observe::series::ProcessSeries;
use crate::observe::stats::Registry;
use crate::overload::{Overload, raise_descriptor_limit};
use crate::store::Store;
use crate::worker::{Process, Worker};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
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
    /// What it serves at first.
    pub resources: Resources,
    /// Worker threads, at least one.
    pub workers: usize,
    /// How long connections of a filter chain may go on when a change has replaced or removed it.
    pub drain_time: Duration,
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

impl From<ApplyError> for StartError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Config(invalid) => Self::Config(invalid),
            ApplyError::Bind(error) => Self::Bind(error),
        }
    }
}

/// Every socket is bound and every resource compiled; nothing runs.
#[derive(Debug)]
pub struct Bound {
    process: Arc<Process>,
    control: Control,
    /// Where each worker takes its sockets from.
    sockets: Vec<UnboundedReceiver<Socket>>,
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
        let process = Arc::new(Process {
            store: Arc::new(Store::new()),
            series,
            registry,
            logs,
            drain: Drain::new(),
            // Measured when the workers have opened what they need.
            overload: Overload::new(usize::MAX),
            address: addr::of_this_pod(),
        });
        let (senders, sockets) = (0..workers).map(|_| unbounded_channel()).unzip();
        let mut control = Control::new(Arc::clone(&process), senders, config.drain_time);
        control.apply(&config.resources)?;
        Ok(Self {
            process,
            control,
            sockets,
        })
    }

    /// What the workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Where the listener of this name really listens (port 0 is chosen by the kernel).
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        self.control.local_addr(listener)
    }

    /// Start the workers. The configuration can be changed from then on; it stays as it is where
    /// nobody does.
    ///
    /// # Errors
    /// Where a thread or runtime cannot be had; what was started has ended again.
    pub fn run(self) -> Result<(Running, Control), StartError> {
        let mut running = Running {
            process: self.process,
            workers: Vec::new(),
        };
        let listening: usize = self.sockets.iter().map(UnboundedReceiver::len).sum();
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
        Ok((running, self.control))
    }
}

fn start(
    process: Arc<Process>,
    index: usize,
    sockets: UnboundedReceiver<Socket>,
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
