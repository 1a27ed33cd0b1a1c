//! The rows of the ladder: what each layer of the data path adds to a bare forward.

mod configuration;
mod hyper_forward;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use shunt_proxy::server::{Bound, Config};

/// Arguments of a row.
#[derive(clap::Args)]
pub struct Args {
    /// Which row
    row: Row,
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Where to forward to
    #[arg(required = true)]
    upstreams: Vec<SocketAddr>,
}

/// A row of the ladder.
#[derive(Clone, Copy, ValueEnum)]
enum Row {
    /// hyper's server and client connections with a pool between, nothing else
    Hyper,
    /// The whole data path, configured by hand
    Library,
}

/// Serves until killed.
///
/// # Errors
/// When the row cannot listen.
pub fn run(args: &Args) -> Result<()> {
    match args.row {
        Row::Hyper => {
            let upstream = args.upstreams.first().context("no upstream given")?;
            hyper_forward::run(args.listen, *upstream)
        }
        Row::Library => library(args.listen, &args.upstreams),
    }
}

fn library(listen: SocketAddr, upstreams: &[SocketAddr]) -> Result<()> {
    let config = Config {
        bootstrap: configuration::bootstrap(listen, upstreams)?,
        workers: 1,
    };
    let _running = Bound::bind(&config)?.run()?;
    loop {
        std::thread::park();
    }
}
