//! `shunt-agent sidecar`: read the configuration, bind, run, drain.

use crate::exit::Exit;
use crate::logging;
use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use shunt_abi::port;
use shunt_proxy::admin::readiness::Readiness;
use shunt_proxy::admin::{Admin, LoopbackListener};
use shunt_proxy::concurrency;
use shunt_proxy::server::{Bound, Config, Running, StartError};
use shunt_xds::{Converter, LoadError, LoadErrorKind, Loaded, load_bootstrap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Arguments of `shunt-agent sidecar`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Envoy v3 bootstrap, YAML or JSON
    #[arg(
        short = 'c',
        long = "config",
        visible_alias = "config-path",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Worker threads [default: ISTIO_CPU_LIMIT, else the CPU quota, else all CPUs]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Format of the sidecar's own log on standard error
    #[arg(long, value_enum, default_value = "text")]
    log_format: logging::Format,
    /// Level of the sidecar's own log: error, warn, info, debug, trace
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing_subscriber::filter::LevelFilter,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    logging::start(
        args.log_format,
        EnvFilter::default().add_directive(args.log_level.into()),
    );
    match serve(args) {
        Ok(code) => code.into(),
        Err(failed) => {
            tracing::error!("{:#}", failed.error);
            failed.code.into()
        }
    }
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
    let Loaded { model, wire } =
        load_bootstrap(&args.config, &Converter::Child).map_err(|error| Failed {
            code: config_code(&error),
            error: error.into(),
        })?;
    let admin = model
        .admin
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port::ADMIN)));
    let workers = concurrency::workers(
        args.concurrency,
        std::env::var(concurrency::CPU_LIMIT_VARIABLE)
            .ok()
            .as_deref(),
    );
    let serves_readiness = model
        .listeners
        .iter()
        .any(|l| l.address.port() == port::READINESS);

    // Everything that listens is bound before anything runs.
    let admin = LoopbackListener::bind(admin)
        .map_err(anyhow::Error::from)
        .map_err(Failed::with(Exit::Bind))?;
    let readiness_sockets = if serves_readiness {
        Vec::new()
    } else {
        bind_readiness()?
    };
    let bound = Bound::bind(&Config {
        bootstrap: model,
        workers,
    })
    .map_err(|error| {
        let code = match error {
            StartError::Config(_) => Exit::ConfigInvalid,
            StartError::Bind(_) => Exit::Bind,
            StartError::Worker { .. } => Exit::Failed,
        };
        Failed {
            code,
            error: error.into(),
        }
    })?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making the runtime of the admin interface")
        .map_err(Failed::with(Exit::Failed))?;
    runtime
        .block_on(main_loop(bound, admin, readiness_sockets, wire, workers))
        .map_err(Failed::with(Exit::Failed))
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

async fn main_loop(
    bound: Bound,
    admin: LoopbackListener,
    readiness_sockets: Vec<TcpListener>,
    wire: bytes::Bytes,
    workers: usize,
) -> Result<Exit> {
    let mut signals = Signals::new()?;
    let readiness = Arc::new(Readiness::new());
    let admin_address = admin.local_addr();
    let registry = bound.process().registry.clone();
    let served = Admin {
        readiness: Arc::clone(&readiness),
        registry,
        config_dump: Arc::new(ConfigDump { wire }),
    };
    for socket in readiness_sockets {
        tokio::spawn(shunt_proxy::admin::serve_readiness(
            socket,
            Arc::clone(&readiness),
        ));
    }
    tokio::spawn(shunt_proxy::admin::serve(admin, served));

    let running: Running = bound.run().map_err(|error| anyhow!(error))?;
    readiness.live();
    tracing::info!(workers, admin = %admin_address, "ready");

    signals.next().await;
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
            Ok(Exit::SecondSignal)
        }
    }
}

/// SIGTERM and SIGINT. Handlers are installed also because a process with PID 1 has no default
/// action for them (pid_namespaces(7)).
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
}

impl shunt_proxy::admin::ConfigDump for ConfigDump {
    fn config_dump(&self) -> Result<Vec<u8>, String> {
        shunt_xds::to_json(&self.wire, &Converter::Child)
            .map(String::into_bytes)
            .map_err(|error| error.to_string())
    }
}
