//! Medians, spreads and tables.

use serde::Serialize;

/// Several measurements of one thing.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle value (the mean of the two middle ones); NaN where there is none.
    pub(super) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => at(middle),
            _ => f64::midpoint(at(middle - 1), at(middle)),
        }
    }

    /// The least and the greatest value; NaN where there is none.
    pub(super) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let value = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (value(sorted.first()), value(sorted.last()))
    }

    /// `median (least to most)`, with this many decimals, in this unit: a value of 2000 in the
    /// unit 1000 is shown as 2.
    pub(super) fn shown(&self, unit: f64, decimals: usize) -> String {
        let median = self.median() / unit;
        let (least, most) = self.range();
        let (least, most) = (least / unit, most / unit);
        format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
    }

    /// This, less another one measured in the same rounds, round by round.
    pub(super) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// This, divided by another one measured in the same rounds, round by round.
    pub(super) fn ratio_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// A Markdown table; the first column is text, the others are numbers.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(head.get(column).map_or(0, |cell| cell.chars().count()))
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from("|");
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            text += &match column {
                0 => format!(" {cell:<width$} |"),
                _ => format!(" {cell:>width$} |"),
            };
        }
        text + "\n"
    };
    let rule: Vec<_> = (0..)
        .zip(&widths)
        .map(|(column, width)| match column {
            0 => "-".repeat(*width),
            _ => "-".repeat(width - 1) + ":",
        })
        .collect();
    let mut text = line(&mut head.iter().copied());
    text += &line(&mut rule.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_order_and_ignores_one_outlier() {
        assert_eq!(Samples(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples(vec![4.0, 1.0, 2.0, 90.0]).median(), 3.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The second round was twice as slow for both.
        let ours = Samples(vec![10.0, 20.0]);
        let theirs = Samples(vec![20.0, 40.0]);
        assert_eq!(ours.ratio_to(&theirs).0, [0.5, 0.5]);
    }

    #[test]
    fn a_table_is_aligned_markdown() {
        let rows = [vec!["bare".to_owned(), "1.5".to_owned()]];
        let wanted = "| row  | us/req |\n| ---- | -----: |\n| bare |    1.5 |\n";
        assert_eq!(table(&["row", "us/req"], &rows), wanted);
    }
}
