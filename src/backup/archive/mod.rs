//! A tenant as one file, for whoever leaves or comes: a POSIX pax archive in zstd, laid out as below.
//! It reads and writes files and snapshots; what becomes of them is the caller's.
//!
//! | name | what |
//! |---|---|
//! | `tenantd-export.json` | [`About`]; comes first |
//! | `tenant.toml` | the spec as it was applied; secrets are in it by name only |
//! | `state`, `state/…` | the state directory, with one directory for each mount |

mod extensions;
mod extract;
mod index;
mod shelf;
mod write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryKind};
use super::path;

pub use extract::{ImportError, ImportRequest, Imported};
pub use index::{Archive, ArchiveError};
pub use write::{ExportError, Exported};

/// The name of the document that says what the archive is.
const ABOUT: &str = "tenantd-export.json";
/// The name of the spec.
const SPEC: &str = "tenant.toml";
/// The name of the state directory.
const STATE: &str = "state";
/// The version of the layout.
const VERSION: u32 = 1;
/// The key of an extended attribute in a pax header, as star, GNU tar and libarchive spell it.
const XATTR: &str = "SCHILY.xattr.";

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    format: Format,
    version: u32,
    /// The tenant's id.
    pub tenant: String,
    /// The node it comes from.
    pub host: String,
    /// The moment the data is of.
    pub taken_at: Timestamp,
    /// The snapshot's number.
    pub snapshot: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "tenantd-export")]
    Export,
}

impl Archive {
    /// Refuses what is directly in `state/` and no directory that `is_mount` knows by its name.
    ///
    /// # Errors
    /// [`ArchiveError::Refused`] names the first.
    pub fn check_mounts(&self, is_mount: impl Fn(&str) -> bool) -> Result<(), ArchiveError> {
        let is_top =
            |entry: &&Entry| entry.path != path::ROOT && path::parent(&entry.path) == path::ROOT;
        let is_wrong = |entry: &&Entry| {
            let is_known = str::from_utf8(&entry.path).is_ok_and(&is_mount);
            !(is_known && matches!(entry.kind, EntryKind::Directory(_)))
        };
        match self.entries.iter().filter(is_top).find(is_wrong) {
            None => Ok(()),
            Some(entry) => Err(ArchiveError::Refused {
                path: path::show(&entry.path),
                reason: "is directly in state/, where there are only directories with the names of mounts",
            }),
        }
    }
}

impl About {
    /// Describes an archive.
    pub fn new(tenant: &str, host: &str, taken_at: Timestamp, snapshot: u64) -> Self {
        Self {
            format: Format::Export,
            version: VERSION,
            tenant: tenant.to_owned(),
            host: host.to_owned(),
            taken_at,
            snapshot,
        }
    }
}
