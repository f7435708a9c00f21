//! What rendering must know about the host and about the ids it gave to a tenant.
//! Values only; finding them out is the host adapters' business.

use std::collections::BTreeSet;
use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// A cgroup controller that limits are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Controller {
    /// Share of processors.
    Cpu,
    /// Share of disks.
    Io,
    /// Memory.
    Memory,
    /// Number of processes and threads.
    Pids,
}

impl Controller {
    /// Every controller that a tenant's limits need.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Io, Self::Memory, Self::Pids];

    /// The kernel's word in `cgroup.controllers`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// The controllers named in the text of `/sys/fs/cgroup/cgroup.controllers`; others are left out.
    pub fn parse_list(text: &str) -> BTreeSet<Self> {
        let named = |controller: &Self| text.split_whitespace().any(|w| w == controller.as_str());
        Self::ALL.into_iter().filter(named).collect()
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The facts of the host that change what is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostFacts {
    /// Controllers that the host gives to `system.slice` and its like.
    pub controllers: BTreeSet<Controller>,
    /// `node.toml` says to go without the limits of missing controllers.
    pub allow_missing_controllers: bool,
    /// The file system of the tenants' state keeps limits on directories.
    #[serde(default)]
    pub project_quotas: bool,
    /// `SELinux` is on, permissive or enforcing.
    pub selinux: bool,
    /// This program, as units call it.
    pub tenantd: Utf8PathBuf,
}

impl HostFacts {
    /// Where `packaging/install.sh` puts the program.
    pub const TENANTD: &'static str = "/usr/local/bin/tenantd";

    /// A host with all controllers, project quotas and no `SELinux`.
    pub fn complete() -> Self {
        Self {
            controllers: Controller::ALL.into(),
            allow_missing_controllers: false,
            project_quotas: true,
            selinux: false,
            tenantd: Self::TENANTD.into(),
        }
    }

    /// The controllers that the host lacks.
    pub fn missing_controllers(&self) -> Vec<Controller> {
        let missing = |controller: &Controller| !self.controllers.contains(controller);
        Controller::ALL.into_iter().filter(missing).collect()
    }
}

/// A tenant's own 65 536 user and group ids on the host.
///
/// Ranges are handed out from [`IdRange::FIRST`] up, recorded, and never given to another tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct IdRange {
    start: u32,
}

impl IdRange {
    /// First id of the first range, above those that systemd gives to containers
    /// (`systemd.io/UIDS-GIDS`: 0x00080000 to 0x6FFFFFFF).
    pub const FIRST: u32 = 0x7000_0000;

    /// Ids in a range.
    pub const LEN: u32 = 0x1_0000;

    /// Number of ranges; the next would be systemd's foreign ids, at 0x7FFE0000.
    pub const COUNT: u32 = (0x7FFE_0000 - Self::FIRST) / Self::LEN;

    /// The range with this index, counted from 0.
    ///
    /// # Errors
    /// All ranges are given out.
    pub fn nth(index: u32) -> Result<Self, IdRangeError> {
        if index < Self::COUNT {
            Ok(Self {
                start: Self::FIRST + index * Self::LEN,
            })
        } else {
            Err(IdRangeError::Exhausted)
        }
    }

    /// Its index, counted from 0.
    pub const fn index(self) -> u32 {
        (self.start - Self::FIRST) / Self::LEN
    }

    /// The host's id of the container's id 0.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// Whether the host's id `id` is one of the tenant's.
    pub const fn contains(self, id: u32) -> bool {
        id >= self.start && id - self.start < Self::LEN
    }

    /// The `SELinux` level that belongs to the range: two of the 1024 categories, in order.
    pub fn selinux_level(self) -> String {
        let (mut first, mut rest) = (0, self.index());
        // There are 1023 - n pairs that begin with category n.
        while rest >= 1023 - first {
            rest -= 1023 - first;
            first += 1;
        }
        format!("s0:c{first},c{}", first + 1 + rest)
    }
}

impl TryFrom<u32> for IdRange {
    type Error = IdRangeError;

    fn try_from(start: u32) -> Result<Self, IdRangeError> {
        let offset = start
            .checked_sub(Self::FIRST)
            .ok_or(IdRangeError::NoStart(start))?;
        if offset % Self::LEN != 0 {
            return Err(IdRangeError::NoStart(start));
        }
        Self::nth(offset / Self::LEN).map_err(|_| IdRangeError::NoStart(start))
    }
}

impl From<IdRange> for u32 {
    fn from(range: IdRange) -> Self {
        range.start
    }
}

/// Why there is no such range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdRangeError {
    /// Every range has been given out.
    #[error(
        "all {} ranges of user ids are given out; ids are never reused",
        IdRange::COUNT
    )]
    Exhausted,
    /// The number does not begin a range.
    #[error("{0} does not begin a range of user ids")]
    NoStart(u32),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_range_has_its_own_ids_and_level() {
        let mut levels = HashSet::new();
        for index in 0..IdRange::COUNT {
            let range = IdRange::nth(index).unwrap();
            assert_eq!(IdRange::try_from(range.start()), Ok(range));
            assert!(levels.insert(range.selinux_level()));
        }
        assert_eq!(IdRange::nth(IdRange::COUNT), Err(IdRangeError::Exhausted));
        assert_eq!(IdRange::nth(0).unwrap().selinux_level(), "s0:c0,c1");
        assert_eq!(IdRange::nth(1023).unwrap().selinux_level(), "s0:c1,c2");
    }

    #[test]
    fn other_numbers_begin_no_range() {
        for start in [0, IdRange::FIRST + 1, 0x7FFE_0000, u32::MAX] {
            assert!(IdRange::try_from(start).is_err(), "{start:#x}");
        }
    }

    #[test]
    fn controllers_are_read_as_the_kernel_lists_them() {
        let found = Controller::parse_list("cpuset cpu io hugetlb pids\n");
        assert_eq!(
            found,
            [Controller::Cpu, Controller::Io, Controller::Pids].into()
        );
    }
}
