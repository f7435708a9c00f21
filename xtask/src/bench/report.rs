//! Rows of a benchmark, their verdicts, and how both are printed and written.

use std::{fmt, fs, path::PathBuf};

use anyhow::Context as _;
use serde::{Serialize, Serializer};

use super::measured::{Measured, figure};
use crate::paths;

/// What was promised of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Nothing: the row only reports.
    None,
    /// At most this, in the row's unit.
    AtMost(f64),
    /// At most the peer's figure and this, in the row's unit.
    AbovePeer(f64),
    /// At most this many times the peer's figure.
    TimesPeer(f64),
    /// At least this many times the peer's figure.
    AtLeastTimesPeer(f64),
}

impl Target {
    /// Whether it is met; none where nothing was promised, or there is nothing to compare with.
    fn is_met(self, ours: f64, peer: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(ours <= most),
            Self::AbovePeer(more) => peer.map(|peer| ours <= peer + more),
            Self::TimesPeer(times) => peer.map(|peer| ours <= peer * times),
            Self::AtLeastTimesPeer(times) => peer.map(|peer| ours >= peer * times),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("–"),
            Self::AtMost(most) => write!(f, "≤ {}", figure(*most)),
            Self::AbovePeer(more) => write!(f, "≤ peer + {}", figure(*more)),
            Self::TimesPeer(times) => write!(f, "≤ {} × peer", figure(*times)),
            Self::AtLeastTimesPeer(times) => write!(f, "≥ {} × peer", figure(*times)),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            target => serializer.collect_str(target),
        }
    }
}

/// What a row is compared with; it was run in the same run.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Its figure.
    pub measured: Measured,
    /// What it is, with its version.
    pub version: String,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was measured.
    pub measure: String,
    /// Our figure.
    pub ours: Measured,
    /// What it is compared with.
    pub peer: Option<Peer>,
    /// The unit of all figures.
    pub unit: &'static str,
    /// What was promised.
    pub target: Target,
    /// The profile or measurement that shows what limits it, should the target be missed.
    pub limits: String,
}

impl Row {
    fn met(&self) -> Option<bool> {
        let peer = self.peer.as_ref().map(|peer| peer.measured.median);
        self.target.is_met(self.ours.median, peer)
    }

    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.measured.median;
        (peer > 0.0).then(|| self.ours.median / peer)
    }
}

/// What one benchmark found.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    rows: Vec<Row>,
}

impl Report {
    /// An empty report of the benchmark `name`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Writes `target/bench/NAME.json` and says where that is.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let directory = paths::target().join("bench");
        fs::create_dir_all(&directory)
            .with_context(|| format!("could not create {}", directory.display()))?;
        let path = directory.join(self.name).with_extension("json");
        let text = serde_json::to_string_pretty(&self.document())?;
        fs::write(&path, text + "\n")
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }

    fn document(&self) -> Document<'_> {
        Document {
            rows: self.rows.iter().map(Written::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    rows: Vec<Written<'a>>,
}

/// A row as it is written.
#[derive(Serialize)]
struct Written<'a> {
    measure: &'a str,
    ours: f64,
    peer: Option<f64>,
    peer_version: Option<&'a str>,
    unit: &'a str,
    ratio: Option<f64>,
    target: Target,
    met: Option<bool>,
    spread: (f64, f64),
    runs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    limited_by: Option<&'a str>,
}

impl<'a> Written<'a> {
    fn of(row: &'a Row) -> Self {
        let met = row.met();
        Self {
            measure: &row.measure,
            ours: row.ours.median,
            peer: row.peer.as_ref().map(|peer| peer.measured.median),
            peer_version: row.peer.as_ref().map(|peer| peer.version.as_str()),
            unit: row.unit,
            ratio: row.ratio(),
            target: row.target,
            met,
            spread: row.ours.spread,
            runs: row.ours.runs,
            limited_by: (met == Some(false)).then_some(row.limits.as_str()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines =
            vec![["MEASURE", "OURS", "PEER", "UNIT", "RATIO", "TARGET", "MET"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let width = |column: usize| {
            let widths = lines.iter().map(|line| line[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        for line in &lines {
            let padded: Vec<String> = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
        }
        for row in self.rows.iter().filter(|row| row.met() == Some(false)) {
            writeln!(f, "missed: {}; limited by {}", row.measure, row.limits)?;
        }
        for row in &self.rows {
            if let Some(peer) = &row.peer {
                writeln!(f, "peer of {}: {}", row.measure, peer.version)?;
            }
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let none = || "–".to_owned();
    [
        row.measure.clone(),
        row.ours.to_string(),
        row.peer
            .as_ref()
            .map_or_else(none, |peer| peer.measured.to_string()),
        row.unit.to_owned(),
        row.ratio().map_or_else(none, figure),
        row.target.to_string(),
        match row.met() {
            None => none(),
            Some(true) => "yes".to_owned(),
            Some(false) => "NO".to_owned(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::{Peer, Report, Row, Target};
    use crate::bench::Measured;

    fn report() -> Report {
        let mut report = Report::new("sample");
        report.add(Row {
            measure: "apply one".to_owned(),
            ours: Measured::from(0.5),
            peer: Some(Peer {
                measured: Measured::from(0.25),
                version: "podman 5.4.2".to_owned(),
            }),
            unit: "s",
            target: Target::AbovePeer(0.7),
            limits: "the processor".to_owned(),
        });
        report.add(Row {
            measure: "memory".to_owned(),
            ours: Measured::from(31.5),
            peer: None,
            unit: "MB",
            target: Target::AtMost(30.0),
            limits: "the heap".to_owned(),
        });
        report
    }

    #[test]
    fn the_table_names_what_limits_a_missed_target() {
        assert_eq!(
            report().to_string(),
            "MEASURE    OURS   PEER   UNIT  RATIO  TARGET          MET\n\
             apply one  0.500  0.250  s     2      ≤ peer + 0.700  yes\n\
             memory     31.5   –      MB    –      ≤ 30            NO\n\
             missed: memory; limited by the heap\n\
             peer of apply one: podman 5.4.2\n"
        );
    }

    #[test]
    fn the_document_has_what_limits_it_only_where_a_target_is_missed() -> anyhow::Result<()> {
        let document = serde_json::to_value(report().document())?;
        let row = |index: usize| &document["rows"][index];
        assert_eq!(row(0)["ratio"], 2.0);
        assert_eq!(row(0)["met"], true);
        assert_eq!(row(0).get("limited_by"), None);
        assert_eq!(row(1)["peer"], serde_json::Value::Null);
        assert_eq!(row(1)["met"], false);
        assert_eq!(row(1)["limited_by"], "the heap");
        Ok(())
    }

    #[test]
    fn a_target_is_judged_against_the_peer_of_the_same_run() {
        assert_eq!(Target::AbovePeer(0.7).is_met(0.85, Some(0.2)), Some(true));
        assert_eq!(Target::TimesPeer(3.0).is_met(3.1, Some(1.0)), Some(false));
        assert_eq!(
            Target::AtLeastTimesPeer(2.0).is_met(2.0, Some(1.0)),
            Some(true)
        );
        assert_eq!(Target::TimesPeer(3.0).is_met(3.1, None), None);
        assert_eq!(Target::None.is_met(1.0, None), None);
    }
}
