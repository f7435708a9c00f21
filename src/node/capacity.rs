//! `[capacity]` in `node.toml`: how far the plans of all tenants together may exceed the host.
//! Pure: what the host has and what tenants were promised is handed in, and nothing is refused here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tenant::{Limits, Size};

/// Memory that is the host's own: the kernel, systemd, Podman and tenantd.
const MEMORY_RESERVE: u64 = 512 << 20;

/// Share of the file system that is no tenant's: images, caches, indexes; a twentieth.
const STORAGE_RESERVE: u64 = 20;

/// How far plans may exceed the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CapacitySettings {
    /// Memory of all plans together, as a multiple of the host's.
    pub memory_overcommit: Factor,
    /// Processors of all plans together, as a multiple of the host's.
    pub cpu_overcommit: Factor,
    /// Storage of all plans together, as a multiple of the file system's.
    pub storage_overcommit: Factor,
    /// What happens to a spec that exceeds one of them.
    pub on_overcommit: OnOvercommit,
}

impl Default for CapacitySettings {
    fn default() -> Self {
        Self {
            memory_overcommit: Factor(100),
            cpu_overcommit: Factor(400),
            storage_overcommit: Factor(150),
            on_overcommit: OnOvercommit::Warn,
        }
    }
}

impl CapacitySettings {
    /// The lines below `[capacity]`.
    pub(super) fn to_toml(self) -> String {
        format!(
            "memory-overcommit = {}\ncpu-overcommit = {}\nstorage-overcommit = {}\non-overcommit = \"{}\"\n",
            self.memory_overcommit,
            self.cpu_overcommit,
            self.storage_overcommit,
            self.on_overcommit.as_str()
        )
    }
}

/// What happens to a spec that would promise more than the host may.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnOvercommit {
    /// It is applied, and the operator is told.
    #[default]
    Warn,
    /// It is refused before anything is touched.
    Refuse,
}

impl OnOvercommit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }
}

/// A multiple, in hundredths: `1.5` in TOML is 150.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Factor(u32);

impl Factor {
    /// The multiple of `amount`, or the largest there is.
    fn of(self, amount: u64) -> u64 {
        let product = u128::from(amount) * u128::from(self.0) / 100;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Factor {
    /// Always with a point: TOML tells whole numbers from others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", f64::from(*self))
    }
}

impl From<Factor> for f64 {
    fn from(factor: Factor) -> Self {
        Self::from(factor.0) / 100.0
    }
}

impl TryFrom<f64> for Factor {
    type Error = FactorError;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked before"
    )]
    fn try_from(factor: f64) -> Result<Self, FactorError> {
        if (0.01..=1000.0).contains(&factor) {
            Ok(Self((factor * 100.0).round() as u32))
        } else {
            Err(FactorError(factor))
        }
    }
}

/// A number that is no multiple.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0} is no multiple of what the host has: write a number from 0.01 to 1000, such as 1.5")]
pub struct FactorError(f64);

impl schemars::JsonSchema for Factor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "number",
            "description": "A multiple of what the host has, such as 1.5.",
            "minimum": 0.01,
            "maximum": 1000,
        })
    }
}

/// Amounts of what plans promise and hosts have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Bytes.
    pub memory: u64,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes.
    pub storage: u64,
}

impl Amounts {
    /// What a plan promises.
    pub fn promised(limits: &Limits) -> Self {
        Self {
            memory: limits.memory.bytes(),
            cpu_millis: limits.cpus.millis().into(),
            storage: limits.storage.bytes(),
        }
    }

    /// The larger one of each.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            storage: self.storage.max(other.storage),
        }
    }

    /// Both together, or the largest amounts there are.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(other.memory),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            storage: self.storage.saturating_add(other.storage),
        }
    }
}

/// What is promised of one resource, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// `memory`, `cpu` or `storage`.
    pub resource: &'static str,
    /// All plans together.
    pub promised: u64,
    /// The most that may be promised.
    pub most: u64,
    /// What the host has.
    pub has: u64,
}

impl Commitment {
    /// Whether more is promised than may be.
    pub fn is_exceeded(&self) -> bool {
        self.promised > self.most
    }

    /// What is promised of what may be, in a few words.
    pub fn short(&self) -> String {
        format!(
            "{} {} of {}",
            self.resource,
            self.shown(self.promised),
            self.shown(self.most)
        )
    }

    /// An amount of this resource, for people.
    pub fn shown(&self, amount: u64) -> String {
        if self.resource == "cpu" {
            return format!("{}.{}", amount / 1000, amount % 1000 / 100);
        }
        // Whole MiB: enough to compare by, and short.
        let mib = u32::try_from(amount >> 20).unwrap_or(u32::MAX);
        Size::from_mib(mib).to_string()
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plans promise {} of {}, and at most {} may be promised of the {} that this host has",
            self.shown(self.promised),
            self.resource,
            self.shown(self.most),
            self.shown(self.has),
        )
    }
}

