//! One measure of several programs: a row of ours for each of the others, with what was promised of it.

use super::engine::Usage;
use super::peers::Peer;
use super::tools::Tool;
use crate::bench::{self, Measured, Report, Row, Target};

/// The programs that were measured, ours first.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// Which.
    pub tools: &'a [Tool],
    /// Their versions and options.
    pub versions: &'a [String],
}

/// What was promised of a measure.
#[derive(Debug, Clone)]
pub struct Promise {
    measure: String,
    unit: &'static str,
    ours: Target,
    restic: Target,
    fastest: Target,
    limits: &'static str,
}

impl Promise {
    /// A measure of which nothing was promised yet.
    pub fn of(measure: String, unit: &'static str) -> Self {
        Self {
            measure,
            unit,
            ours: Target::None,
            restic: Target::None,
            fastest: Target::None,
            limits: "",
        }
    }

    /// Promised of ours alone.
    pub fn ours(self, ours: Target) -> Self {
        Self { ours, ..self }
    }

    /// Promised beside restic.
    pub fn restic(self, restic: Target) -> Self {
        Self { restic, ..self }
    }

    /// Promised beside whatever other program is best.
    pub fn fastest(self, fastest: Target) -> Self {
        Self { fastest, ..self }
    }

    /// What limits it, should it be missed.
    pub fn limits(self, limits: &'static str) -> Self {
        Self { limits, ..self }
    }

    /// Adds the rows; `runs` are in the order of the programs.
    pub fn report(
        &self,
        beside: &Beside<'_>,
        runs: &[Vec<f64>],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let measured: Vec<Measured> = runs
            .iter()
            .map(|runs| Measured::of(runs.iter().copied()))
            .collect::<anyhow::Result<_>>()?;
        let Some((ours, others)) = measured.split_first() else {
            return Ok(());
        };
        let row = |measure: String, target: Target, at: Option<usize>| Row {
            measure,
            ours: *ours,
            peer: at.map(|at| bench::Peer {
                measured: others[at],
                version: beside.versions[at + 1].clone(),
            }),
            unit: self.unit,
            target,
            limits: self.limits.to_owned(),
        };
        if self.ours != Target::None || others.is_empty() {
            report.add(row(self.measure.clone(), self.ours, None));
        }
        for (at, tool) in beside.tools[1..].iter().enumerate() {
            let target = match tool {
                Tool::Peer(Peer::Restic, _) => self.restic,
                _ => Target::None,
            };
            let measure = format!("{}, beside {}", self.measure, tool.name());
            report.add(row(measure, target, Some(at)));
        }
        let medians: Vec<f64> = others.iter().map(|measured| measured.median).collect();
        if let Some(best) = self.best(&medians) {
            let measure = format!("{}, beside the fastest", self.measure);
            report.add(row(measure, self.fastest, Some(best)));
        }
        Ok(())
    }

    /// Which of the others is best; none where nothing was promised beside it.
    fn best(&self, others: &[f64]) -> Option<usize> {
        let numbers = 0..others.len();
        match self.fastest {
            Target::None => None,
            Target::AtLeastTimesPeer(_) => numbers.max_by(|a, b| others[*a].total_cmp(&others[*b])),
            _ => numbers.min_by(|a, b| others[*a].total_cmp(&others[*b])),
        }
    }
}

/// One figure of each run.
pub fn figures(runs: &[Vec<Usage>], figure: impl Fn(&Usage) -> f64) -> Vec<Vec<f64>> {
    let figures = |runs: &Vec<Usage>| runs.iter().map(&figure).collect();
    runs.iter().map(figures).collect()
}

#[cfg(test)]
mod tests {
    use super::Promise;
    use crate::bench::Target;

    #[test]
    fn the_best_of_the_others_has_most_of_a_rate_and_least_of_a_time() {
        let rate = Promise::of(String::new(), "MiB/s").fastest(Target::AtLeastTimesPeer(1.2));
        let time = Promise::of(String::new(), "s").fastest(Target::TimesPeer(0.3));
        assert_eq!(rate.best(&[3.0, 9.0, 5.0]), Some(1));
        assert_eq!(time.best(&[3.0, 9.0, 5.0]), Some(0));
        assert_eq!(Promise::of(String::new(), "s").best(&[1.0]), None);
    }
}
