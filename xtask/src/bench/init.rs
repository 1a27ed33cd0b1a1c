//! stub
/// a
#[derive(clap::Args)]
pub struct Args {}
pub(super) fn run(_: &Args) -> anyhow::Result<()> { Ok(()) }
