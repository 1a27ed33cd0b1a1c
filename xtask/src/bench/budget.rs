//! The budgets of the design, held against what was measured.

use anyhow::{Result, bail};

use super::figures::table;

/// One line of the design's budgets: a measured median that may be this much at most.
pub(super) struct Budget {
    pub(super) what: &'static str,
    pub(super) at_most: f64,
    pub(super) measured: f64,
}

impl Budget {
    fn is_met(&self) -> bool {
        self.measured <= self.at_most
    }
}

/// The budgets as a table.
pub(super) fn shown(budgets: &[Budget]) -> String {
    let rows: Vec<_> = budgets
        .iter()
        .map(|budget| {
            let verdict = if budget.is_met() { "met" } else { "MISSED" };
            vec![
                budget.what.to_owned(),
                format!("{:.2}", budget.at_most),
                format!("{:.2}", budget.measured),
                verdict.to_owned(),
            ]
        })
        .collect();
    table(&["budget", "at most", "measured", ""], &rows)
}

/// Fails when a budget is missed, so that a script need not read the table.
///
/// # Errors
/// Names every missed budget.
pub(super) fn check(budgets: &[Budget]) -> Result<()> {
    let missed: Vec<_> = budgets
        .iter()
        .filter(|budget| !budget.is_met())
        .map(|budget| budget.what)
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    bail!("over budget: {}", missed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_is_named_and_one_without_a_measurement_is_missed() {
        let budget = |what, measured| Budget {
            what,
            at_most: 0.5,
            measured,
        };
        assert!(check(&[budget("fast", 0.5)]).is_ok());
        let error = check(&[
            budget("fast", 0.4),
            budget("slow", 0.6),
            budget("lost", f64::NAN),
        ]);
        assert_eq!(error.unwrap_err().to_string(), "over budget: slow; lost");
    }
}
