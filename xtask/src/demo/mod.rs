//! `cargo xtask demo`: the main job on real input, in namespaces.

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct DemoArgs {}

/// Runs the demonstration.
pub fn run(_args: DemoArgs) -> anyhow::Result<()> {
    anyhow::bail!("the demonstration is not there yet")
}
