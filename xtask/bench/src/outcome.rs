//! What a load of requests found.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::cpu;

/// One run, as the load prints it.
#[derive(Serialize)]
pub struct Outcome {
    requests: usize,
    /// Nanoseconds of CPU that the process used for a request.
    cpu_ns_per_request: f64,
    requests_per_second: f64,
    /// Share of one core that the process used: 1.0 is a full core.
    utilisation: f64,
    /// Microseconds until an answer's last byte: in a closed loop from the request's first byte,
    /// in an open one from the time at which the request was due.
    p50_us: u128,
    p99_us: u128,
    p999_us: u128,
}

/// Arguments of a load: what it is measured with.
#[derive(clap::Args)]
pub struct Timing {
    /// Milliseconds before the measured time
    #[arg(long, default_value_t = 500)]
    pub warm_up: u64,
    /// The process whose use of its core is measured
    #[arg(long)]
    of: u32,
}

/// The measured time of one run, from its start on.
pub struct Window {
    process: u32,
    cpu_before: Duration,
    start: Instant,
}

impl Window {
    /// Starts it, for the process that is measured.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn open(timing: &Timing) -> Result<Self> {
        let process = timing.of;
        Ok(Self {
            process,
            cpu_before: cpu::time(process)?,
            start: Instant::now(),
        })
    }

    /// Ends it with the time that each request took, and prints the outcome.
    ///
    /// # Errors
    /// When the process has ended, or hardly any request got through.
    pub fn close(self, mut latencies: Vec<Duration>) -> Result<()> {
        let took = self.start.elapsed();
        let cpu = cpu::time(self.process)?.saturating_sub(self.cpu_before);
        latencies.sort_unstable();
        let requests = latencies.len();
        if requests < 100 {
            bail!("only {requests} requests in {took:?}: the proxy is stuck");
        }
        let quantile = |permille: usize| {
            let at = latencies.get(requests * permille / 1000);
            at.map_or(0, Duration::as_micros)
        };
        let outcome = Outcome {
            requests,
            cpu_ns_per_request: cpu.as_secs_f64() * 1e9 / requests as f64,
            requests_per_second: requests as f64 / took.as_secs_f64(),
            utilisation: cpu.as_secs_f64() / took.as_secs_f64(),
            p50_us: quantile(500),
            p99_us: quantile(990),
            p999_us: quantile(999),
        };
        println!("{}", serde_json::to_string(&outcome)?);
        Ok(())
    }
}
