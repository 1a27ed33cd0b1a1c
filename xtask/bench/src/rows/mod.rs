//! The rows of the ladder: what each layer of the data path adds to a bare forward.

mod hyper_forward;

use std::net::SocketAddr;

use anyhow::Result;
use clap::ValueEnum;

/// Arguments of a row.
#[derive(clap::Args)]
pub struct Args {
    /// Which row
    row: Row,
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Where to forward to
    #[arg(long)]
    upstream: SocketAddr,
}

/// A row of the ladder.
#[derive(Clone, Copy, ValueEnum)]
enum Row {
    /// hyper's server and client connections with a pool between, nothing else
    Hyper,
}

/// Serves until killed.
///
/// # Errors
/// When the row cannot listen.
pub fn run(args: &Args) -> Result<()> {
    match args.row {
        Row::Hyper => hyper_forward::run(args.listen, args.upstream),
    }
}
