//! How often everything is measured: contestants take turns, so that a noisy minute touches all.

use anyhow::Result;

/// Arguments of every bench that takes seconds for a round.
#[derive(clap::Args)]
pub(super) struct Rounds {
    /// Interleaved rounds; the median is reported
    #[arg(long = "rounds", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    count: u32,
}

impl Rounds {
    /// Does `measure` in each round, and tells whoever waits.
    ///
    /// # Errors
    /// The first of `measure`.
    pub(super) fn each(&self, what: &str, mut measure: impl FnMut() -> Result<()>) -> Result<()> {
        for round in 1..=self.count {
            println!("{what}, round {round} of {}", self.count);
            measure()?;
        }
        Ok(())
    }
}
