//! Who froze a tenant and why, as a file that outlives the process that wrote it.
//! It is written before the freeze and removed after the thaw, so a frozen tenant always has one.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FreezeError;
use crate::host::files;
use crate::host::process::ProcessId;
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest record that is read.
const LIMIT: u64 = 4096;

/// What a tenant can be frozen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A backup, for the moment of its clone.
    Backup,
    /// The backup before the system stops.
    Prestop,
    /// Sleep, until a request wakes it.
    Sleep,
    /// A person.
    Operator,
}

impl Owner {
    const ALL: [Self; 4] = [Self::Backup, Self::Prestop, Self::Sleep, Self::Operator];

    /// The owner's name in records and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Prestop => "prestop",
            Self::Sleep => "sleep",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|owner| owner.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                format!("{text:?} freezes nothing; one of {known} does")
            })
    }
}

/// One freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who froze the tenant.
    pub owner: Owner,
    /// Why, for people.
    pub reason: String,
    /// The process that did it.
    pub process: ProcessId,
    /// When.
    pub at: Timestamp,
    /// When the memory of one that sleeps was given back, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paged_out: Option<Timestamp>,
}

/// The tenant's record, if it is or may be frozen.
pub(super) fn read(layout: &Layout, tenant: &TenantId) -> Result<Option<Record>, FreezeError> {
    let path = layout.freeze_file(tenant);
    let bytes = match files::read(&path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(None),
        Err(source) => return Err(record_error(tenant, source)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| FreezeError::BrokenRecord {
            tenant: tenant.clone(),
            path,
            source,
        })
}

pub(super) fn write(
    layout: &Layout,
    tenant: &TenantId,
    record: &Record,
) -> Result<(), FreezeError> {
    let json = serde_json::to_vec(record).map_err(|source| FreezeError::BrokenRecord {
        tenant: tenant.clone(),
        path: layout.freeze_file(tenant),
        source,
    })?;
    files::write(&layout.freeze_file(tenant), &json, 0o600)
        .map_err(|source| record_error(tenant, source))
}

pub(super) fn remove(layout: &Layout, tenant: &TenantId) -> Result<(), FreezeError> {
    files::remove(&layout.freeze_file(tenant))
        .map(|_| ())
        .map_err(|source| record_error(tenant, source))
}

fn record_error(tenant: &TenantId, source: files::FileError) -> FreezeError {
    FreezeError::Record {
        tenant: tenant.clone(),
        source,
    }
}
