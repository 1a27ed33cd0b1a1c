//! What a new connection costs: opened, accepted, closed, one after the other, by one process.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use socket2::SockRef;

/// Longer than any connection on a busy machine; one that is not captured never arrives.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `connect`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the connections arrive
    #[arg(long)]
    listen: SocketAddr,
    /// Where they are opened to
    #[arg(long)]
    to: SocketAddr,
    /// How many are measured; a tenth as many go before
    #[arg(long, default_value_t = 5000)]
    count: u32,
}

/// What they cost.
#[derive(Serialize)]
struct Outcome {
    us_per_connection: f64,
}

/// Opens the connections and prints what one costs.
///
/// # Errors
/// When one cannot be opened or does not arrive.
pub fn run(args: &Args) -> Result<()> {
    let listener =
        TcpListener::bind(args.listen).with_context(|| format!("listening on {}", args.listen))?;
    let once = || -> Result<()> {
        let client = TcpStream::connect_timeout(&args.to, PATIENCE)
            .with_context(|| format!("connecting to {}", args.to))?;
        let (server, _) = listener.accept().context("accepting a connection")?;
        // Closed by a reset: no port stays occupied.
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .context("asking for a reset")?;
        drop(client);
        drop(server);
        Ok(())
    };
    for _ in 0..args.count / 10 {
        once()?;
    }
    let start = Instant::now();
    for _ in 0..args.count {
        once()?;
    }
    let outcome = Outcome {
        us_per_connection: start.elapsed().as_secs_f64() * 1e6 / f64::from(args.count),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