/// What is promised, and how much may be, on a host that has so much.
pub fn commitments(
    settings: &CapacitySettings,
    has: Amounts,
    promised: Amounts,
) -> [Commitment; 3] {
    let memory = has.memory.saturating_sub(MEMORY_RESERVE);
    let storage = has.storage - has.storage / STORAGE_RESERVE;
    [
        Commitment {
            resource: "memory",
            promised: promised.memory,
            most: settings.memory_overcommit.of(memory),
            has: has.memory,
        },
        Commitment {
            resource: "cpu",
            promised: promised.cpu_millis,
            most: settings.cpu_overcommit.of(has.cpu_millis),
            has: has.cpu_millis,
        },
        Commitment {
            resource: "storage",
            promised: promised.storage,
            most: settings.storage_overcommit.of(storage),
            has: has.storage,
        },
    ]
}

/// What would be exceeded by going from `before` to `after`. What shrinks or stays is not held against
/// anybody: on a host that promises too much already, a smaller plan must be possible.
pub fn exceeded(
    settings: &CapacitySettings,
    has: Amounts,
    before: Amounts,
    after: Amounts,
) -> Vec<Commitment> {
    let before = commitments(settings, has, before);
    let after = commitments(settings, has, after);
    let grown = after
        .into_iter()
        .zip(before)
        .filter(|(after, before)| after.is_exceeded() && after.promised > before.promised);
    grown.map(|(after, _)| after).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A small VPS.
    const HAS: Amounts = Amounts {
        memory: 8 * GIB,
        cpu_millis: 4000,
        storage: 100 * GIB,
    };

    fn amounts(memory: u64, cpu_millis: u64, storage: u64) -> Amounts {
        Amounts {
            memory: memory * GIB,
            cpu_millis,
            storage: storage * GIB,
        }
    }

    #[rstest]
    #[case::within(amounts(0, 0, 0), amounts(7, 16_000, 142), &[])]
    #[case::memory(amounts(6, 0, 0), amounts(8, 500, 10), &["memory"])]
    #[case::cpu(amounts(0, 0, 0), amounts(1, 16_001, 10), &["cpu"])]
    #[case::storage(amounts(0, 0, 0), amounts(1, 1, 143), &["storage"])]
    #[case::all(amounts(0, 0, 0), amounts(9, 17_000, 200), &["memory", "cpu", "storage"])]
    #[case::smaller_but_too_much(amounts(20, 1, 1), amounts(16, 1, 1), &[])]
    #[case::the_same_but_too_much(amounts(20, 1, 1), amounts(20, 2, 2), &[])]
    #[case::nothing_overflows(amounts(0, 0, 0), Amounts { memory: u64::MAX, ..HAS }, &["memory"])]
    fn what_grows_beyond_the_host_is_named(
        #[case] before: Amounts,
        #[case] after: Amounts,
        #[case] expected: &[&str],
    ) {
        let exceeded = exceeded(&CapacitySettings::default(), HAS, before, after);
        let names: Vec<_> = exceeded.iter().map(|found| found.resource).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_figures_are_told() {
        let exceeded = exceeded(
            &CapacitySettings::default(),
            HAS,
            amounts(0, 0, 0),
            amounts(9, 17_500, 10),
        );
        let told: Vec<_> = exceeded.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        plans promise 9GiB of memory, and at most 7680MiB may be promised of the 8GiB that this host has
        plans promise 17.5 of cpu, and at most 16.0 may be promised of the 4.0 that this host has
        ");
    }

    #[test]
    fn a_host_smaller_than_its_reserve_may_promise_nothing() {
        let tiny = Amounts { memory: 1, ..HAS };
        let found = commitments(&CapacitySettings::default(), tiny, amounts(1, 0, 0));
        assert_eq!((found[0].most, found[0].is_exceeded()), (0, true));
    }

    #[rstest]
    #[case("memory-overcommit = 0")]
    #[case("memory-overcommit = -1.0")]
    #[case("cpu-overcommit = nan")]
    #[case("on-overcommit = \"perhaps\"")]
    #[case("disk-overcommit = 1.0")]
    fn what_is_no_setting_is_refused(#[case] text: &str) {
        assert!(toml::from_str::<CapacitySettings>(text).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = CapacitySettings {
            memory_overcommit: Factor(125),
            on_overcommit: OnOvercommit::Refuse,
            ..CapacitySettings::default()
        };
        assert_eq!(toml::from_str(&settings.to_toml()), Ok(settings));
        let whole: CapacitySettings = toml::from_str("memory-overcommit = 2").unwrap();
        assert_eq!(whole.memory_overcommit, Factor(200));
    }
}
