//! The steps of a run: each is announced, timed, and stands in the table at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

struct Step {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
}

/// What was done so far.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Does one step. A failure is shown at once and remembered; the run goes on, so that one run
    /// tells all that is wrong. Says whether the step succeeded.
    pub fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            println!("FAILED: {failure}");
        }
        let succeeded = failure.is_none();
        self.steps.push(Step {
            name,
            took: start.elapsed(),
            failure,
        });
        succeeded
    }

    /// Prints the table of all steps.
    ///
    /// # Errors
    /// When a step failed.
    pub fn finish(self) -> Result<()> {
        println!("\n== summary");
        for step in &self.steps {
            let result = if step.failure.is_none() {
                "ok"
            } else {
                "FAILED"
            };
            println!(
                "{:>8.1} s  {:<6}  {}",
                step.took.as_secs_f64(),
                result,
                step.name
            );
        }
        let failed: Vec<_> = self
            .steps
            .iter()
            .filter(|step| step.failure.is_some())
            .collect();
        for step in &failed {
            // Only the first line here: the whole text stands where the step ran.
            let first = step.failure.as_deref().and_then(|text| text.lines().next());
            println!("\n{}: {}", step.name, first.unwrap_or_default());
        }
        if !failed.is_empty() {
            bail!("{} of {} steps failed", failed.len(), self.steps.len());
        }
        Ok(())
    }
}
