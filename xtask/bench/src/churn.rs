//! New connections through a proxy: each is opened, carries one exchange, and is closed by the
//! server's side, one after the other in a few lanes.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::target::Target;
use crate::{cpu, exchange};

/// Arguments of `churn`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections at a time
    #[arg(long, default_value_t = 8)]
    lanes: u32,
    /// Milliseconds measured
    #[arg(long, default_value_t = 1500)]
    measure: u64,
    /// The process whose use of its core is measured
    #[arg(long)]
    of: u32,
}

/// What one run found.
#[derive(Serialize)]
struct Outcome {
    connections: usize,
    connections_per_cpu_second: f64,
    connections_per_second: f64,
}

/// Opens connections, measures, prints the outcome.
///
/// # Errors
/// On any answer but the expected one.
pub fn run(args: &Args) -> Result<()> {
    args.target.take_identity()?;
    let request = exchange::request(&args.target.authority);
    let cpu_before = cpu::time(args.of)?;
    let start = Instant::now();
    let end = start + Duration::from_millis(args.measure);
    let connections = thread::scope(|scope| {
        let lane = || {
            let mut count = 0;
            while Instant::now() < end {
                once(&args.target, &request)?;
                count += 1;
            }
            Ok(count)
        };
        let lanes: Vec<_> = (0..args.lanes).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked")))
            .sum::<Result<usize>>()
    })?;
    let took = start.elapsed();
    let cpu = cpu::time(args.of)?.saturating_sub(cpu_before);
    let outcome = Outcome {
        connections,
        connections_per_cpu_second: connections as f64 / cpu.as_secs_f64(),
        connections_per_second: connections as f64 / took.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn once(target: &Target, request: &[u8]) -> Result<()> {
    let mut stream = target.connect()?;
    stream.write_all(request).context("sending a request")?;
    let mut received = Vec::with_capacity(1024);
    while !exchange::receive(&mut stream, &mut received)? {}
    // No port stays occupied: the proxy sees a reset after the last byte, as from any client that
    // was killed.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .context("asking for a reset")
}
