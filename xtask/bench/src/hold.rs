//! Idle connections: each has served one request and waits for the next.

use std::io::Write as _;
use std::net::TcpStream;

use anyhow::{Context as _, Result};

use crate::exchange;
use crate::target::Target;

/// Arguments of `hold`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many connections
    #[arg(long)]
    connections: usize,
}

/// Opens the connections, says so, and keeps them until standard input ends.
///
/// # Errors
/// When a connection or its request fails.
pub fn run(args: &Args) -> Result<()> {
    args.target.take_identity()?;
    let mut held = Vec::with_capacity(args.connections);
    for number in 1..=args.connections {
        let stream = open(&args.target).with_context(|| format!("connection {number}"))?;
        held.push(stream);
    }
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn open(target: &Target) -> Result<TcpStream> {
    let mut stream = target.connect()?;
    stream
        .write_all(&exchange::request(&target.authority))
        .context("sending a request")?;
    let mut received = Vec::new();
    while !exchange::receive(&mut stream, &mut received)? {}
    Ok(stream)
}
