//! The rows of the ladder: what each layer of the data path adds to a bare forward.

mod configuration;
mod hyper_forward;
mod layered;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::layered::Layer;

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

/// A row of the ladder; each does what the one before does, and one thing more.
#[derive(Clone, Copy, ValueEnum)]
enum Row {
    /// hyper's server and client connections with a pool between, nothing else
    Hyper,
    /// Inspector and filter chain match
    Chain,
    /// Head edited, route table
    Route,
    /// Cluster, load balancing, circuit breakers, pools by endpoint
    Balance,
    /// Statistics
    Statistics,
}

/// Serves until killed.
///
/// # Errors
/// When the row cannot listen.
pub fn run(args: &Args) -> Result<()> {
    let layer = match args.row {
        Row::Hyper => {
            let upstream = args.upstreams.first().context("no upstream given")?;
            return hyper_forward::run(args.listen, *upstream);
        }
        Row::Chain => Layer::Chain,
        Row::Route => Layer::Route,
        Row::Balance => Layer::Balance,
        Row::Statistics => Layer::Statistics,
    };
    layered::run(layer, args.listen, &args.upstreams)
}
