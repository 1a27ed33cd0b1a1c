//! Idle connections: each has served one request and waits for the next.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail};

use crate::{exchange, identity};

/// Arguments of `hold`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to connect
    #[arg(long)]
    to: SocketAddr,
    /// The host header
    #[arg(long)]
    authority: String,
    /// How many connections
    #[arg(long)]
    connections: usize,
    /// Connect as this uid and gid, as an application would
    #[arg(long)]
    uid: Option<u32>,
}

/// Opens the connections, says so, and keeps them until standard input ends.
///
/// # Errors
/// When a connection or its request fails.
pub fn run(args: &Args) -> Result<()> {
    identity::take(args.uid)?;
    let request = exchange::request(&args.authority);
    let mut held = Vec::with_capacity(args.connections);
    for number in 1..=args.connections {
        let stream = open(args.to, &request).with_context(|| format!("connection {number}"))?;
        held.push(stream);
    }
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn open(to: SocketAddr, request: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    stream.write_all(request).context("sending a request")?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !exchange::is_complete(&received)? {
        match stream.read(&mut buffer).context("receiving an answer")? {
            0 => bail!("the proxy closed the connection"),
            count => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(stream)
}
