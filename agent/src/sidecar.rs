//! `shunt-agent sidecar`: read the configuration, bind, run, drain.

use crate::exit::Exit;
use crate::logging;
use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use shunt_abi::port;
use shunt_proxy::admin::readiness::Readiness;
use shunt_proxy::admin::{self, Admin, LoopbackListener};
use shunt_proxy::concurrency;
use shunt_proxy::control::Control;
use shunt_proxy::server::{Bound, Config, Running, StartError};
use shunt_xds::files::{FileResources, Updates};
use shunt_xds::{Converter, LoadError, LoadErrorKind, Loaded, load_bootstrap};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Arguments of `shunt-agent sidecar`.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Args {
    /// Envoy v3 bootstrap, YAML or JSON
    #[arg(
        short = 'c',
        long = "config",
        visible_alias = "config-path",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Worker threads, 0 for all CPUs [default: ISTIO_CPU_LIMIT, else the CPU quota, else all CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    concurrency: Option<u16>,
    /// Seconds that connections of a replaced or removed filter chain may go on (Envoy's default is
    /// 600, Istio's 45)
    #[arg(long, value_name = "SECONDS", default_value_t = 45)]
    drain_time_s: u32,
    /// Format of the sidecar's own log on standard error
    #[arg(long, value_enum, default_value = "text")]
    log_format: logging::Format,
    /// Level of the sidecar's own log: error, warn, info, debug, trace
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing_subscriber::filter::LevelFilter,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let filter = EnvFilter::default().add_directive(args.log_level.into());
    let log = logging::start(args.log_format, filter);
    let exit = serve(args).unwrap_or_else(|failed| {
        tracing::error!("{:#}", failed.error);
        failed.code
    });
    if exit == Exit::SecondSignal {
        // At once: a standard error that nobody reads is not waited for.
        std::mem::forget(log);
    }
    exit.into()
}

/// An error and the exit code that tells its cause.
struct Failed {
    code: Exit,
    error: anyhow::Error,
}

impl Failed {
    fn with(code: Exit) -> impl FnOnce(anyhow::Error) -> Self {
        move |error| Self { code, error }
    }
}

fn serve(args: &Args) -> Result<Exit, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making the runtime of the admin interface")
        .map_err(Failed::with(Exit::Failed))?;
    let ended = runtime.block_on(async {
        // Before anything else: PID 1 has no default action for a signal (pid_namespaces(7)), and
        // one that came now would be lost.
        let mut signals = Signals::new().map_err(Failed::with(Exit::Failed))?;
        let args = args.clone();
        let preparing = tokio::task::spawn_blocking(move || Prepared::new(&args));
        let prepared = tokio::select! {
            prepared = preparing => prepared,
            () = signals.next() => {
                tracing::info!("ended: a signal came before the start");
                return Ok(Exit::Success);
            }
        };
        prepared
            .context("preparing the sidecar")
            .map_err(Failed::with(Exit::Failed))??
            .run(signals)
            .await
            .map_err(Failed::with(Exit::Failed))
    });
    // What still blocks a thread is not waited for.
    runtime.shutdown_background();
    ended
}

/// Everything that listens is bound; nothing runs.
struct Prepared {
    bound: Bound,
    admin: LoopbackListener,
    readiness_sockets: Vec<TcpListener>,
    wire: bytes::Bytes,
    updates: Option<Updates>,
    workers: usize,
}

