//! Several runs of one measurement, as one figure with its spread.

use std::fmt;

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// The median of some runs, and the best and worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The median.
    pub median: f64,
    /// The least and the greatest.
    pub spread: (f64, f64),
    /// How many runs there were.
    pub runs: usize,
}

impl Measured {
    /// The figure of these runs; an error when there are none.
    pub fn of(runs: impl IntoIterator<Item = f64>) -> anyhow::Result<Self> {
        let mut runs: Vec<f64> = runs.into_iter().collect();
        ensure!(!runs.is_empty(), "nothing was measured");
        runs.sort_by(f64::total_cmp);
        let middle = runs.len() / 2;
        let median = if runs.len() % 2 == 1 {
            runs[middle]
        } else {
            f64::midpoint(runs[middle - 1], runs[middle])
        };
        Ok(Self {
            median,
            spread: (runs[0], runs[runs.len() - 1]),
            runs: runs.len(),
        })
    }

    /// So many of the same.
    #[must_use]
    pub fn times(self, count: f64) -> Self {
        Self {
            median: self.median * count,
            spread: (self.spread.0 * count, self.spread.1 * count),
            ..self
        }
    }
}

/// One percentile of many exchanges, as one figure: their spread is what the other percentile shows.
pub fn percentile(values: &mut [f64], rank: f64) -> anyhow::Result<Measured> {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a few thousand values"
    )]
    let index = (values.len() as f64 * rank) as usize;
    let value = values.get(index).context("nothing was measured")?;
    Ok((*value).into())
}

impl From<f64> for Measured {
    /// One run.
    fn from(value: f64) -> Self {
        Self {
            median: value,
            spread: (value, value),
            runs: 1,
        }
    }
}

impl fmt::Display for Measured {
    /// `0.612 (0.590–0.701, 7 runs)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            spread: (least, greatest),
            runs,
        } = self;
        write!(f, "{}", figure(*median))?;
        if *runs > 1 {
            write!(
                f,
                " ({}–{}, {runs} runs)",
                figure(*least),
                figure(*greatest)
            )?;
        }
        Ok(())
    }
}

/// Three digits that matter.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        at if at >= 100.0 || at.fract() == 0.0 => 0,
        at if at >= 10.0 => 1,
        at if at >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::Measured;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_runs() {
        let median = |runs: &[f64]| Measured::of(runs.iter().copied()).map(|m| m.median).ok();
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_figure_is_printed_with_its_spread() {
        let measured = Measured::of([0.7, 0.59, 0.6123])
            .map(|m| m.to_string())
            .ok();
        assert_eq!(measured.as_deref(), Some("0.612 (0.590–0.700, 3 runs)"));
        assert_eq!(Measured::from(28.31).to_string(), "28.3");
    }
}
