//! `cargo xtask bench`: measures Shunt beside its peers, in one run, as ratios.

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct BenchArgs {}

/// Runs a bench.
pub fn run(_args: BenchArgs) -> anyhow::Result<()> {
    anyhow::bail!("the benches are not there yet")
}