impl Prepared {
    fn new(args: &Args) -> Result<Self, Failed> {
        let limit = std::env::var_os(concurrency::CPU_LIMIT_VARIABLE);
        // What is not UTF-8 is no number, and is refused as such.
        let limit = limit.as_deref().map(OsStr::to_string_lossy);
        let workers = concurrency::workers(args.concurrency, limit.as_deref())
            .map_err(anyhow::Error::from)
            .map_err(Failed::with(Exit::Usage))?;
        let Loaded {
            model,
            wire,
            updates,
        } = load_bootstrap(&args.config, &Converter::Child).map_err(|error| Failed {
            code: config_code(&error),
            error: error.into(),
        })?;
        let admin = model
            .admin
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port::ADMIN)));
        let serves_readiness = model.resources.listeners.iter().any(|listener| {
            let mut addresses = listener.addresses();
            addresses.any(|address| address.port() == port::READINESS)
        });
        let admin = LoopbackListener::bind(admin)
            .map_err(anyhow::Error::from)
            .map_err(Failed::with(Exit::Bind))?;
        let readiness_sockets = if serves_readiness {
            Vec::new()
        } else {
            bind_readiness()?
        };
        let bound = Bound::bind(&Config {
            resources: model.resources,
            workers,
            drain_time: Duration::from_secs(args.drain_time_s.into()),
        })
        .map_err(|error| Failed {
            code: match error {
                StartError::Config(_) => Exit::ConfigInvalid,
                StartError::Bind(_) => Exit::Bind,
                StartError::Worker { .. } => Exit::Failed,
            },
            error: error.into(),
        })?;
        Ok(Self {
            bound,
            admin,
            readiness_sockets,
            wire,
            updates,
            workers,
        })
    }
}

fn config_code(error: &LoadError) -> Exit {
    match error.kind() {
        LoadErrorKind::Unreadable => Exit::ConfigUnreadable,
        LoadErrorKind::Syntax | LoadErrorKind::Invalid => Exit::ConfigInvalid,
        LoadErrorKind::Internal => Exit::Failed,
    }
}

/// The kubelet asks from outside the pod, in either family.
fn bind_readiness() -> Result<Vec<TcpListener>, Failed> {
    let v6 = shunt_proxy::listener::socket::listen(SocketAddr::from((
        Ipv6Addr::UNSPECIFIED,
        port::READINESS,
    )));
    let v4 = shunt_proxy::listener::socket::listen(SocketAddr::from((
        Ipv4Addr::UNSPECIFIED,
        port::READINESS,
    )))
    .with_context(|| {
        format!(
            "listening for readiness probes on 0.0.0.0:{}",
            port::READINESS
        )
    })
    .map_err(Failed::with(Exit::Bind))?;
    // No IPv6 in this pod: none to serve.
    Ok(std::iter::once(v4).chain(v6.ok()).collect())
}

impl Prepared {
    async fn run(self, mut signals: Signals) -> Result<Exit> {
        let readiness = Arc::new(Readiness::new());
        let admin_address = self.admin.local_addr();
        let process = Arc::clone(self.bound.process());
        let served = Admin {
            readiness: Arc::clone(&readiness),
            registry: process.registry.clone(),
            config_dump: Arc::new(ConfigDump {
                wire: self.wire,
                files: self.updates.as_ref().map(Updates::resources),
            }),
        };
        for socket in self.readiness_sockets {
            tokio::spawn(admin::serve_readiness(socket, Arc::clone(&readiness)));
        }
        tokio::spawn(admin::serve(self.admin, served));

        let registry = process.registry.clone();
        let (running, control): (Running, Control) =
            self.bound.run().map_err(|error| anyhow!(error))?;
        let live = {
            let readiness = Arc::clone(&readiness);
            move || {
                readiness.live();
                tracing::info!(workers = self.workers, admin = %admin_address, "ready");
            }
        };
        let watching = match self.updates {
            None => {
                live();
                None
            }
            Some(updates) => Some(updates.watch(control, registry, live)?),
        };

        signals.next().await;
        // What is there now is what is drained.
        drop(watching);
        tracing::info!("draining: a signal asked for the end");
        tokio::select! {
            ended = running.shut_down(&readiness) => {
                if ended.cut > 0 {
                    tracing::warn!(connections = ended.cut, "cut at the end of the drain time");
                }
                tracing::info!("ended");
                Ok(Exit::Success)
            }
            () = signals.next() => {
                tracing::warn!("a second signal: ending at once");
                process.end_at_once().await;
                Ok(Exit::SecondSignal)
            }
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let handler = |kind| signal(kind).context("installing a signal handler");
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct ConfigDump {
    wire: bytes::Bytes,
    files: Option<FileResources>,
}

impl admin::ConfigDump for ConfigDump {
    fn config_dump(&self) -> Result<Vec<u8>, String> {
        shunt_xds::to_json(&self.wire, self.files.as_ref(), &Converter::Child)
            .map(String::into_bytes)
            .map_err(|error| error.to_string())
    }
}
