//! A share of processors.
//! It converts numbers; it knows no limit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Processors in thousandths: `0.5` in TOML is 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cpus(u32);

impl Cpus {
    /// `millis` thousandths of a processor.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// Thousandths of a processor.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(*self))
    }
}

impl From<Cpus> for f64 {
    fn from(cpus: Cpus) -> Self {
        Self::from(cpus.0) / 1000.0
    }
}

impl TryFrom<f64> for Cpus {
    type Error = CpusError;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked before"
    )]
    fn try_from(cpus: f64) -> Result<Self, CpusError> {
        if (0.01..=1024.0).contains(&cpus) {
            Ok(Self((cpus * 1000.0).round() as u32))
        } else {
            Err(CpusError(cpus))
        }
    }
}

/// A number that is no share of processors.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0} processors cannot be given: write a number from 0.01 to 1024, such as 0.5")]
pub struct CpusError(f64);

impl schemars::JsonSchema for Cpus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpus".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "number",
            "description": "Processors, such as 0.5 or 2.",
            "minimum": 0.01,
            "maximum": 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn survives_json(millis in 10u32..=1_024_000) {
            let cpus = Cpus(millis);
            let json = serde_json::to_string(&cpus).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cpus>(&json).unwrap(), cpus);
        }
    }

    #[test]
    fn refuses_what_is_no_share() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY, 2000.0] {
            assert!(Cpus::try_from(cpus).is_err(), "{cpus}");
        }
    }
}
